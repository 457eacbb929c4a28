"""Installed files against the hashes of their RECORD, for `--verify`.

Format: the PyPA specification "Recording installed projects".
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.core.events import Operation
from zerostart_jupyter.install import live

_BLOCK = 1 << 20  # bytes
_WEAK = ("md5", "sha1")  # no RECORD may rest on these
# Of a dist-info, what cannot have a hash, and what installers write beside it.
_UNHASHED = ("RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED", "direct_url.json")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A row of a RECORD, its `digest` empty if it should have one; `size` is in bytes, 0 if the row
    has none."""

    name: str
    path: Path
    algorithm: str
    digest: str
    size: int


def recorded(site: Path, names: Iterable[str], *, compiled: bool = False) -> list[Recorded]:
    """What the RECORDs of these distributions say of their files.

    With `compiled` the installer may have compiled what it installed, as pip does: such files have
    no hash.
    """
    present = live.installed([str(site)])
    return [
        row
        for name in names
        for _, dist_info in present.get(name, [])[:1]
        for row in _rows(name, site, dist_info)
        if row.digest or not (compiled and row.path.suffix == ".pyc")
    ]


def differing(rows: Iterable[Recorded], work: Operation, threads: int) -> list[Recorded]:
    """Those whose file is missing, or is not what was recorded.

    A file that several distributions bring is right if it is what one of them recorded. Raises
    Cancelled.
    """
    rows = list(rows)
    total, done = sum(row.size for row in rows), 0
    wrong, right = [], set()
    with ThreadPoolExecutor(threads, thread_name_prefix="zerostart-verify") as pool:
        try:
            for row, same in zip(rows, pool.map(_same, rows), strict=True):
                work.check()
                done += row.size
                work.update("", done, total)
                if same:
                    right.add(row.path)
                else:
                    wrong.append(row)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [row for row in wrong if row.path not in right]


def _rows(name: str, site: Path, dist_info: Path) -> Iterator[Recorded]:
    try:
        lines = (dist_info / "RECORD").read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        yield Recorded(name, dist_info / "RECORD", "", "", 0)
        return
    unhashed = [f"{dist_info.name}/{file}" for file in _UNHASHED]
    for row in csv.reader(lines):
        algorithm, _, digest = row[1].partition("=") if len(row) > 1 else ("", "", "")
        if row and (digest or row[0] not in unhashed):
            size = int(row[2]) if len(row) > 2 and row[2].isascii() and row[2].isdigit() else 0
            path = Path(os.path.normpath(site / row[0]))
            yield Recorded(name, path, algorithm.lower(), digest, size)


def _same(row: Recorded) -> bool:
    if row.algorithm in _WEAK or row.algorithm not in hashlib.algorithms_guaranteed:
        return False
    found = hashlib.new(row.algorithm)
    if found.digest_size == 0:  # of no fixed length, and so none that a RECORD may name
        return False
    try:
        with open(row.path, "rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
    except OSError:
        return False
    return base64.urlsafe_b64encode(found.digest()).rstrip(b"=").decode() == row.digest
