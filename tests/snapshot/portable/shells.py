"""A shell without a kernel: what the portable tier looks at of one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from zerostart_jupyter.snapshot.portable import reading
from zerostart_jupyter.snapshot.portable.description import Description
from zerostart_jupyter.snapshot.portable.writing import Session


def shell(**names: Any) -> Any:
    """A shell with these names."""
    history = SimpleNamespace(
        input_hist_parsed=["", "1"], input_hist_raw=["", "1"], output_hist={}, dir_hist=[]
    )
    return SimpleNamespace(
        user_ns={"__name__": "__main__", **names},
        user_ns_hidden={},
        history_manager=history,
        execution_count=2,
        extension_manager=SimpleNamespace(loaded=set()),
    )


def run(code: str, **names: Any) -> Any:
    """A shell in which this code has run."""
    made = shell(**names)
    exec(compile(code, "<cell>", "exec"), made.user_ns)
    made.user_ns.pop("__builtins__", None)
    return made


def save(saved: Any, directory: Path, **options: Any) -> Description:
    """Write a shell's names."""
    directory.mkdir()
    session = Session(saved, "0" * 16, directory, reseed=options.get("reseed", True), running=False)
    return session.write(directory, lambda done, of: None, lambda: None)


def restored(directory: Path, **names: Any) -> Any:
    """A fresh shell that has them."""
    made = shell(**names)
    found = reading.bring(Description.read(directory), directory, made, lambda count: None)
    found.give(made, fresh=True)
    return made


def through(saved: Any, directory: Path) -> tuple[dict[str, Any], Description]:
    """The names after a save and a restore, and what was said of them."""
    described = save(saved, directory)
    return restored(directory).user_ns, described
