"""Builds the shim and runs Python behind it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")


def compiled(folder: Path) -> Path:
    """`folder/shim.so`."""
    library = folder / "shim.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None, "these tests are marked `compiler`"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run([compiler, *options, "-o", library, SOURCE, "-ldl"], check=True)
    return library


class Faulty:
    """Runs scripts whose files below a directory fail as told."""

    def __init__(self, shim: Path, cache: Path) -> None:
        self._shim = shim
        self._cache = cache

    def environment(self, below: Path, fault: str) -> dict[str, str]:
        """What a process needs in its environment to be behind the shim."""
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "LD_PRELOAD": str(self._shim),
            "FAULT_BELOW": str(below.resolve()),
            "FAULT": fault,
            "ZEROSTART_CACHE": str(self._cache),
        }

    def start(
        self, script: str, *arguments: object, below: Path, fault: str
    ) -> subprocess.Popen[str]:
        """A Python that runs the script, its outputs piped."""
        return subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            env=self.environment(below, fault),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *arguments: object, below: Path, fault: str) -> str:
        """What the script prints; it must end well."""
        with self.start(script, *arguments, below=below, fault=fault) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return out
