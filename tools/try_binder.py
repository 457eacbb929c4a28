"""`make binder`: the steps that repo2docker takes for this repository, without its image.

    python3 tools/try_binder.py

repo2docker makes an environment with JupyterLab for a user without privileges, copies the
repository into a home of that user, installs what binder/ names, and runs binder/postBuild there.
The same is done here, by a user who is made for it and removed afterwards, and who has no Node:
that takes root. Then the tour and the examples run there as in a session on Binder: the tour must
have saved its kernel by its names, and doctor must say why not as a whole. The environment's Python
is Debian's, for that is one the user may read; binder/runtime.txt names the one that Binder takes.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from steps import ROOT, Failed, main_guard, root, say, step

BASE = Path("/usr/bin/python3")
TOOLS = ("sh", "bash", "env", "uname", "cat", "dirname", "readlink", "sed", "ls")
FRESH = ("notebook", "jupyterlab", "jupyterhub")  # what repo2docker puts into every image
NOTEBOOKS = ("tour", "install", "self-contained", "load", "snapshot", "undo")
# What the tour says where no process can be saved.
UNPRIVILEGED = ("Saved snapshot 'tour'", "portable (")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PATIENCE = 1800  # seconds for one command


class Session:
    """A user's home with a copy of the repository, and commands run there as that user."""

    def __init__(self, user: str, home: Path) -> None:
        self._user = user
        self._environment = home / "env"
        self.checkout = home / "checkout"
        programs = home / "programs"
        programs.mkdir()
        for name in TOOLS:
            (programs / name).symlink_to(shutil.which(name) or name)
        self._variables = {
            **_indexes(),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PATH": f"{self._environment / 'bin'}:{programs}",
            "USER": user,
        }

    def run(self, *words: str, check: bool = True) -> str:
        """What a command printed; raises Failed with it where the command failed."""
        ran = subprocess.run(
            words,
            cwd=self.checkout,
            env=self._variables,
            user=self._user,
            group=self._user,
            extra_groups=(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if check and ran.returncode:
            raise Failed(f"`{' '.join(words)}` ended with {ran.returncode}:\n{ran.stdout}")
        return ran.stdout

    def build(self) -> None:
        """What repo2docker does before anybody looks."""
        folder = self.checkout / "binder"
        with step("The environment that every image has"):
            self.run(str(BASE), "-m", "venv", str(self._environment))
            self.run("python", "-m", "pip", "install", "--quiet", *FRESH)
        with step("binder/"):
            packages = folder / "apt.txt"
            if packages.exists():
                for name in packages.read_text().split():
                    self.run("dpkg", "-s", name)
            if (folder / "requirements.txt").exists():
                self.run("python", "-m", "pip", "install", "-r", "binder/requirements.txt")
            self.run("./binder/postBuild")

    def show(self) -> None:
        """What a person finds there; raises Failed where it is not what the README says."""
        say(
            expect(
                self.run("jupyter", "labextension", "list"), "zerostart-jupyter", "enabled", "OK"
            )
        )
        say(expect(self.run("jupyter", "server", "extension", "list"), "zerostart_jupyter", "OK"))
        for name in NOTEBOOKS:
            with step(f"{name}.ipynb"):
                self.run("jupyter", "execute", "--inplace", f"examples/{name}.ipynb")
        say(expect(self.shown("tour"), *UNPRIVILEGED))
        say(self.run("zerostart", "doctor"))
        self.reasons()

    def shown(self, name: str) -> str:
        """What the cells of an example that was run here show, as text."""
        notebook = json.loads((self.checkout / "examples" / f"{name}.ipynb").read_text())
        outputs = [each for cell in notebook["cells"] for each in cell.get("outputs", [])]
        texts = (each.get("text") or each.get("data", {}).get("text/plain", "") for each in outputs)
        return "\n".join("".join(each) for each in texts)

    def reasons(self) -> None:
        """Raises Failed unless doctor says why no process is saved here, and what to do."""
        found = {
            each["name"]: each for each in json.loads(self.run("zerostart", "doctor", "--json"))
        }
        if not found["snapshot: portable"]["ok"] or found["snapshot: process"]["ok"]:
            raise Failed("Binder allows `portable` snapshots and no others; doctor says otherwise.")
        for name, each in found.items():
            if not each["ok"] and not (each["reason"] and each["remedy"]):
                raise Failed(f"doctor gives no reason or no remedy for {name}: {each}")


def main() -> None:
    if not root():
        raise Failed("This makes a user, which needs root: run `sudo make binder`.")
    with user() as (name, home):
        with step(f"A copy of what git has, in the home of {name}"):
            session = Session(name, home)
            copy(session.checkout, name)
        session.build()
        session.show()


@contextlib.contextmanager
def user() -> Iterator[tuple[str, Path]]:
    """A user without privileges and with a home, both removed afterwards."""
    name = f"zs-binder-{os.getpid()}"
    home = Path(tempfile.mkdtemp(prefix="zs-binder-"))
    subprocess.run(
        ["useradd", "--no-create-home", "--home-dir", home, "--shell", "/bin/sh", name], check=True
    )
    try:
        _give(home, name)
        yield name, home
    finally:
        subprocess.run(["userdel", name], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


def copy(folder: Path, name: str) -> None:
    """What git has at HEAD, owned by this user."""
    packed = subprocess.run(
        ["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    for path in (folder, *folder.rglob("*")):
        _give(path, name)


def expect(text: str, *words: str) -> str:
    """The line that has all of these words; raises Failed if none has."""
    for line in _COLOUR.sub("", text).splitlines():
        if all(word in line for word in words):
            return line.strip()
    raise Failed(f"No line says {', '.join(words)}:\n{text}")


def _give(path: Path, name: str) -> None:
    found = pwd.getpwnam(name)
    os.chown(path, found.pw_uid, found.pw_gid, follow_symlinks=False)


def _indexes() -> dict[str, str]:
    """Where packages come from on this machine."""
    prefixes = ("PIP_", "UV_", "npm_config_", "NPM_CONFIG_", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    ends = ("_proxy", "_PROXY")
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith((*prefixes, "NODE_EXTRA_CA_CERTS", "YARN_")) or name.endswith(ends)
    }


if __name__ == "__main__":
    main_guard(main)
