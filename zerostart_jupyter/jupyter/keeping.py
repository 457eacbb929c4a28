"""`%zs_install --save`: the cell that ran becomes the notebook's PEP 723 cell.

The notebook is open in a frontend and belongs to it: the frontend is asked to exchange the text
of the cell, and the file is left alone. A terminal shows the block instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerostart_jupyter.core.errors import RequirementError
from zerostart_jupyter.install import blocks, cells

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_SAVING = re.compile(r"%zs_install\b[^\n]*--save\b[^\n]*")


def executed(shell: InteractiveShell) -> Iterator[str]:
    """The cells that ran in this session as they were typed, the running one first."""
    running = _running(shell)
    if running is not None:
        yield running
    history: Any = shell.history_manager
    yield from reversed(history.input_hist_raw if history is not None else [])


def check(specs: Sequence[str], body: str | None, files: Sequence[Path]) -> None:
    """Raise RequirementError, before anything is installed, for what cannot be saved."""
    if files:
        raise RequirementError(
            "A `# /// script` block cannot name a requirements file.",
            remedy="Put its lines into a cell that begins with %%zs_install --save.",
        )
    wanted = _wanted(specs, body)
    blocks.check(wanted)
    if not wanted and (body is None or blocks.body(body) is None):
        raise RequirementError(
            "Nothing was named that could be saved.", remedy="Name packages before --save."
        )


def save(
    shell: InteractiveShell,
    specs: Sequence[str],
    body: str | None,
    options: str,
    notebook: Path | None,
) -> None:
    """Have the frontend write the block into the running cell, above `%zs_install options`."""
    wanted = _wanted(specs, body)
    magic = f"%zs_install {options}".rstrip()
    running = _running(shell)
    own = cells.block(running) if running is not None else None
    block = own
    if own is None and body is not None:
        block = blocks.body(body)
    if block is None:
        block = _elsewhere(shell, notebook)
        if block is not None:
            print("Delete the cell with the notebook's older `# /// script` block.")
    if body is not None:
        replaced = f"{magic}\n"
    else:
        replaced = _SAVING.sub(lambda _: magic, running or "", count=1)
    new = blocks.written(replaced, wanted, block).rstrip("\n")
    if running is None or (body is None and not _SAVING.search(running)):
        print(new)
        return
    shell.set_next_input(new, replace=True)


def _wanted(specs: Sequence[str], body: str | None) -> list[str]:
    lines: list[str] = []
    if body is not None and blocks.body(body) is None:
        lines = [re.sub(r"(^|\s)#.*$", "", line).strip() for line in body.splitlines()]
    return [*specs, *(line for line in lines if line)]


def _running(shell: InteractiveShell) -> str | None:
    """The text of the cell that runs in a kernel, None in a terminal."""
    parent: Any = getattr(shell, "get_parent", dict)()
    code = parent.get("content", {}).get("code")
    return code if isinstance(code, str) else None


def _elsewhere(shell: InteractiveShell, notebook: Path | None) -> str | None:
    found = cells.latest_block(executed(shell))
    if found is None and notebook is not None:
        found = cells.notebook_block(notebook)
    return found
