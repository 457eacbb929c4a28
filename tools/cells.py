"""A notebook run cell by cell in a real kernel, each cell's wall time kept under its tag."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError
from steps import Failed, say

CELL_TIMEOUT = 1800  # seconds; a cell that downloads torch over a slow line takes its time


class Run:
    """A kernel and what ran in it: seconds by tag, and what the cells of a tag printed."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.printed: defaultdict[str, str] = defaultdict(str)

    async def cell(self, tag: str, source: str) -> None:
        """Run a cell; raises Failed with its error."""
        say(f"  [{tag}] {source.splitlines()[0]}{' …' if len(source.splitlines()) > 1 else ''}")
        cell = nbformat.v4.new_code_cell(source)
        self._client.nb.cells.append(cell)
        start = time.monotonic()
        try:
            await self._client.async_execute_cell(cell, len(self._client.nb.cells) - 1)
        except (CellControlSignal, DeadKernelError) as error:
            raise Failed(f"This cell failed.\n\n{error}") from error
        took = time.monotonic() - start
        self.seconds[tag] += took
        text = "".join(map(_text, cell.outputs))
        self.printed[tag] += text
        for line in text.splitlines():
            say(f"      {line}")
        say(f"      {took:.2f} s")

    async def restart(self) -> None:
        """A fresh kernel in the same place, as after a crash or on a new day."""
        say("  [restart] the kernel ends; a fresh one takes its place")
        await self._client.km.restart_kernel(now=True)
        await self._client.kc.wait_for_ready(timeout=120)

    async def defined(self, name: str) -> bool:
        """Whether the kernel has a variable of this name."""
        reply = await self._client.kc.execute_interactive(
            "", user_expressions={"found": f"{name!r} in globals()"}, store_history=False
        )
        found: str = reply["content"]["user_expressions"]["found"]["data"]["text/plain"]
        return found == "True"


@asynccontextmanager
async def kernel(
    folder: Path, environ: Mapping[str, str], command: list[str] | None = None
) -> AsyncIterator[Run]:
    """A fresh kernel, of this environment's kernelspec or by its own command line."""
    client: Any = NotebookClient(
        nbformat.v4.new_notebook(),
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],  # every kernel over TCP warns that it is one
        resources={"metadata": {"path": str(folder)}},
    )
    client.create_kernel_manager()
    if command is not None:
        client.km.kernel_spec.argv = command
    async with client.async_setup_kernel(env=dict(environ)):
        yield Run(client)


def _text(output: Mapping[str, Any]) -> str:
    if output["output_type"] == "stream":
        return str(output["text"])
    plain = output.get("data", {}).get("text/plain", "")
    return f"{plain}\n" if plain else ""
