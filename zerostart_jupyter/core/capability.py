"""Whether something works here: a value with its reason, not an exception."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Capability:
    """What `doctor` prints a line of: a name, whether it works here, why not, what to do."""

    name: str
    ok: bool
    reason: str
    remedy: str = ""

    def __bool__(self) -> bool:
        return self.ok

    def as_json(self) -> dict[str, str | bool]:
        """The object `zerostart doctor --json` prints: name, ok, reason, remedy."""
        return asdict(self)
