"""The cells of a notebook, which of them holds its PEP 723 block, and files that get one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import RequirementError
from zerostart_jupyter.install import blocks

# Other cell magics take a cell's text as data: a script that is written to a file, say.
_DATA = re.compile(r"\s*%%(?!zs_install\b|time\b|timeit\b|capture\b|prun\b)")


def block(cell: str) -> str | None:
    """The inside of the block that a cell's code has, or None."""
    return None if _DATA.match(cell) else blocks.body(cell)


def latest_block(cells: Iterable[str]) -> str | None:
    """The block of the first of these that has one."""
    return next((found for cell in cells if (found := block(cell)) is not None), None)


def notebook_block(notebook: Path) -> str | None:
    """The block of a notebook file, None also if it cannot be read.

    Raises RequirementError if several cells have one.
    """
    try:
        cells = read(notebook)["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    found = [
        (number, inside)
        for number, cell in enumerate(cells, 1)
        if cell.get("cell_type") == "code" and (inside := block(source(cell))) is not None
    ]
    if len(found) > 1:
        numbers = " and ".join(str(number) for number, _ in found)
        raise RequirementError(
            f"Cells {numbers} of {notebook.name} have a `# /// script` block each.",
            remedy="Keep one of them (PEP 723).",
        )
    return found[0][1] if found else None


def save(path: Path, specs: Sequence[str]) -> None:
    """Write these requirements into the block of a script or notebook that nobody has open.

    Raises RequirementError for a file of another kind, or for what a block cannot hold.
    """
    try:
        if path.suffix == ".py":
            _write(path, blocks.written(path.read_text(encoding="utf-8"), specs))
        elif path.suffix == ".ipynb":
            body = read(path)
            _save_in_cells(body, path, specs)
            _write(path, json.dumps(body, indent=1, ensure_ascii=False) + "\n")
        else:
            raise RequirementError(
                f"{path} is neither a script nor a notebook.",
                remedy="Name a .py or .ipynb file after --save.",
            )
    except (OSError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RequirementError(
            f"{path} cannot be changed: {error}.", remedy="Check the file after --save."
        ) from error


def _save_in_cells(body: dict[str, Any], path: Path, specs: Sequence[str]) -> None:
    notebook_block(path)  # no more than one
    for cell in body["cells"]:
        if cell.get("cell_type") == "code" and block(source(cell)) is not None:
            text = blocks.written(source(cell), specs).rstrip("\n")
            cell["source"] = text.splitlines(keepends=True)
            return
    text = f"{blocks.written('', specs)}%zs_install"
    made: dict[str, Any] = {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": text.splitlines(keepends=True),
    }
    if (body.get("nbformat", 4), body.get("nbformat_minor", 0)) >= (4, 5):
        made["id"] = os.urandom(4).hex()
    body["cells"].insert(0, made)


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.zs-part")
    part.write_text(text, encoding="utf-8")
    part.chmod(path.stat().st_mode & 0o7777)
    part.replace(path.resolve())


def read(notebook: Path) -> dict[str, Any]:
    """A notebook file as it is; raises OSError or ValueError."""
    body: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    return body


def source(cell: dict[str, Any]) -> str:
    """The text of a cell, which may be written as a list of lines."""
    text = cell.get("source", "")
    return text if isinstance(text, str) else "".join(text)
