"""What this machine lets the tests and the tour do, asked of `zerostart doctor`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping

from steps import VENV, Failed, with_venv

# By itself, and not in kernels that are started in a namespace: those of the tests and the tour are
# `python3`.
SNAPSHOTS = ("snapshot: process", "snapshot: permission")


def no_snapshots(environ: Mapping[str, str] | None = None) -> str | None:
    """Why kernels cannot be saved here and what to do, or None where they can."""
    command = [str(VENV / "bin" / "zerostart"), "doctor", "--json"]
    asked = subprocess.run(
        command, env=with_venv(environ), capture_output=True, text=True, check=False
    )
    try:
        found = {each["name"]: each for each in json.loads(asked.stdout)}
        unable = [found[name] for name in SNAPSHOTS if not found[name]["ok"]]
    except (ValueError, KeyError) as error:
        raise Failed(f"`zerostart doctor` did not answer: {asked.stderr.strip()}") from error
    return f"{unable[0]['reason']} {unable[0]['remedy']}" if unable else None
