"""The commands in the README and the docs are commands that exist, with options that they take."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager

import zerostart
from zerostart_jupyter.cli.commands import parser
from zerostart_jupyter.jupyter import magics

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *(f"docs/{name}.md" for name in ("install", "load", "snapshot", "gpu"))]
OTHERS = {"jupyter", "papermill", "pip", "vllm"}  # programs that are not ours
LONGEST = 125  # lines of a page of tasks


def text(page: str) -> str:
    return (ROOT / page).read_text()


def blocks(page: str, *languages: str) -> list[str]:
    """The fenced blocks of these languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text(page), re.MULTILINE | re.DOTALL)
    return [body for language, body in found if language in languages]


def spans(page: str, beginning: str) -> list[str]:
    """What is written as code within a line and begins so."""
    prose = re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)
    return [each for each in re.findall(r"`([^`\n]+)`", prose) if each.startswith(beginning)]


def magic_lines(page: str) -> Iterator[str]:
    for block in blocks(page, "python"):
        for line in block.splitlines():
            found = re.search(r"%?%(zs_\w+.*)", re.sub(r"\s+#\s.*", "", line))
            if found:
                yield found[1]
    for span in spans(page, "%"):
        if "…" not in span and span.lstrip("%").startswith("zs_"):
            yield span.lstrip("%")


@pytest.mark.parametrize("page", PAGES)
def test_every_magic_takes_its_arguments(page: str) -> None:
    lines = list(magic_lines(page))
    assert lines
    for line in lines:
        name, _, rest = line.partition(" ")
        magic = getattr(magics.ZerostartMagics, name)
        if rest or name == "zs_install":  # else only the magic is named
            args = magics._parse(magic, rest)
            if name == "zs_snapshot":
                takes = magics.ACTIONS[args.action].split()
                # A span such as `undo` names an action; a line of a block has all it takes.
                assert not args.names or magics._fits(args.names, takes), line


@pytest.mark.parametrize("page", PAGES)
def test_every_cell_is_python_and_calls_what_there_is(page: str) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(TransformerManager().transform_cell(block))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("zerostart."):
                called = getattr(zerostart, ast.unparse(node.func).removeprefix("zerostart."))
                names = {each.arg: None for each in node.keywords if each.arg}
                inspect.signature(called).bind(*node.args, **names)


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/gpu.md"])
def test_every_command_of_a_shell_is_one(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in blocks(page, "sh", "") for line in block.splitlines()]
    lines += spans(page, "zerostart ") + spans(page, "make ")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert lines
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and "=" in words[0]:
            del words[0]  # a variable
        program, rest = words[0], words[1:]
        if program == "make":
            assert set(rest) <= targets, line
        elif program == "zerostart":
            parse(rest, line, capsys)
        else:
            assert program in OTHERS, line


def parse(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        parser(words).parse_args(words)
    except SystemExit:
        pytest.fail(f"`{line}`: {capsys.readouterr().err}")


@pytest.mark.parametrize("page", [f"docs/{name}.md" for name in ("install", "load", "snapshot")])
def test_a_page_of_tasks_is_short(page: str) -> None:
    assert len(text(page).splitlines()) <= LONGEST
