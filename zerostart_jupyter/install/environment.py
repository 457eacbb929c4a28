"""Environments: wheels of the store composed by hardlink, file by file, and put on `sys.path`.

An environment has the shape of a virtual environment, with its interpreter kept out of `bin`: its
scripts see exactly this environment, and a kernel that has `bin` on PATH keeps its own `python`.
It is filled in its final place, and a distribution is there once its marker is.
"""

from __future__ import annotations

import base64
import csv
import errno
import hashlib
import io
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from installer.scripts import Script

from zerostart_jupyter.install.activation import OURS, PYTHON, landed, site_of
from zerostart_jupyter.install.entry_points import programs
from zerostart_jupyter.install.lock import Locked
from zerostart_jupyter.install.unpack import StoredWheel
from zerostart_jupyter.install.wheel import HEADERS, SCRIPTS, SITE

_INSTALLER = b"zerostart\n"


class EditedInStore(Exception):
    """A file in the store is not what was published: somebody wrote through a hardlink."""


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


class Environment:
    """The directories of one environment. `add()` may be called from several threads."""

    def __init__(self, root: Path, *, copy: bool = False, places: Places | None = None) -> None:
        places = places or Places.below(root)
        self.root = root
        self.site = places.site
        self.bin = places.bin
        self._python = str(places.python)
        self._data = f"{places.data}/"
        self._copy = copy
        self._lock = threading.Lock()
        self._owners: dict[str, int] = {}
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

    def add(self, locked: Locked, wheel: StoredWheel, order: int) -> None:
        """Link a wheel's files and make its scripts; where two wheels bring one file, the one
        of the higher order has it. Raises EditedInStore before anything wrong is linked."""
        self._place(locked, wheel, order, self.site / wheel.dist_info)

    def _place(self, locked: Locked, wheel: StoredWheel, order: int, dist_info: Path) -> None:
        tree = f"{wheel.tree}/"
        site, inside, at = f"{self.site}/", f"{SITE}/", len(SITE) + 1
        targets = {
            place: site + place[at:]
            if place.startswith(inside)
            else self._target(place, locked.name)
            for place in wheel.files
        }
        start = f"{SITE}/{wheel.dist_info}/"
        for place in targets:
            if place.startswith(start):
                targets[place] = f"{dist_info}/{place.removeprefix(start)}"
        mine = self._claim(targets.values(), order)
        made: set[str] = set()
        rewritten: set[str] = set()
        for place, identity in wheel.files.items():
            source, target = tree + place, targets[place]
            try:
                status = os.stat(source)
            except FileNotFoundError:
                raise EditedInStore(source) from None
            if (status.st_size, status.st_mtime_ns) != identity:
                raise EditedInStore(source)
            folder = target.rpartition("/")[0]
            if folder not in made:
                os.makedirs(folder, exist_ok=True)
                made.add(folder)
            if target not in mine:
                continue
            if place.startswith(f"{SCRIPTS}/") and self._rewritten(source, target):
                rewritten.add(target)
                continue
            self._bring(source, target)
        self._finish(locked, wheel, dist_info, rewritten)

    def mark(self, locked: Locked) -> None:
        """Say that a distribution is whole."""
        marker = landed(self.root, locked.name)
        part = marker.with_name(f".{marker.name}.part")
        part.write_text(json.dumps({"version": locked.version, "sha256": locked.sha256}))
        part.replace(marker)

    def _target(self, place: str, name: str) -> str:
        scheme, _, path = place.partition("/")
        if scheme == HEADERS:
            path = f"{name}/{path}"
        return self._bases.get(scheme, self._data) + path

    def _claim(self, targets: Iterable[str], order: int) -> set[str]:
        """Those that no wheel of a higher order has brought."""
        with self._lock:
            mine = {target for target in targets if self._owners.get(target, -1) <= order}
            self._owners.update(dict.fromkeys(mine, order))
        return mine

    def _bring(self, source: str, target: str) -> None:
        if not self._copy:
            try:
                os.link(source, target)
                return
            except FileExistsError:  # of another wheel, or left by an interrupted install
                part = f"{target}.zs-part"
                Path(part).unlink(missing_ok=True)
                os.link(source, part)
                os.replace(part, target)
                Path(part).unlink(missing_ok=True)  # a rename onto the same file does nothing
                return
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._copy = True
        part = f"{target}.zs-part"
        shutil.copy2(source, part)
        os.replace(part, target)

    def _rewritten(self, source: str, target: str) -> bool:
        data = Path(source).read_bytes()
        if not data.startswith(b"#!python"):
            return False
        rest = data.partition(b"\n")[2]
        self._write_script(Path(target), self._shebang() + b"\n" + rest)
        return True

    def _shebang(self) -> bytes:
        script = Script("", "", "", "console")
        return script._build_shebang(self._python, forlauncher=False)

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
        writer.writerows([self._recorded(str(path)), "", ""] for path in made)
        writer.writerow([f"{wheel.dist_info}/INSTALLER", "", ""])
        target = dist_info / "RECORD"
        target.unlink(missing_ok=True)
        target.write_text(out.getvalue(), encoding="utf-8")

    def offer(self, locked: Locked, points: bytes) -> list[Path]:
        """Make the programs of an entry_points.txt, which may be known before its wheel is here."""
        made = []
        for each in programs(points, locked.wheel):
            script = Script(each.name, each.module, each.attribute, each.section)  # type: ignore[arg-type]
            _, data = script.generate(self._python, "posix")
            self._write_script(self.bin / each.name, data)
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
        target = self._target(f"{scheme}/{path}", name)
        if target in rewritten:
            data = Path(target).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            return [self._recorded(target), f"sha256={digest}", str(len(data))]
        return [self._recorded(target), *row[1:]]

    def _recorded(self, path: str) -> str:
        return os.path.relpath(path, self.site)


_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES)
