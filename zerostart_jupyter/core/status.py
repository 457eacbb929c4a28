"""Status files: progress that is readable while the process that writes it is busy or frozen.

A writer keeps one JSON file, replaced by rename, with the fold of its events. A reader (the
server extension, another process) needs nothing but the file. Beside it a file `cancel-<id>`
asks the writer to cancel that operation.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.activity import Activity
from zerostart_jupyter.core.events import Event, Hub, hub
from zerostart_jupyter.core.liveness import Process

log = logging.getLogger(__name__)

SCHEMA = 1
POLL = 0.2  # seconds between two looks for cancel requests while an operation runs


class StatusFile:
    """Mirrors a hub into `directory/<writer>.json` until it is closed.

    `about` is stored beside the operations: who writes, for which kernel. A file that cannot be
    written (no space, no directory) is tried again with the next event; the work never hears of it.
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
        self._owner: int | None = os.getpid()  # None once closed
        self._write()
        self._unsubscribe: Callable[[], None] = self._hub.subscribe(self._take)

    def close(self) -> None:
        """Stop mirroring and remove the file; in a forked child the file is the parent's."""
        owned = self._owner == os.getpid()
        self.abandon()
        if owned:
            with contextlib.suppress(OSError):
                self.path.unlink()
            for operation in self._activity.operations:
                with contextlib.suppress(OSError):
                    self._request(operation).unlink()
            with contextlib.suppress(OSError):
                self._directory.rmdir()

    def note(self, name: str, value: Any) -> None:
        """Say one thing more about the writer, beside its operations."""
        with self._lock:
            if self._owner is not None:
                self._about = {**self._about, name: value}
                self._write()

    def abandon(self) -> None:
        """Stop mirroring and leave the file: a restored clone finds that of its original."""
        self._unsubscribe()
        if self._owner == os.getpid():  # in a forked child somebody may hold the lock for ever
            with self._lock:
                self._owner = None

    def _take(self, events: Sequence[Event]) -> None:
        with self._lock:
            if self._owner is None:
                return
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

    def _request(self, operation: str) -> Path:
        return self._directory / f"cancel-{operation}"

    def _write(self) -> None:
        body = {
            "schema": SCHEMA,
            "process": Process.current().as_json(),
            **self._about,
            "operations": self._activity.as_json(),
        }
        text = json.dumps(body)
        staging = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            staging.touch(mode=0o600)
            staging.write_text(text)
            staging.replace(self.path)
        except OSError as error:
            log.debug("progress could not be written to %s: %s", self.path, error)
            with contextlib.suppress(OSError):
                staging.unlink()

    def _obey(self) -> None:
        while True:
            time.sleep(POLL)
            with self._lock:
                running = self._open() if self._owner is not None else []
                if not running:
                    self._watch = None
                    return
            for key in running:
                with contextlib.suppress(OSError):  # nobody asked
                    self._request(key).unlink()
                    self._hub.cancel(key)


def request_cancel(directory: Path, operation: str) -> None:
    """Ask the writer of this directory's status file to cancel an operation."""
    if not operation.replace("-", "").isalnum():
        raise ValueError(f"not an operation's id: {operation!r}")
    (directory / f"cancel-{operation}").touch()
