"""Status files: progress that is readable while the process that writes it is busy or frozen.

A writer keeps one JSON file, replaced by rename, with the fold of its events. A reader (the
server extension, another process) needs nothing but the file. Beside it a file `cancel-<id>`
asks the writer to cancel that operation.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.activity import Activity
from zerostart_jupyter.core.events import Event, Hub, hub

SCHEMA = 1
POLL = 0.2  # seconds between two looks for cancel requests while an operation runs


class StatusFile:
    """Mirrors a hub into `directory/<writer>.json` until it is closed.

    `about` is stored beside the operations: who writes, for which kernel.
    """

    def __init__(
        self, directory: Path, writer: str, about: dict[str, Any], source: Hub | None = None
    ) -> None:
        self.path = directory / f"{writer}.json"
        self._directory = directory
        self._about = about
        self._hub = source or hub()
        self._activity = Activity()
        self._lock = threading.Lock()
        self._watch: threading.Thread | None = None
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write()
        self._unsubscribe: Callable[[], None] = self._hub.subscribe(self._take)

    def close(self) -> None:
        """Stop mirroring and remove the file."""
        self._unsubscribe()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        with contextlib.suppress(OSError):
            self._directory.rmdir()

    def _take(self, events: Sequence[Event]) -> None:
        with self._lock:
            self._activity = self._activity.fold(events)
            known = {event.operation for event in self._hub.known()}
            self._activity = Activity(
                {key: view for key, view in self._activity.operations.items() if key in known}
            )
            if self._watch is None and self._open():
                self._watch = threading.Thread(
                    target=self._obey, name="zerostart-status", daemon=True
                )
                self._watch.start()
            self._write()

    def _open(self) -> list[str]:
        return [key for key, view in self._activity.operations.items() if not view.state.final]

    def _write(self) -> None:
        body = {
            "schema": SCHEMA,
            "pid": os.getpid(),
            **self._about,
            "operations": self._activity.as_json(),
        }
        staging = self.path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
        staging.write_text(json.dumps(body))
        staging.replace(self.path)

    def _obey(self) -> None:
        pause = threading.Event()
        while not pause.wait(POLL):
            with self._lock:
                running = self._open()
                if not running:
                    self._watch = None
                    return
            for key in running:
                request = self._directory / f"cancel-{key}"
                if request.exists():
                    self._hub.cancel(key)
                    with contextlib.suppress(FileNotFoundError):
                        request.unlink()


def request_cancel(directory: Path, operation: str) -> None:
    """Ask the writer of this directory's status file to cancel an operation."""
    if not operation.replace("-", "").isalnum():
        raise ValueError(f"not an operation's id: {operation!r}")
    (directory / f"cancel-{operation}").touch()
