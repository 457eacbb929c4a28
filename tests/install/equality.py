"""Two environments of the same wheels, ours and uv's, as comparable tables."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from zerostart_jupyter.install.indexes import Indexes
from zerostart_jupyter.install.resolve import find_uv

# What installers write for themselves, and what a venv has before anything is in it.
OWN = {"INSTALLER", "REQUESTED", "direct_url.json", "RECORD", "uv_cache.json", "uv_build.json"}
VENV = {"pyvenv.cfg", "CACHEDIR.TAG", ".gitignore", ".lock", "entry.json", "lib64"}
VIRTUALENV = {"_virtualenv.py", "_virtualenv.pth"}
PROGRAMS = ("python", "pydoc", "activate", "deactivate")


def uv_environment(root: Path, pins: Sequence[str], indexes: Indexes) -> None:
    """A venv with exactly these distributions, made by uv."""
    environ = {**os.environ, **indexes.environment}
    uv = find_uv()
    subprocess.run(
        [uv, "venv", "--quiet", "--python", sys.executable, str(root)], check=True, timeout=120
    )
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(root / "bin/python")]
    subprocess.run([*command, *indexes.arguments, *pins], check=True, timeout=900, env=environ)


def tree(root: Path) -> dict[str, str]:
    """Mode and digest of every file a wheel brought, by place; of programs that start with a
    line of their environment's own, what follows it; of generated ones that they are there."""
    found = {}
    for folder, _, files in os.walk(root):
        for file in files:
            path = Path(folder, file)
            name = str(path.relative_to(root))
            if not _own(path, name):
                found[name] = f"{path.stat().st_mode:o} {_content(path, name)}"
    return found


def recorded(root: Path) -> dict[str, set[str]]:
    """The paths in each RECORD, but for what installers write for themselves."""
    found = {}
    for record in root.glob("lib/python*/site-packages/*.dist-info/RECORD"):
        with open(record, encoding="utf-8", newline="") as text:
            paths = {row[0] for row in csv.reader(text) if row}
        found[record.parent.name] = {each for each in paths if Path(each).name not in OWN}
    return found


def _own(path: Path, name: str) -> bool:
    top = name.partition("/")[0]
    return (
        "__pycache__" in path.parts
        or path.is_symlink()
        or top in VENV
        or top == ".zerostart"
        or path.name in VIRTUALENV
        or (path.name in OWN and path.parent.suffix == ".dist-info")
        or (top == "bin" and path.name.startswith(PROGRAMS))
    )


def _content(path: Path, name: str) -> str:
    data = path.read_bytes()
    if name.startswith("bin/") and data.startswith(b"#!"):
        data = data.partition(b"\n")[2]
        if b"sys.exit(" in data and b"import" in data and len(data) < 1000:
            return "a program"
    return hashlib.sha256(data).hexdigest()
