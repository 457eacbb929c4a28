"""A folder of wheels as an index offers it: simple pages with hashes (PEP 503), core metadata
(PEP 658, 714)."""

from __future__ import annotations

import hashlib
import html
import re
import zipfile
from collections import defaultdict
from functools import cached_property
from pathlib import Path


class Offer:
    """The wheels of a folder, by project."""

    def __init__(self, folder: Path) -> None:
        self.files = {path.name: path for path in folder.glob("*.whl")}

    @cached_property
    def pages(self) -> dict[str, bytes]:
        """One simple page a project."""
        links: dict[str, list[str]] = defaultdict(list)
        for name, path in sorted(self.files.items()):
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            shown = html.escape(name)
            links[re.sub(r"[-_.]+", "-", name.split("-")[0]).lower()].append(
                f'<a href="/files/{shown}#sha256={digest}" data-core-metadata="true">'
                f"{shown}</a><br>"
            )
        return {
            project: f"<!DOCTYPE html><html><body>{''.join(each)}</body></html>".encode()
            for project, each in links.items()
        }

    @cached_property
    def metadata(self) -> dict[str, bytes]:
        """METADATA of each wheel, by the wheel's file name."""
        found = {}
        for name, path in self.files.items():
            with zipfile.ZipFile(path) as wheel:
                (inner,) = (
                    each
                    for each in wheel.namelist()
                    if re.fullmatch(r"[^/]+\.dist-info/METADATA", each)
                )
                found[name] = wheel.read(inner)
        return found
