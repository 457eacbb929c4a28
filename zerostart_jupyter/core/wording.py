"""The words for what runs: the same line in a cell, in a console and on a terminal.

Sizes in GiB or MiB, rates in GB/s or MB/s, times in seconds.
"""

from __future__ import annotations

from zerostart_jupyter.core.activity import OperationView
from zerostart_jupyter.core.events import State

_DOING = {
    "install": "Installing",
    "import": "Importing",
    "plan": "Planning",
    "verify": "Verifying",
    "load": "Loading",
    "snapshot": "Saving snapshot",
    "restore": "Restoring",
    "export": "Exporting",
    "park": "Parking",
    "wake": "Waking",
    "setup": "Setting up",
}
_DID = {
    "install": "Installed",
    "import": "Imported",
    "plan": "Planned",
    "verify": "Verified",
    "load": "Loaded",
    "snapshot": "Saved snapshot",
    "restore": "Restored",
    "export": "Exported",
    "park": "Parked",
    "wake": "Woke",
    "setup": "Set up",
}
BAR = 24  # characters of a full bar where there is room
_LEAST = 6  # where there is none


def size(count: float) -> str:
    """Bytes in a unit a person reads: 512 B, 3.2 MiB, 1.4 GiB."""
    if count < 1 << 10:
        return f"{count:.0f} B"
    if count < 1 << 20:
        return f"{count / (1 << 10):.0f} KiB"
    if count < 1 << 30:
        return f"{count / (1 << 20):.1f} MiB"
    return f"{count / (1 << 30):.2f} GiB"


def rate(per_second: float) -> str:
    """Bytes a second: 12.3 MB/s, 1.6 GB/s."""
    return f"{per_second / 1e9:.2f} GB/s" if per_second >= 1e9 else f"{per_second / 1e6:.1f} MB/s"


def seconds(count: float) -> str:
    """Seconds as a person says them: 0.04 s, 3.2 s, 2 min 5 s."""
    if count < 1:
        return f"{count:.2f} s"
    if count < 60:
        return f"{count:.1f} s"
    return f"{int(count // 60)} min {int(count % 60)} s"


def counted(count: int, noun: str) -> str:
    """So many of them: 1 wheel, 3 wheels."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def line(view: OperationView, *, width: int = 100, more: int = 0, why: bool = True) -> str:
    """One line on an operation; what runs is cut to `width` characters.

    It may speak of `more` operations that went the same way, and leave out `why` one failed.
    """
    return _closing(view, more, why) if view.state.final else _running(view, width)[:width]


def _running(view: OperationView, width: int) -> str:
    parts = [f"{_DOING.get(view.kind, view.kind)} {view.title}"]
    if view.unit == "bytes" and view.done:
        whole = f" of {size(view.total)}" if view.total else ""
        parts.append(f"{size(view.done)}{whole}, {rate(view.rate)}")
    if view.seconds_left is not None:
        parts.append(f"{seconds(view.seconds_left)} left")
    if view.current:
        parts.append(view.current)
    if view.total:
        share = min(1.0, view.done / view.total)
        room = width - len("  ".join(parts)) - len("   100%")
        bar = max(_LEAST, min(BAR, room))
        parts.insert(1, f"{'━' * round(share * bar):<{bar}} {share:4.0%}")
    return "  ".join(parts)


def _closing(view: OperationView, more: int, why: bool) -> str:
    title = f"{view.title} and {more} more" if more else view.title
    if view.state is State.CANCELLED:
        were = "were" if more else "was"
        return f"✗ {_DOING.get(view.kind, view.kind)} {title} {were} cancelled."
    if view.state is State.FAILED:
        reason = f": {view.error}" if why else "."
        return f"✗ {_DOING.get(view.kind, view.kind)} {title} failed{reason}"
    amount = f": {size(view.done)}" if view.unit == "bytes" and view.done else ""
    return f"✓ {_DID.get(view.kind, view.kind)} {title}{amount} in {seconds(view.seconds)}"
