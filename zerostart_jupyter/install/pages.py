"""A project's page in an index, and the wheel of it that a resolver would most likely take.

The simple repository API, as HTML (PEP 503) and as JSON (PEP 691). What is read here is a guess
about what uv will answer and nothing else: a page that is odd has no guess in it.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urldefrag, urljoin

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from zerostart_jupyter.install.lock import Locked

ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
LARGEST = 16 << 20  # bytes of a page
# Linear, whatever a page holds: `re` keeps every thread waiting. No start of a match may run into
# the next one, so neither `<` nor half a word begins one (PEP 503 has `<` and `>` escaped).
_ANCHOR = re.compile(r"<a\s([^<>]*)>\s*([^<\s]+)\s*</a>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""(?<![\w-])([\w-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_NAME = 255  # characters of a file's name: its tags are multiplied with one another


@dataclass(frozen=True, slots=True)
class File:
    """One file of a project, as its page has it; `size` in bytes if that is told."""

    name: str
    url: str
    sha256: str
    requires_python: str = ""
    size: int | None = None


def files(body: bytes, kind: str, address: str) -> list[File]:
    """The wheels on a page that have a sha256 and were not yanked; none of a page that cannot be
    read. `kind` is its Content-Type."""
    try:
        found = _json(json.loads(body)) if "json" in kind else _html(body.decode("utf-8"))
        return [
            File(name, urljoin(address, url), sha256, python, size)
            for name, url, sha256, python, size in found
            if name.endswith(".whl") and len(name) <= _NAME and sha256
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def likely(found: Iterable[File], wanted: Requirement) -> Locked | None:
    """The best wheel for this interpreter of the newest version that fits, pre-releases apart;
    None where that version has no wheel for it: uv would build it."""
    name = canonicalize_name(wanted.name)
    versions: dict[Version, list[File]] = {}
    for file in found:
        version = _version(file.name)
        if version is not None:
            versions.setdefault(version, []).append(file)
    fitting = wanted.specifier.filter(sorted(versions, reverse=True), prereleases=None)
    for version in fitting:
        usable = [file for file in versions[version] if _python_fits(file.requires_python)]
        if not usable:
            continue
        ranked = [(rank, file) for file in usable if (rank := _rank(file.name, name)) is not None]
        if not ranked:
            return None
        file = min(ranked, key=lambda each: each[0])[1]
        return Locked(name, str(version), file.name, file.url, file.sha256, file.size)
    return None


def _json(body: Any) -> Iterator[tuple[str, str, str, str, int | None]]:
    for file in body["files"]:
        if not file.get("yanked"):
            yield (
                file["filename"],
                file["url"],
                file["hashes"].get("sha256", ""),
                file.get("requires-python") or "",
                file.get("size"),
            )


def _html(text: str) -> Iterator[tuple[str, str, str, str, int | None]]:
    for attributes, name in _ANCHOR.findall(text):
        has = {key.lower(): html.unescape(a or b) for key, a, b in _ATTRIBUTE.findall(attributes)}
        url, fragment = urldefrag(has.get("href", ""))
        kind, _, digest = fragment.partition("=")
        if url and "data-yanked" not in attributes:
            python = has.get("data-requires-python", "")
            yield html.unescape(name), url, digest if kind == "sha256" else "", python, None


def _version(filename: str) -> Version | None:
    try:
        return Version(filename.split("-")[1])
    except (IndexError, InvalidVersion):
        return None


def _rank(filename: str, name: str) -> int | None:
    """How well a wheel fits this interpreter, 0 best; None if not at all."""
    try:
        stem, _, _, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return None
    ranks = [rank for tag in tags if (rank := _ranks().get(tag)) is not None]
    return min(ranks, default=None) if stem == name else None


@cache
def _ranks() -> dict[Tag, int]:
    return {tag: rank for rank, tag in enumerate(sys_tags())}


def _python_fits(requires: str) -> bool:
    if not requires:
        return True
    try:
        return SpecifierSet(requires).contains(_python())
    except InvalidSpecifier:
        return False


@cache
def _python() -> str:
    import platform

    return platform.python_version()
