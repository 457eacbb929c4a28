"""What works here, asked of every engine: the table behind `doctor` in all its faces."""

from __future__ import annotations

import sys

from zerostart_jupyter.core.capability import Capability


def doctor() -> list[Capability]:
    """Every capability with its reason and its next step; starts nothing and changes nothing."""
    from zerostart_jupyter import install, load, snapshot

    return [
        _python(),
        *install.capabilities(),
        *load.capabilities(),
        *snapshot.capabilities(),
    ]


def table(found: list[Capability]) -> str:
    """The same as text: name, works here?, why, next step."""
    width = max(len(each.name) for each in found)
    rows = []
    for each in found:
        mark = "✓" if each.ok else "✗"
        rows.append(f"{mark} {each.name:<{width}}  {each.reason}")
        if each.remedy:
            rows.append(f"  {'':<{width}}  → {each.remedy}")
    return "\n".join(rows)


def _python() -> Capability:
    version = ".".join(map(str, sys.version_info[:3]))
    return Capability("python", True, f"{sys.implementation.name} {version} at {sys.executable}")
