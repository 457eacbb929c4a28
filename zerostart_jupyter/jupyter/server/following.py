"""What looks at something again and again, for as long as the server runs."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod


class Follower(ABC):
    """Base of what follows something on the server's event loop."""

    _task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Begin to look, on the running event loop; the task ends only by `stop`."""
        self._task = asyncio.create_task(self._run(), name=f"zerostart-{type(self).__name__}")
        return self._task

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    @abstractmethod
    async def _run(self) -> None:
        """Look until cancelled."""
