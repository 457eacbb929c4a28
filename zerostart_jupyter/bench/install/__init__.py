"""Installs beside uv's: the same wheels, the same loopback server, by turns, whole commands.

`table` runs the `rows`; `wheels` has the sets, `servers` the links, `subjects` the commands,
`turns` the measuring. The wheels are real ones, pinned, fetched once with this machine's settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zerostart_jupyter.bench.report import Report


def measure(
    rounds: int, note: Callable[[str], None], *, sets: Sequence[str] = (), only: str = ""
) -> Report:
    """The rows of these sets, all by default, whose name has `only` in it. Raises SettingsError
    for a set that there is not."""
    # Servers and clients are modules of this package and processes of their own, and stay small.
    from zerostart_jupyter.bench.install import table

    return table.measure(rounds, note, sets=sets, only=only)
