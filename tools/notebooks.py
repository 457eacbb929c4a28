"""A notebook run from top to bottom in a fresh kernel with folders of its own, and made tidy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TOUR = "tour.ipynb"  # has a restart in its middle: `make demo` and a browser's test run it
CELL_TIMEOUT = 900  # seconds; a cell that downloads torch over a slow line takes its time

# What a reader has in place of a folder of this run.
_PLACES = {"cache": "~/.cache/zerostart", "runtime": "~/.local/share/jupyter/runtime"}


def names() -> list[str]:
    """The examples that run from top to bottom."""
    return sorted(path.name for path in EXAMPLES.glob("*.ipynb") if path.name != TOUR)


def private(folder: Path) -> dict[str, str]:
    """The variables that keep all a kernel writes below `folder`."""
    return {
        "ZEROSTART_CACHE": str(folder / "cache"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "IPYTHONDIR": str(folder / "ipython"),
        # Other libraries' bars differ from run to run.
        "TQDM_DISABLE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def execute(name: str, folder: Path, environ: Mapping[str, str]) -> Any:
    """An example with the outputs it gave; raises CellExecutionError where a cell fails."""
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    client: Any = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],  # every kernel over TCP warns that it is one
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
    )
    client.execute(env=dict(environ))
    return notebook


def tidy(notebook: Any, folder: Path) -> None:
    """Have a notebook's outputs name the places that a reader has."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = _placed(output["text"], folder)
            for kind, shown in output.get("data", {}).items():
                if isinstance(shown, str):
                    output["data"][kind] = _placed(shown, folder)


def printed(cell: Any) -> str:
    """What a cell printed, its result and its error; not the progress of its work."""
    return "".join(_texts(cell))


def _texts(cell: Any) -> Iterator[str]:
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        elif output.output_type == "error":
            yield "\n".join(output.traceback) + "\n"
        elif output.output_type == "execute_result":
            yield output.data.get("text/plain", "") + "\n"


def _placed(text: str, folder: Path) -> str:
    for name, place in _PLACES.items():
        text = text.replace(str(folder / name), place)
    return text.replace(str(folder), "~")
