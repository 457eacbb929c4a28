"""Who needs whom: the dependency closure of a distribution within a lock, as METADATA arrives."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


class Closure:
    """Requirements of the distributions of one lock. Those not yet known count as having none.

    `asked` are the extras that were asked for from outside, by name. `of()` takes no lock, so
    that a forked child may call it whatever its parent's threads were doing.
    """

    def __init__(self, names: Iterable[str], asked: Mapping[str, Iterable[str]]) -> None:
        self._names = frozenset(names)
        self._extras: dict[str, set[str]] = {name: set(extras) for name, extras in asked.items()}
        self._lines: dict[str, tuple[str, ...]] = {}
        self._requires: dict[str, tuple[tuple[str, ...], list[Requirement]]] = {}
        self._lock = threading.Lock()

    def learn(self, name: str, requires: Iterable[str]) -> None:
        """Take a distribution's Requires-Dist lines; what cannot be read is left to uv."""
        lines = tuple(requires)
        with self._lock:
            self._lines[name] = lines
            if any("[" in line for line in lines):
                self._spread_extras(name)

    def of(self, name: str) -> set[str]:
        """The distribution and all that it needs, as far as is known."""
        found: set[str] = set()
        todo = [name]
        while todo:
            each = todo.pop()
            if each not in found:
                found.add(each)
                todo += [canonicalize_name(needed.name) for needed in self._needed(each)]
        return found

    def _needed(self, name: str) -> list[Requirement]:
        extras = self._extras.get(name, set()) | {""}
        return [
            requirement
            for requirement in self._read(name)
            if requirement.marker is None or any(_holds(requirement, each) for each in extras)
        ]

    def _read(self, name: str) -> list[Requirement]:
        """Its requirements within the lock: read when somebody asks, as most are never asked for,
        and again where it has told of others since."""
        lines = self._lines.get(name, ())
        of, found = self._requires.get(name, ((), []))
        if of is lines:
            return found
        found = []
        for line in lines:
            start = _NAME.match(line)  # most extras name what nobody asked for
            if start and canonicalize_name(start.group(1)) not in self._names:
                continue
            try:
                requirement = Requirement(line)
            except InvalidRequirement:
                continue
            if requirement.marker is not None and "extra" not in str(requirement.marker):
                if not requirement.marker.evaluate():
                    continue
                requirement.marker = None
            found.append(requirement)
        self._requires[name] = lines, found
        return found

    def _spread_extras(self, name: str) -> None:
        changed = [name]
        while changed:
            for requirement in self._needed(changed.pop()):
                if requirement.extras:
                    other = canonicalize_name(requirement.name)
                    known = self._extras.setdefault(other, set())
                    if not requirement.extras <= known:
                        known.update(requirement.extras)
                        changed.append(other)


def _holds(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})
