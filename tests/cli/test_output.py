from __future__ import annotations

import argparse
import io

import pytest

from zerostart_jupyter.cli import output
from zerostart_jupyter.core.events import Hub, operation


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def args(json: bool) -> argparse.Namespace:
    return argparse.Namespace(json=json)


def test_json_or_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit(args(True), {"a": 1}, "text")
    output.emit(args(False), {"a": 1}, "text")
    output.emit(args(False), {"a": 1}, "")
    assert capsys.readouterr().out == '{"a": 1}\ntext\n'


def test_a_terminal_sees_progress_and_is_left_clean() -> None:
    hub, terminal = Hub(), Terminal()
    shown = output.progress(args(False), stream=terminal, source=hub)
    with shown, operation("load", "model", hub=hub) as work:
        work.update("", 50, 100)
        hub.flush()
    assert "Loading model" in terminal.getvalue()
    assert " 50%" in terminal.getvalue()
    assert terminal.getvalue().endswith(output.CLEAR)


@pytest.mark.parametrize(("stream", "json"), [(io.StringIO(), False), (Terminal(), True)])
def test_nobody_else_sees_progress(stream: io.StringIO, json: bool) -> None:
    hub = Hub()
    with output.progress(args(json), stream=stream, source=hub), operation("load", "m", hub=hub):
        hub.flush()
    assert stream.getvalue() == ""
