"""The running interpreter's own environment, changed as pip would change it.

Wheels come by the same lock and store as ever, and nothing is touched before all of them are
here. Then each distribution is exchanged on its own: new files take their places by rename, what
only the old version had goes, and last its dist-info is swapped for the new one. Wherever that
is cut off, pip sees one version or the other, or none, and can install over it.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import re
import shutil
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from zerostart_jupyter.core.errors import EnvironmentRefused, StoreError
from zerostart_jupyter.install import live
from zerostart_jupyter.install.activation import PYTHON, ROOM
from zerostart_jupyter.install.background import Job
from zerostart_jupyter.install.environment import EditedInStore, Environment, Places
from zerostart_jupyter.install.gate import Pending, gate
from zerostart_jupyter.install.lock import Lock, Locked
from zerostart_jupyter.install.pipeline import Pipeline
from zerostart_jupyter.install.requirements import Request
from zerostart_jupyter.install.unpack import StoredWheel

_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def places() -> Places:
    """Where this interpreter's packages are installed.

    Raises EnvironmentRefused if that is the system's business (PEP 668) or cannot be written to.
    """
    paths = {name: Path(path) for name, path in sysconfig.get_paths().items()}
    marker = paths["stdlib"] / "EXTERNALLY-MANAGED"
    if sys.prefix == sys.base_prefix and marker.is_file():
        raise EnvironmentRefused(
            f"{sys.prefix} is managed by the system's own package manager ({marker}).",
            remedy="Leave --into-kernel out, or start the kernel from a virtual environment.",
        )
    headers = paths["include"]
    if sys.prefix != sys.base_prefix:
        headers = Path(sys.prefix, "include", "site", PYTHON)
    found = Places(paths["purelib"], paths["scripts"], headers, paths["data"], Path(sys.executable))
    check_writable(found)
    return found


def check_writable(found: Places) -> None:
    """Raise EnvironmentRefused unless files can be made in all of these places."""
    for folder in (found.site, found.bin, found.data):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise EnvironmentRefused(
                f"{folder}, of the kernel's own environment, cannot be written to: "
                f"{error.strerror}.",
                remedy="Leave --into-kernel out, or use a kernel whose environment is yours.",
            ) from error


def versions(found: Places) -> dict[str, str]:
    """The version of each distribution that is installed there."""
    return {name: each[0][0] for name, each in live.installed([str(found.site)]).items()}


def missing(lock: Lock, found: Places) -> Lock:
    """What of a lock is not there. Raises EnvironmentRefused for what cannot be taken out."""
    present = live.installed([str(found.site)])
    eggs = {
        re.sub(r"[-_.]+", "-", each.name.removesuffix(".egg-info").partition("-")[0]).lower(): each
        for each in found.site.glob("*.egg-info")
    }
    left = []
    for locked in lock.packages:
        have = present.get(locked.name, [])
        bad = [path for _, path in have if not (path / "RECORD").is_file()]
        if [version for version, _ in have] == [locked.version] and not bad:
            continue
        bad += [eggs[locked.name]] if locked.name in eggs else []
        if bad:
            raise EnvironmentRefused(
                f"{bad[0].name} in {found.site} has no list of its files (RECORD), and "
                f"{locked.name} {locked.version} is to take its place.",
                remedy=f"Take it out with what installed it: pip uninstall {locked.name}.",
            )
        left.append(locked)
    return Lock(tuple(left), lock.volatile)


class Own(Environment):
    """Gathers wheels, and puts all of them in place on `commit()`."""

    shared = False

    def __init__(self, found: Places, requested: Iterable[str], *, copy: bool) -> None:
        super().__init__(Path(sys.prefix), copy=copy, places=found)
        self._requested = frozenset(requested)
        self._gathered: list[tuple[int, Locked, StoredWheel]] = []
        self._placed: set[str] = set()
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """It has everything an environment has."""

    def add(self, locked: Locked, wheel: StoredWheel, order: int, *, fresh: bool = False) -> None:
        """Note a wheel that is to be put in place; raises EditedInStore like its parent."""
        for place, identity in wheel.files.items():
            try:
                status = os.stat(wheel.tree / place)
            except FileNotFoundError:
                raise EditedInStore(place) from None
            if (status.st_size, status.st_mtime_ns) != identity:
                raise EditedInStore(place)
        with self._lock:
            self._gathered.append((order, locked, wheel))

    def mark(self, locked: Locked) -> None:
        """Its dist-info is the mark."""

    def commit(self) -> None:
        """Put what was gathered in place, one distribution after the other."""
        for left in self.site.glob(".zerostart-*"):  # by who was cut off; we hold the lock
            shutil.rmtree(left, ignore_errors=True)
        for order, locked, wheel in sorted(self._gathered, key=lambda each: each[0]):
            try:
                self._exchange(order, locked, wheel)
            except EditedInStore as edited:
                raise StoreError(
                    f"{edited} was edited in the cache, or pruned.", remedy="Run it again."
                ) from None

    def _exchange(self, order: int, locked: Locked, wheel: StoredWheel) -> None:
        old = [path for _, path in live.installed([str(self.site)]).get(locked.name, [])]
        before = {path for each in old for path in self._files(each)}
        staged = self.site / f".zerostart-{locked.name}"
        staged.mkdir()
        self._placed |= self._place(locked, wheel, order, staged)
        if locked.name in self._requested:
            (staged / "REQUESTED").touch()
            with open(staged / "RECORD", "a", encoding="utf-8") as record:
                record.write(f"{wheel.dist_info}/REQUESTED,,\n")
        self._take_out(before - self._files(staged) - self._placed, old)
        graves = [self.site / f".zerostart-gone-{each.name}" for each in old]
        for each, grave in zip(old, graves, strict=True):
            each.rename(grave)
        staged.rename(self.site / wheel.dist_info)
        for grave in graves:
            shutil.rmtree(grave, ignore_errors=True)

    def _files(self, dist_info: Path) -> set[str]:
        """The files of a RECORD, and what Python compiled of them, that lie in this environment."""
        rows = csv.reader((dist_info / "RECORD").read_text(encoding="utf-8-sig").splitlines())
        inside = (f"{os.path.normpath(sys.prefix)}/", f"{self.site}/", f"{self.bin}/")
        paths = {os.path.normpath(self.site / row[0]) for row in rows if row}
        return {path for path in paths if path.startswith(inside)}

    def _take_out(self, files: set[str], old: list[Path]) -> None:
        kept = tuple(f"{each}/" for each in old)  # goes as a whole, at the end
        folders = set()
        for path in files:
            if path.startswith(kept):
                continue
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(path)
            folder, _, name = path.rpartition("/")
            folders.add(folder)
            if name.endswith(".py"):
                cache = Path(folder, "__pycache__")
                for compiled in cache.glob(f"{name.removesuffix('.py')}.*.pyc"):
                    compiled.unlink(missing_ok=True)
                folders.add(str(cache))
        for folder in sorted(folders, key=len, reverse=True):
            # Up to the first that holds anything; site-packages itself never is empty.
            with contextlib.suppress(OSError):
                os.removedirs(folder)


class _Held(Pending):
    """Lets imports go on once everything is in place, and not before."""

    whole: Callable[[], Iterable[str]]

    def land(self, name: str) -> None:
        """Not yet."""

    def release(self) -> None:
        """Now."""
        for name in list(self.missing):
            self._let_in(name)

    def _come(self) -> Iterable[str]:
        return self.whole()

    def _take_paths(self, *, whole: bool) -> None:
        """Python does, when it starts: lines of what was here before must not run again."""


class OwnJob(Job):
    """An install into the interpreter's own environment."""

    pending: _Held
    told_in: Path

    def __init__(
        self, request: Request, lock: Lock, found: Places, *rest: object, pipeline: Pipeline | None
    ) -> None:
        settings = rest[1]
        names = {_normal(spec) for spec in request.specs}
        self._own = Own(found, names, copy=settings.no_shared_cache)  # type: ignore[attr-defined]
        self._found = found
        super().__init__(
            request,
            lock,
            Path(sys.prefix),
            *rest,  # type: ignore[arg-type]
            pipeline=pipeline,
            environment=self._own,
            pending=_Held,
        )
        self.pending.whole = self._present
        key = hashlib.sha256(str(found.site).encode()).hexdigest()[:32]
        self.lock_name = f"own-{key}"
        self.told_in = self._store.stage(ROOM)

    def run(self) -> None:
        """Bring it; if that fails, imports find again what was there before."""
        try:
            super().run()
        except BaseException:
            gate.release(self.pending)
            raise
        finally:
            self._store.discard(self.told_in)

    def _make(self) -> None:
        with self._store.lock(self.lock_name, check=self._work.check):
            present = self._present()  # another process was faster
            if len(present) < len(self._lock.packages):
                self.pipeline.run(self.destination, present)
                self._own.commit()
        self.pending.release()

    def _present(self) -> set[str]:
        return {each.name for each in self._lock.packages} - {
            each.name for each in missing(self._lock, self._found).packages
        }


def _normal(spec: str) -> str:
    found = _NAME.match(spec)
    return re.sub(r"[-_.]+", "-", found.group(1)).lower() if found else ""
