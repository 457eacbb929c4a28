"""The table of contents of an export: read from whoever made it, so every word is checked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from zerostart_jupyter.snapshot.exchange import blocks

FORMAT = 1
LARGEST = 64 << 20  # bytes of the table of contents, unpacked
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{16}")
# The folders and files a snapshot has, and nothing that leads out of it.
_PATH = re.compile(
    r"(?:images|portable|portable/arrays|memory)/[A-Za-z0-9][A-Za-z0-9._@-]{0,99}"
    r"|manifest\.json|portable\.json"
)
_TIERS = ("process", "portable")
_TEXTS = ("notebook", "parent", "reason", "kernelspec", "environment", "digest")
_NUMBERS = ("gpu_bytes", "kernel_seconds", "seconds", "frozen_seconds", "read_bytes", "modules")
_FLAGS = ("encrypted",)
_LONGEST = 4096  # characters of a text


@dataclass(frozen=True, slots=True)
class Content:
    """A file of a snapshot: its bytes, block after block."""

    path: str
    bytes: int
    blocks: tuple[str, ...]

    def lengths(self) -> Iterator[tuple[str, int]]:
        """Each block with its length: all are full but the last."""
        left = self.bytes
        for each in self.blocks:
            yield each, min(blocks.SIZE, left)
            left -= blocks.SIZE


@dataclass(frozen=True, slots=True)
class Index:
    """`about` is what the marker says; `places` where blocks lie in a packed file."""

    id: str
    name: str
    tier: str
    created: float
    about: Mapping[str, Any]
    contents: tuple[Content, ...]
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Size of all files, unpacked."""
        return sum(each.bytes for each in self.contents)

    def packed(self) -> bytes:
        """As it lies in an export."""
        body = {
            "format": FORMAT,
            "id": self.id,
            "name": self.name,
            "tier": self.tier,
            "created": self.created,
            "about": dict(self.about),
            "contents": [[each.path, each.bytes, list(each.blocks)] for each in self.contents],
            "places": {key: list(place) for key, place in self.places.items()},
        }
        return blocks.pack(json.dumps(body).encode())

    @classmethod
    def read(cls, data: bytes) -> Index:
        """The index in these bytes; raises SnapshotCorrupt."""
        text = blocks.unpack(data, LARGEST)
        try:
            return cls._of(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise blocks.corrupt("its table of contents makes no sense") from error

    @classmethod
    def _of(cls, body: Mapping[str, Any]) -> Index:
        if body["format"] != FORMAT:
            raise blocks.corrupt(f"it has format {body['format']!r}, not {FORMAT}")
        contents = tuple(_content(*each) for each in body["contents"])
        if len({each.path for each in contents}) != len(contents):
            raise ValueError("a file that is there twice")
        if not isinstance(body["name"], str):
            raise ValueError("a name that is no text")
        return cls(
            id=_matching(_ID, body["id"]),
            name=body["name"],
            tier=_TIERS[_TIERS.index(body["tier"])],
            created=float(body["created"]),
            about=_about(body["about"]),
            contents=contents,
            places={
                _matching(_SHA256, key): (_natural(at), _natural(count))
                for key, (at, count) in body["places"].items()
            },
        )


def _content(path: Any, size: Any, names: Any) -> Content:
    made = Content(
        _matching(_PATH, path), _natural(size), tuple(_matching(_SHA256, each) for each in names)
    )
    if ".." in made.path or len(made.blocks) != -(-made.bytes // blocks.SIZE):
        raise ValueError("a path that leads elsewhere, or blocks that are not its length")
    return made


def _about(body: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _TEXTS:
        if body.get(name) is not None:
            found[name] = str(body[name])[:_LONGEST]
    for name in _NUMBERS:
        number = float(body.get(name) or 0)
        if not 0 <= number < 1e15:
            raise ValueError(f"{name} is {number}")
        found[name] = number
    return found | {name: bool(body.get(name)) for name in _FLAGS}


def _matching(pattern: re.Pattern[str], text: Any) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ValueError(f"not allowed: {text!r}")
    return text


def _natural(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 1 << 60:
        raise ValueError(f"not a size: {number!r}")
    return number
