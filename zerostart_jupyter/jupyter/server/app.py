"""The extension of jupyter_server: event schemas, REST handlers, and the followers behind both."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_runtime_dir
from jupyter_events import EventLogger
from jupyter_server.extension.application import ExtensionApp

from zerostart_jupyter.jupyter.server.handlers import ROUTES
from zerostart_jupyter.jupyter.server.listing import Listing
from zerostart_jupyter.jupyter.server.watcher import Watcher

ACTIVITY = "urn:zerostart:activity"
RESTORED = "urn:zerostart:restored"
SNAPSHOTS = "urn:zerostart:snapshots"


class ZerostartServer(ExtensionApp):
    """Shows what kernels write about themselves. A face: nothing needs it to work."""

    name = "zerostart_jupyter"
    extension_url = "/zerostart"
    load_other_extensions = True

    watcher: Watcher
    listing: Listing
    restoring: set[str]  # kernels whose restore is under way

    def initialize_settings(self) -> None:
        """Register the event schemas and prepare to follow; called by jupyter_server."""
        for schema in ("activity", "restored", "snapshots"):
            text = files(__package__).joinpath("schema", f"{schema}.yaml").read_text()
            self._events.register_event_schema(text)
        self.restoring = set()
        status = Path(jupyter_runtime_dir()) / "zerostart"
        self.watcher = Watcher(status, partial(self._tell, ACTIVITY))
        self.listing = Listing(partial(self._tell, SNAPSHOTS))

    def initialize_handlers(self) -> None:
        """Add the REST API below `zerostart/api/`; called by jupyter_server."""
        self.handlers.extend(ROUTES)

    def tell_restored(self, restored: Mapping[str, str]) -> None:
        """Tell every client of the server that a kernel's process is another one now."""
        self._tell(RESTORED, restored)

    @property
    def _events(self) -> EventLogger:
        assert self.serverapp is not None  # set before jupyter_server calls any of us
        assert self.serverapp.event_logger is not None
        return self.serverapp.event_logger

    async def stop_extension(self) -> None:
        """Follow no more; called by jupyter_server."""
        await self.watcher.stop()
        await self.listing.stop()

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        for follower in (self.watcher, self.listing):
            follower.start().add_done_callback(self._ended)

    def _tell(self, schema: str, data: Mapping[str, Any]) -> None:
        self._events.emit(schema_id=schema, data=dict(data))

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.log.error("zerostart tells no more of changes: %s", error, exc_info=error)
