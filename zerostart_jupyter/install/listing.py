"""What importlib.metadata is told of a distribution whose files are on their way."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zerostart_jupyter.install.gate import Pending


class Coming(importlib.metadata.Distribution):
    """A distribution whose dist-info is known while its files are on their way."""

    def __init__(self, pending: Pending, name: str, files: dict[str, str]) -> None:
        self._pending = pending
        self._key = name
        self._texts = files

    def read_text(self, filename: str) -> str | None:
        """A file of its dist-info, if it is known yet."""
        return self._texts.get(str(filename))

    def locate_file(self, path: Any) -> Any:
        """Where a file of it is; waits for all of them."""
        self._pending.wait([self._key])
        return self._pending.root / path
