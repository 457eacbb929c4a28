"""Wheels of what is installed here, so that examples find their packages without a network."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import distribution

from tests.install.wheels import Wheel, finish, make, members, pack


def whole(name: str) -> Wheel:
    """A wheel with the files of an installed distribution."""
    found = distribution(name)
    files = {
        each.as_posix(): each.locate().read_bytes()
        for each in found.files or ()
        if not {"..", "__pycache__"} & set(each.parts) and not each.parts[0].endswith(".dist-info")
    }
    metadata = found.read_text("METADATA")
    assert files, name
    assert metadata, name
    entries = members(name, found.version, files, metadata=metadata)
    stored = [replace(each, method=0) for each in entries]  # packing it well would take longer
    return finish(name, found.version, pack(stored))


def by_name(name: str) -> Wheel:
    """A wheel with the name and version of what is installed, and nothing in it.

    For what is too large to pack: it installs, and an import finds what is installed.
    """
    return make(name, distribution(name).version, files={})
