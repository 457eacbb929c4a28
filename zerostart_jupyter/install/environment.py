"""Environments: wheels of the store composed by hardlink, file by file, and put on `sys.path`.

An environment has the shape of a virtual environment, with its interpreter kept out of `bin`: its
scripts see exactly this environment, and a kernel that has `bin` on PATH keeps its own `python`.
It is filled in its final place, and a distribution is there once its marker is.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import linking, scripts
from zerostart_jupyter.install.activation import OURS, PYTHON, landed, site_of
from zerostart_jupyter.install.entry_points import programs
from zerostart_jupyter.install.linking import Files, Identities
from zerostart_jupyter.install.lock import Locked
from zerostart_jupyter.install.unpack import StoredWheel, stored
from zerostart_jupyter.install.wheel import HEADERS, SCRIPTS, SITE

_INSTALLER = b"zerostart\n"


class EditedInStore(Exception):
    """A file in the store is not what was published: somebody wrote through a hardlink, or has
    pruned the wheel meanwhile."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the parts of a wheel go, and the interpreter that scripts begin with."""

    site: Path
    bin: Path
    headers: Path
    data: Path
    python: Path

    @classmethod
    def below(cls, root: Path) -> Places:
        """Those of an environment of the store."""
        headers = root / "include" / "site" / PYTHON
        return cls(site_of(root), root / "bin", headers, root, root / OURS / "python")


@dataclass(frozen=True, slots=True)
class Rivals:
    """The wheels of an environment in their order, for files that two of them bring.

    Asks the store and no memory: those who link may be several processes.
    """

    store: Store
    wheels: Sequence[Locked]
    _targets: dict[str, frozenset[str]] = field(default_factory=dict)

    def outrank(self, order: int, target: str, environment: Environment) -> bool:
        """True if a wheel of a higher order that is published brings this file too."""
        return any(target in self._of(each, environment) for each in self.wheels[order + 1 :])

    def _of(self, locked: Locked, environment: Environment) -> frozenset[str]:
        found = self._targets.get(locked.sha256)
        if found is None:
            wheel = stored(self.store, locked.sha256)
            if wheel is None:  # its turn to link comes later, and then it replaces this one's
                return frozenset()
            found = frozenset(environment.target(place, locked.name) for place in wheel.files)
            self._targets[locked.sha256] = found
        return found


class Environment:
    """The directories of one environment. Several threads may `add()` to it, and several
    processes if it is `shared`."""

    shared = True

    def __init__(
        self,
        root: Path,
        *,
        copy: bool = False,
        places: Places | None = None,
        rivals: Rivals | None = None,
    ) -> None:
        places = places or Places.below(root)
        self.rivals = rivals
        self.root = root
        self.site = places.site
        self.bin = places.bin
        self._python = str(places.python)
        self._data = f"{places.data}/"
        self.copy = copy
        self.link: Callable[[Files, Identities | None], int] = linking.link
        self._bases = {
            SITE: f"{self.site}/",
            SCRIPTS: f"{self.bin}/",
            HEADERS: f"{places.headers}/",
        }

    def prepare(self) -> None:
        """Make what every environment has."""
        for folder in (self.site, self.bin, landed(self.root, "x").parent):
            folder.mkdir(parents=True, exist_ok=True)
        base = getattr(sys, "_base_executable", "") or sys.executable
        python = self.root / OURS / "python"
        python.unlink(missing_ok=True)
        python.symlink_to(base)
        version = ".".join(map(str, sys.version_info[:3]))
        (self.root / "pyvenv.cfg").write_text(
            f"home = {Path(base).parent}\ninclude-system-site-packages = false\n"
            f"version = {version}\n"
        )

    def add(self, locked: Locked, wheel: StoredWheel, order: int, *, fresh: bool = False) -> None:
        """Link a wheel's files and make its scripts; where two wheels bring one file, the one
        of the higher order has it.

        Raises EditedInStore before anything wrong is linked; `fresh` says that the wheel was
        published this moment and need not be looked at.
        """
        self._place(locked, wheel, order, self.site / wheel.dist_info, fresh=fresh)

    def _place(
        self,
        locked: Locked,
        wheel: StoredWheel,
        order: int,
        dist_info: Path,
        *,
        fresh: bool = False,
    ) -> set[str]:
        """The places of all its files, which are there now."""
        try:
            return self._place_files(locked, wheel, order, dist_info, fresh=fresh)
        except FileNotFoundError as gone:
            if wheel.tree.exists():
                raise
            raise EditedInStore(locked.wheel) from gone

    def _place_files(
        self,
        locked: Locked,
        wheel: StoredWheel,
        order: int,
        dist_info: Path,
        *,
        fresh: bool = False,
    ) -> set[str]:
        tree = f"{wheel.tree}/"
        site, inside, at = f"{self.site}/", f"{SITE}/", len(SITE) + 1
        start, info = f"{SITE}/{wheel.dist_info}/", f"{dist_info}/"
        files: list[tuple[str, str]] = []
        for place in wheel.files:
            if place.startswith(start):
                target = info + place[len(start) :]
            elif place.startswith(inside):
                target = site + place[at:]
            else:
                target = self.target(place, locked.name)
            files.append((tree + place, target))
        identities = None if fresh else list(wheel.files.values())
        rewritten = self._bring_all(files, identities, f"{tree}{SCRIPTS}/", order)
        self._finish(locked, wheel, dist_info, rewritten)
        return {target for _, target in files}

    def _bring_all(
        self,
        files: Files,
        identities: Identities | None,
        programs: str,
        order: int,
    ) -> set[str]:
        """Bring files to their targets. Returns those, of files below `programs`, that were
        written anew."""
        rewritten: set[str] = set()
        plain = not self.copy  # until one is not: then a whole wheel was begun before, mostly
        at = 0
        while at < len(files):
            if plain and not files[at][0].startswith(programs):
                stop = at + 1
                while stop < len(files) and not files[stop][0].startswith(programs):
                    stop += 1
                at += self.link(files[at:stop], identities and identities[at:stop])
                plain = at == stop
                continue
            source, target = files[at]
            if identities is not None:
                _check(source, identities[at])
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if source.startswith(programs) and self._rewritten(source, target):
                rewritten.add(target)
            else:
                self._bring(source, target, order)
            at += 1
        return rewritten

    def mark(self, locked: Locked) -> None:
        """Say that a distribution is whole."""
        marker = landed(self.root, locked.name)
        part = marker.with_name(f".{marker.name}.part")
        part.write_text(json.dumps({"version": locked.version, "sha256": locked.sha256}))
        part.replace(marker)

    def target(self, place: str, name: str) -> str:
        """The path that a wheel's file gets, unless it is of a dist-info that is yet staged."""
        scheme, _, path = place.partition("/")
        if scheme == HEADERS:
            path = f"{name}/{path}"
        return self._bases.get(scheme, self._data) + path

    def _bring(self, source: str, target: str, order: int) -> None:
        if not self.copy:
            try:
                os.link(source, target)
                return
            except FileExistsError:  # of another wheel, or left by an interrupted install
                if not self._contested(source, target, order):
                    part = f"{target}.zs-part"
                    Path(part).unlink(missing_ok=True)
                    os.link(source, part)
                    os.replace(part, target)
                return
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self.copy = True
        if os.path.lexists(target) and self._contested(source, target, order):
            return
        part = f"{target}.zs-part"
        shutil.copy2(source, part)
        os.replace(part, target)

    def _contested(self, source: str, target: str, order: int) -> bool:
        """True if what is there is to stay: it is the same file, or of a wheel that comes first."""
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(source), os.lstat(target)):
                return True
        return self.rivals is not None and self.rivals.outrank(order, target, self)

    def _rewritten(self, source: str, target: str) -> bool:
        data = Path(source).read_bytes()
        if not data.startswith(b"#!python"):
            return False
        rest = data.partition(b"\n")[2]
        self._write_script(Path(target), scripts.shebang(self._python) + rest)
        return True

    def _write_script(self, target: Path, data: bytes) -> None:
        part = target.with_name(f"{target.name}.zs-part")
        part.write_bytes(data)
        part.chmod(0o755)
        part.replace(target)  # never written through a link into the store

    def _finish(
        self, locked: Locked, wheel: StoredWheel, dist_info: Path, rewritten: set[str]
    ) -> None:
        made = self._make_scripts(locked, wheel)
        installer = dist_info / "INSTALLER"
        installer.unlink(missing_ok=True)
        installer.write_bytes(_INSTALLER)
        record = wheel.tree / SITE / wheel.dist_info / "RECORD"
        text = record.read_text(encoding="utf-8-sig")
        prefix = wheel.dist_info.removesuffix(".dist-info") + ".data/"
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        if prefix in text:
            rows = [row for row in csv.reader(io.StringIO(text)) if row]
            writer.writerows(self._moved(row, prefix, locked.name, rewritten) for row in rows)
        else:
            out.write(text if text.endswith("\n") else f"{text}\n")
        writer.writerows(self._row(str(path), path.read_bytes()) for path in made)
        writer.writerow([f"{wheel.dist_info}/INSTALLER", *_proof(_INSTALLER)])
        target = dist_info / "RECORD"
        target.unlink(missing_ok=True)
        target.write_text(out.getvalue(), encoding="utf-8")

    def offer(self, locked: Locked, points: bytes) -> list[Path]:
        """Make the programs of an entry_points.txt, which may be known before its wheel is here."""
        made = []
        for each in programs(points, locked.wheel):
            self._write_script(self.bin / each.name, scripts.program(each, self._python))
            made.append(self.bin / each.name)
        return made

    def _make_scripts(self, locked: Locked, wheel: StoredWheel) -> list[Path]:
        if f"{SITE}/{wheel.dist_info}/entry_points.txt" not in wheel.files:
            return []
        points = wheel.tree / SITE / wheel.dist_info / "entry_points.txt"
        return self.offer(locked, points.read_bytes())

    def _moved(self, row: Sequence[str], prefix: str, name: str, rewritten: set[str]) -> list[str]:
        if not row[0].startswith(prefix):
            return list(row)
        scheme, _, path = row[0].removeprefix(prefix).partition("/")
        scheme = {"purelib": SITE, "platlib": SITE}.get(scheme, scheme)
        target = self.target(f"{scheme}/{path}", name)
        if target in rewritten:
            return self._row(target, Path(target).read_bytes())
        return [self._recorded(target), *row[1:]]

    def _row(self, path: str, data: bytes) -> list[str]:
        return [self._recorded(path), *_proof(data)]

    def _recorded(self, path: str) -> str:
        return os.path.relpath(path, self.site)


def _proof(data: bytes) -> tuple[str, str]:
    """Hash and size as a RECORD has them."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={digest}", str(len(data))


def _check(source: str, identity: tuple[int, int]) -> None:
    try:
        status = os.stat(source)
    except FileNotFoundError:
        raise EditedInStore(source) from None
    if (status.st_size, status.st_mtime_ns) != identity:
        raise EditedInStore(source)


_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES)
