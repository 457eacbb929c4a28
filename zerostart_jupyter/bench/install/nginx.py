"""An index on loopback that speaks TLS and HTTP/2: nginx, `python -m … --rate N FOLDER`.

A server in Python would slow down whoever uses one connection for everything. nginx takes over a
listening socket that was made here (its NGINX variable), and so the pace of each connection.
Prints its address and its certificate authority as JSON; ends when its standard input does.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from zerostart_jupyter.bench.install.offer import Offer
from zerostart_jupyter.bench.install.pacing import listening
from zerostart_jupyter.core.capability import Capability

_CONF = """
{user}
daemon off;
worker_processes {workers};
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 1024; }}
http {{
    log_format seen '$connection $http2 $status $bytes_sent $request_uri';
    access_log access.log seen buffer=64k flush=1s;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    sendfile on; tcp_nopush on; tcp_nodelay on;
    keepalive_requests 1000000; keepalive_timeout 300s;
    http2_chunk_size 16k;
    output_buffers 2 512k;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate certificate.pem;
        ssl_certificate_key key.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        root {folder}/root;
        default_type application/octet-stream;
        location /simple/ {{ default_type text/html; index index.html; }}
    }}
}}
"""
_EXTENSIONS = """
subjectAltName = IP:127.0.0.1
basicConstraints = CA:FALSE
authorityKeyIdentifier = keyid
"""
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def capability() -> Capability:
    """Whether an index with TLS and HTTP/2 can be had here."""
    for program in ("nginx", "openssl"):
        if found(program) is None:
            return Capability(
                "TLS and HTTP/2",
                False,
                f"There is no {program} here.",
                "Run `apt install nginx-light openssl`.",
            )
    return Capability("TLS and HTTP/2", True, "nginx is here.")


def version() -> str:
    """What nginx says of itself, "absent" where there is none."""
    program = found("nginx")
    if program is None:
        return "absent"
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True)
    return said.stderr.strip().rpartition("/")[2]


def found(program: str) -> str | None:
    """Where a program is; that of a daemon may be off a person's PATH."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which(program, path=path)


def authority(folder: Path) -> None:
    """`ca.pem`, and a certificate by it for loopback: `certificate.pem`, `key.pem`."""
    openssl = found("openssl")
    assert openssl is not None
    (folder / "extensions").write_text(_EXTENSIONS)
    days = ("-days", "30")

    def make(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    make("req", "-x509", *_KEY, *days, "-subj", "/CN=zerostart bench", "-keyout", "ca.key",
         "-out", "ca.pem", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    make("req", "-new", *_KEY, "-subj", "/CN=127.0.0.1", "-keyout", "key.pem", "-out", "asked")
    make("x509", "-req", "-in", "asked", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
         *days, "-extfile", "extensions", "-out", "certificate.pem")  # fmt: skip


def lay_out(offer: Offer, root: Path) -> None:
    """The offer as files: nginx has no other way to know it."""
    for project, page in offer.pages.items():
        (root / "simple" / project).mkdir(parents=True)
        (root / "simple" / project / "index.html").write_bytes(page)
    (root / "files").mkdir()
    for name, path in offer.files.items():
        (root / "files" / name).symlink_to(path.resolve())
        (root / "files" / f"{name}.metadata").write_bytes(offer.metadata[name])


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rate", type=int, default=0, help="bytes a second on each connection")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zerostart-bench-nginx-") as name:
        folder = Path(name)
        authority(folder)
        lay_out(Offer(asked.folder), folder / "root")
        with listening(asked.rate) as socket:
            socket.setblocking(False)  # nginx takes that for granted of a socket it inherits
            port = socket.getsockname()[1]
            process = _start(folder, socket.fileno(), port)
            try:
                told = {"port": port, "certificate": str(folder / "ca.pem")}
                print(json.dumps(told | {"log": str(folder / "access.log")}), flush=True)
                sys.stdin.read()
            finally:
                process.terminate()
                process.wait()


def _start(folder: Path, descriptor: int, port: int) -> subprocess.Popen[bytes]:
    # As root, workers would become somebody who may not read the wheels.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    workers = min(4, os.cpu_count() or 1)
    text = _CONF.format(user=user, workers=workers, port=port, folder=folder)
    (folder / "nginx.conf").write_text(text)
    program = found("nginx")
    assert program is not None
    return subprocess.Popen(
        [program, "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"],
        env={**os.environ, "NGINX": f"{descriptor};"},
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main()
