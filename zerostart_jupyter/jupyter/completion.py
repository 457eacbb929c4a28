"""Tab completion for the magics: options, actions, snapshot names, files."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from IPython.utils.process import arg_split  # type: ignore[attr-defined]  # as the magics do

from zerostart_jupyter.core.errors import ZerostartError
from zerostart_jupyter.jupyter.magics import ACTIONS, NAMING, unquote

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from zerostart_jupyter.jupyter.config import Zerostart

_LINE = re.compile(r"^\s*(?:[\w.]+\s*=\s*)?%{1,2}(zs_install|zs_load|zs_snapshot)\s+(.*)$", re.S)
_QUOTES = ('"', "'")
_OPTION = re.compile(r"--[a-z-]+")
_VALUES = {
    "--device": ("auto", "cpu", "cuda:0"),
    "--reader": ("auto", "mmap", "direct", "cufile"),
    "--dtype": ("bf16", "fp16", "fp32"),
    "--tier": ("auto", "process", "portable"),
}


class _Line(NamedTuple):
    magic: str
    before: list[str]
    fragment: str  # the word at the cursor as it is written, with the quote that it begins with


class Completion:
    """A v2 matcher of IPython's completer."""

    def __init__(self, shell: InteractiveShell, config: Zerostart) -> None:
        self._shell = shell
        self._config = config
        self._matcher: Callable[[Any], Any] | None = None

    def open(self) -> None:
        """Register the matcher."""
        from IPython.core.completer import SimpleCompletion, context_matcher

        @context_matcher()  # type: ignore[untyped-decorator]
        def zerostart_matcher(context: Any) -> dict[str, Any]:
            after = context.line_with_cursor[context.cursor_position :]
            found = self.complete(context.text_until_cursor, after)
            line = _line(context.text_until_cursor)
            return {
                "completions": [SimpleCompletion(text, type="magic") for text in found],
                "matched_fragment": line.fragment if line else "",
                "suppress": bool(found),
            }

        self._matcher = zerostart_matcher
        self._shell.Completer.custom_matchers.append(zerostart_matcher)

    def close(self) -> None:
        """Take the matcher away."""
        if self._matcher is not None:
            self._shell.Completer.custom_matchers.remove(self._matcher)
            self._matcher = None

    def complete(self, text: str, after: str = "") -> list[str]:
        """What may stand at the end of this text, in full words, quoted where they must be.

        `after` is the rest of the line: an editor may have closed a quote there already.
        """
        line = _line(text)
        if line is None:
            return []
        quote = line.fragment[:1] if line.fragment[:1] in _QUOTES else ""
        typed = unquote(line.fragment).removeprefix(quote)
        words = [each for each in self._candidates(*line[:2], typed) if each.startswith(typed)]
        closed = quote != "" and after.startswith(quote)
        written = (_written(each, quote, closed=closed) for each in words)
        return sorted(filter(None, written))

    def _candidates(self, magic: str, before: list[str], fragment: str) -> list[str]:
        if fragment.startswith("-"):
            return [option for option in self._options(magic) if option not in before]
        last = before[-1] if before else ""
        if last in _VALUES:
            return list(_VALUES[last])
        if last == "--into":
            return [name for name in self._shell.user_ns if not name.startswith("_")]
        if last in ("-r", "--requirement"):
            return _files(fragment, (".txt", ".in", ".toml"))
        if magic == "zs_load":
            return _files(fragment, (".safetensors", ".json"))
        if magic == "zs_snapshot":
            return self._snapshot_words([w for w in before if not w.startswith("-")], fragment)
        return []

    def _snapshot_words(self, before: list[str], fragment: str) -> list[str]:
        if not before:
            return list(ACTIONS)
        if before[0] == "auto":
            return ["on", "off"]
        if before[0] in NAMING and len(before) == 1:
            from zerostart_jupyter.snapshot import snapshots

            with contextlib.suppress(ZerostartError, OSError):  # Tab is no place to say it
                return [each.name for each in snapshots(self._config.settings())]
            return []
        if before[0] in ("import", "export"):
            return _files(fragment, (".zsnap",))
        return []

    def _options(self, magic: str) -> list[str]:
        function = self._shell.find_magic(magic)
        return sorted({*_OPTION.findall(function.parser.format_help())})


def _line(text: str) -> _Line | None:
    """The magic that this text ends in, if it does."""
    match = _LINE.match(text.rsplit("\n", 1)[-1])
    if match is None:
        return None
    words = arg_split(match[2], strict=False)
    last = words[-1] if words else ""
    opened = last[:1] in _QUOTES and unquote(last) == last
    fragment = last if opened or not match[2][-1:].isspace() else ""
    before = words[: len(words) - bool(fragment)]
    return _Line(match[1], [unquote(each) for each in before], fragment)


def _written(word: str, opened: str, *, closed: bool) -> str | None:
    """The word as the magics' parser takes it; None if it cannot be: in quotes it has no escapes.

    The quote of a directory stays open, so that the next Tab goes on in it.
    """
    if not opened and word[:1] not in _QUOTES and not re.search(r"\s", word):
        return word
    for quote in opened if closed else dict.fromkeys((*opened, *_QUOTES)):
        if quote not in word and "\n" not in word:
            return quote + word + ("" if closed or word.endswith("/") else quote)
    return None


def _files(fragment: str, suffixes: tuple[str, ...]) -> list[str]:
    start = os.path.expanduser(fragment)
    found = []
    for name in glob.glob(glob.escape(start) + "*"):
        word = fragment + name.removeprefix(start)
        if Path(name).is_dir():
            found.append(word + "/")
        elif name.endswith(suffixes):
            found.append(word)
    return found
