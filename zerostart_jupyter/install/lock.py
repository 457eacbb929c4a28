"""A lock: exactly which wheels, by digest, satisfy a request on this interpreter."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any

SCHEMA = 1


def interpreter() -> tuple[str, ...]:
    """What tells this interpreter and platform from another that would need other wheels."""
    return (
        sys.implementation.cache_tag or "",
        ".".join(map(str, sys.version_info[:3])),
        EXTENSION_SUFFIXES[0],  # with the ABI and the kind of libc; sysconfig would read a file
        sys.platform,
        sysconfig.get_platform(),
        os.uname().machine,
        _libc(),
        sys.base_prefix,
    )


def _libc() -> str:
    """Name and version of the C library, by which manylinux wheels are chosen; glibc's only."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError, AttributeError):
        return ""


def digest(*parts: Sequence[str]) -> str:
    """A key of 32 hex digits over lists of texts."""
    body = json.dumps([SCHEMA, *map(list, parts)], separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Locked:
    """One wheel: its file name, where it is, its sha256 in hex, its size in bytes if known."""

    name: str
    version: str
    wheel: str
    url: str
    sha256: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Lock:
    """All wheels of a request, sorted by name. A volatile lock is not to be reused; `files` are
    those of this machine that it rests on, and it is good for as long as they stay as they are."""

    packages: tuple[Locked, ...]
    volatile: bool = False
    files: tuple[str, ...] = ()

    def environment_key(self) -> str:
        """The key of the one environment that has exactly these wheels."""
        return digest(
            [f"{each.name}=={each.version} {each.sha256}" for each in self.packages], interpreter()
        )

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"packages": [asdict(each) for each in self.packages]}

    @classmethod
    def from_json(cls, body: Any) -> Lock:
        """A lock from a cached answer; raises TypeError or KeyError if it is not one."""
        return cls(tuple(Locked(**each) for each in body["packages"]))
