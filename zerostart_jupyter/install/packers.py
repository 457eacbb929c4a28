"""Processes that pack wheels: neither each other nor the kernel wait for their turn in Python."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import beside, packing
from zerostart_jupyter.install.environment import Environment
from zerostart_jupyter.install.lock import Locked
from zerostart_jupyter.install.packing import Packed

_PIPE = 1 << 20  # bytes on their way; the most that an ordinary user may ask for
_F_SETPIPE_SZ = 1031
_WORTHWHILE = 12  # wheels; starting a packer costs as much as packing several small ones
_MOST = 4  # packers; then the disk is the limit
_PATIENCE = 5.0  # seconds in which a packer ends its wheel; then it is ended
_START = (  # cells, and the wheel that somebody waits for, come first
    "import json, os, sys; os.nice(10); sys.path[:0] = json.loads(sys.argv[1]); "
    "from zerostart_jupyter.install.packing import main; main()"
)


def hire(
    store: Store, environment: Environment | None, settings: Settings, wheels: int
) -> list[Packer]:
    """As many packers as this number of small wheels to fetch is worth; to be started."""
    if wheels < _WORTHWHILE:
        return []
    return [Packer(store, environment) for _ in range(min(settings.extract_threads, _MOST))]


def limit(settings: Settings) -> int:
    """Bytes up to which a wheel is gathered and packed as a whole; larger ones are unpacked
    while they arrive."""
    return min(2 * settings.chunk_bytes, settings.window_bytes // 2)


class Packer:
    """One such process, used by one thread at a time. Where it cannot be started, or is ended by
    somebody, its work is done in this process. It packs into the store, and into an environment
    that several processes may share."""

    def __init__(self, store: Store, environment: Environment | None = None) -> None:
        self._store = store
        self._environment: Environment | None = None
        self._introduced: Environment | None = None
        self.link_into(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def link_into(self, environment: Environment | None) -> None:
        """From the next wheel on, link into this environment too."""
        self._environment = environment if environment is not None and environment.shared else None

    def start(self) -> None:
        """Start the process; `pack()` does not wait for it to be ready. It is started once."""
        with self._lock, contextlib.suppress(OSError):
            if self._closed or self._process is not None:
                return
            self._process = beside.start(["-c", _START, json.dumps(_path())])
            _widen(self._process.stdin)
            self._introduce(self._process, self._environment)

    def pack(self, locked: Locked, parts: Sequence[memoryview], order: int) -> Packed:
        """Like `packing.pack`, of a wheel whose bytes are `parts` in order."""
        process, environment = self._process, self._environment
        if process is not None and process.poll() is None:
            try:
                if environment is not self._introduced:
                    self._introduce(process, environment)
                packing.send(cast("BinaryIO", process.stdin), packing.request(locked, order), parts)
                head, _ = packing.receive(cast("BinaryIO", process.stdout), bytearray())
            except (EOFError, OSError, ValueError):  # it was ended, by the kernel for memory say
                self.close()
            else:
                return packing.taken(head)
        data = memoryview(b"".join(parts))
        return packing.pack(self._store, locked, data, environment, order)

    def _introduce(self, process: subprocess.Popen[bytes], environment: Environment | None) -> None:
        packing.send(
            cast("BinaryIO", process.stdin), packing.introduction(self._store, environment)
        )
        self._introduced = environment

    def finish(self) -> None:
        """Tell it that nothing more comes; `close()` waits for it."""
        with self._lock:
            self._closed = True
        if self._process is not None:
            with contextlib.suppress(OSError):
                cast("BinaryIO", self._process.stdin).close()

    def close(self) -> None:
        """Let it end its wheel, and wait until it is gone; a second call does nothing."""
        self.finish()
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        cast("BinaryIO", process.stdout).close()


def _path() -> list[str]:
    """Where our modules, and those of others that they need, are imported from."""
    import importlib.util

    found: list[str] = []
    for name in ("zerostart_jupyter", "packaging", "isal"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            found.append(str(Path(spec.origin).parents[1]))
    return list(dict.fromkeys(found))


def _widen(pipe: object) -> None:
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe.fileno(), _F_SETPIPE_SZ, _PIPE)  # type: ignore[attr-defined]
