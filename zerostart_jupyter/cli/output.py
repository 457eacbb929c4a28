"""What a command prints: one JSON object or text on stdout, progress on stderr's terminal."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from zerostart_jupyter.core.events import Event, Hub, hub

CLEAR = "\r\x1b[K"


def add_json(parser: argparse.ArgumentParser) -> None:
    """Give a command the `--json` option."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else on stdout"
    )


def emit(
    args: argparse.Namespace, body: Mapping[str, Any] | Sequence[Mapping[str, Any]], text: str
) -> None:
    """Print the object under `--json`, else the text."""
    if getattr(args, "json", False):
        print(json.dumps(body))
    elif text:
        print(text)


@contextlib.contextmanager
def progress(
    args: argparse.Namespace, *, stream: TextIO | None = None, source: Hub | None = None
) -> Iterator[None]:
    """Show what runs on one line of a terminal, and nothing anywhere else."""
    terminal = stream or sys.stderr
    if getattr(args, "json", False) or not terminal.isatty():
        yield
        return
    bar = _Bar(terminal)
    leave = (source or hub()).subscribe(bar.take)
    try:
        yield
    finally:
        leave()
        bar.clear()


class _Bar:
    def __init__(self, terminal: TextIO) -> None:
        from zerostart_jupyter.core.activity import Activity

        self._terminal = terminal
        self._activity = Activity()

    def take(self, events: Sequence[Event]) -> None:
        self._activity = self._activity.fold(events)
        running = [view for view in self._activity.operations.values() if not view.state.final]
        if running:
            import shutil

            from zerostart_jupyter.core.wording import line

            width = shutil.get_terminal_size().columns - 1
            self._terminal.write(CLEAR + line(running[-1], width=width))
            self._terminal.flush()

    def clear(self) -> None:
        self._terminal.write(CLEAR)
        self._terminal.flush()
