"""Tab completion for the magics: options, actions, snapshot names, files."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerostart_jupyter.core.errors import ZerostartError
from zerostart_jupyter.jupyter.magics import ACTIONS, NAMING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from zerostart_jupyter.jupyter.config import Zerostart

_LINE = re.compile(r"^\s*(?:[\w.]+\s*=\s*)?%{1,2}(zs_install|zs_load|zs_snapshot)\s+(.*)$", re.S)
_OPTION = re.compile(r"--[a-z-]+")
_VALUES = {
    "--device": ("auto", "cpu", "cuda:0"),
    "--reader": ("auto", "mmap", "direct", "cufile"),
    "--dtype": ("bf16", "fp16", "fp32"),
    "--tier": ("auto", "process", "portable"),
}


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
            found = self.complete(context.text_until_cursor)
            return {
                "completions": [SimpleCompletion(text, type="magic") for text in found],
                "matched_fragment": _fragment(context.text_until_cursor),
                "suppress": bool(found),
            }

        self._matcher = zerostart_matcher
        self._shell.Completer.custom_matchers.append(zerostart_matcher)

    def close(self) -> None:
        """Take the matcher away."""
        if self._matcher is not None:
            self._shell.Completer.custom_matchers.remove(self._matcher)
            self._matcher = None

    def complete(self, text: str) -> list[str]:
        """What may stand at the end of this line, in full words."""
        match = _LINE.match(text.rsplit("\n", 1)[-1])
        if match is None:
            return []
        magic, rest = match.groups()
        words = rest.split()
        fragment = _fragment(text)
        before = words[:-1] if fragment else words
        return sorted(
            word for word in self._candidates(magic, before, fragment) if word.startswith(fragment)
        )

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


def _fragment(text: str) -> str:
    return re.split(r"\s", text)[-1]


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
