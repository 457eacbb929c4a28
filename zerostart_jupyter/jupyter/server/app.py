"""The extension of jupyter_server: event schemas, REST handlers, and the watcher behind both."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_runtime_dir
from jupyter_events import EventLogger
from jupyter_server.extension.application import ExtensionApp

from zerostart_jupyter.jupyter.server.handlers import ROUTES
from zerostart_jupyter.jupyter.server.watcher import Watcher

ACTIVITY = "urn:zerostart:activity"
RESTORED = "urn:zerostart:restored"


class ZerostartServer(ExtensionApp):
    """Shows what kernels write about themselves. A face: nothing needs it to work."""

    name = "zerostart_jupyter"
    extension_url = "/zerostart"
    load_other_extensions = True

    watcher: Watcher
    restoring: set[str]  # kernels whose restore is under way

    def initialize_settings(self) -> None:
        """Register the event schemas and prepare the watcher; called by jupyter_server."""
        for schema in ("activity", "restored"):
            text = files(__package__).joinpath("schema", f"{schema}.yaml").read_text()
            self._events.register_event_schema(text)
        self.restoring = set()
        self.watcher = Watcher(Path(jupyter_runtime_dir()) / "zerostart", self._tell_activity)

    def initialize_handlers(self) -> None:
        """Add the REST API below `zerostart/api/`; called by jupyter_server."""
        self.handlers.extend(ROUTES)

    def tell_restored(self, restored: Mapping[str, str]) -> None:
        """Tell every client of the server that a kernel's process is another one now."""
        self._events.emit(schema_id=RESTORED, data=dict(restored))

    @property
    def _events(self) -> EventLogger:
        assert self.serverapp is not None  # set before jupyter_server calls any of us
        assert self.serverapp.event_logger is not None
        return self.serverapp.event_logger

    async def stop_extension(self) -> None:
        """Stop watching; called by jupyter_server."""
        await self.watcher.stop()

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        self.watcher.start().add_done_callback(self._watcher_ended)

    def _tell_activity(self, data: dict[str, Any]) -> None:
        self._events.emit(schema_id=ACTIVITY, data=data)

    def _watcher_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.log.error("zerostart shows no more progress: %s", error, exc_info=error)
