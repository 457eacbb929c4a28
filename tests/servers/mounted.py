"""A file system that another process answers for: one directory of files, mounted through FUSE.

`python -m tests.servers.mounted FOLDER TARGET COMMAND...` mounts FOLDER at TARGET in a mount
namespace of its own and runs COMMAND there, so that nothing stays when it ends. The last line it
prints counts the bytes that were read. The protocol is that of linux/fuse.h, read-only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
import threading
from pathlib import Path

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE = 1, 2, 3, 14, 15, 17, 18
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, BATCH_FORGET = 25, 26, 27, 28, 29, 42
ROOT = 1  # the directory's number
LARGEST = 1 << 20  # bytes of a request
FOREVER = 1 << 20  # seconds for which the kernel believes an answer


class Mounted:
    """Answers for the files of one directory."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.files = sorted(each for each in folder.iterdir() if each.is_file())
        self.read = 0
        self._folder = folder
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        libc = ctypes.CDLL(None, use_errno=True)
        about = f"fd={self._device},rootmode=40000,user_id=0,group_id=0".encode()
        if libc.mount(b"zerostart", bytes(target), b"fuse", 0, about) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(target))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                asked = os.read(self._device, LARGEST)
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted
                    return
                continue
            _, opcode, unique, node = struct.unpack_from("<IIQQ", asked)
            if opcode in (FORGET, BATCH_FORGET):
                continue
            try:
                code, body = 0, self._answer(opcode, node, asked[40:])
            except OSError as error:
                code, body = -(error.errno or errno.EIO), b""
            os.write(self._device, struct.pack("<IiQ", 16 + len(body), code, unique) + body)

    def _answer(self, opcode: int, node: int, body: bytes) -> bytes:
        if opcode == INIT:
            most = struct.unpack_from("<III", body)[2]
            return struct.pack("<IIIIHHIIHHI28x", 7, 31, most, 0, 16, 12, 4096, 1, 256, 0, 0)
        if opcode == LOOKUP:
            names = [os.fsencode(each.name) for each in self.files]
            name = body.rstrip(b"\0")
            if name not in names:
                raise FileNotFoundError(errno.ENOENT, "no such file")
            found = names.index(name) + ROOT + 1
            return struct.pack("<QQQQII", found, 0, FOREVER, FOREVER, 0, 0) + self._attributes(
                found
            )
        if opcode == GETATTR:
            return struct.pack("<QII", FOREVER, 0, 0) + self._attributes(node)
        if opcode in (OPEN, OPENDIR):
            return struct.pack("<QIi", node, 0, 0)
        if opcode == READ:
            _, offset, count = struct.unpack_from("<QQI", body)
            with self._path(node).open("rb") as file:
                block = os.pread(file.fileno(), count, offset)
            self.read += len(block)
            return block
        if opcode == READDIR:
            return self._listed(struct.unpack_from("<QQ", body)[1])
        if opcode == STATFS:
            return struct.pack("<QQQQQIIII24x", 0, 0, 0, 0, 0, 4096, 255, 4096, 0)
        if opcode in (RELEASE, RELEASEDIR, FLUSH):
            return b""
        raise OSError(errno.ENOSYS, "not answered here")

    def _path(self, node: int) -> Path:
        return self._folder if node == ROOT else self.files[node - ROOT - 1]

    def _attributes(self, node: int) -> bytes:
        about = self._path(node).stat()
        mode = 0o555 | stat.S_IFDIR if node == ROOT else 0o444 | stat.S_IFREG
        size, seconds, rest = about.st_size, *divmod(about.st_mtime_ns, 10**9)
        times = (seconds, seconds, seconds, rest, rest, rest)
        return struct.pack(
            "<QQQ3Q3I7I", node, size, -(-size // 512), *times, mode, 1, 0, 0, 0, 4096, 0
        )

    def _listed(self, start: int) -> bytes:
        listed = b""
        for number, path in enumerate(self.files[start:], start + 1):
            name = os.fsencode(path.name)
            about = struct.pack("<QQII", number + ROOT, number, len(name), stat.S_IFREG >> 12)
            listed += (about + name).ljust(24 + -(-len(name) // 8) * 8, b"\0")
        return listed[:4096]


def main() -> int:
    """Mount, run, count; inside `unshare --user --map-root-user --mount`."""
    mounted = Mounted(Path(sys.argv[1]), Path(sys.argv[2]))
    ended = subprocess.run(sys.argv[3:], check=False)
    print(mounted.read)
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
