"""Snapshots as kernels to choose: a kernelspec whose command is the shepherd's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from zerostart_jupyter.snapshot.launch import command, python_path

NAME = "zerostart"
DISPLAY_NAME = "Python 3 (zerostart)"


def install() -> Path:
    """Write the kernelspec whose kernels an ordinary user can save whole; returns its folder.

    It is this Python's ipykernel below the launcher.
    """
    from ipykernel.kernelspec import get_kernel_dict

    plain = get_kernel_dict()
    argv = command("launcher", "-f", "{connection_file}", "--", *plain["argv"])
    root = python_path()
    own = {"argv": argv, "display_name": DISPLAY_NAME, "interrupt_mode": "signal"}
    return _write(_kernels() / NAME, plain | own | {"env": {"PYTHONPATH": root} if root else {}})


def installed() -> bool:
    """Whether this user has that kernelspec."""
    return (_kernels() / NAME / "kernel.json").is_file()


def publish(name: str, key: str) -> Path:
    """Write the kernelspec `zerostart-NAME` into the user's Jupyter data directory.

    Every client of Jupyter starts it as it starts any kernel; a restart is a rewind.
    """
    from ipykernel.kernelspec import get_kernel_dict

    root = python_path()
    spec = {
        "argv": command("shepherd", "--snapshot", key, "-f", "{connection_file}"),
        "display_name": f"Snapshot {name}",
        "language": "python",
        "interrupt_mode": "signal",
        "env": {"PYTHONPATH": root} if root else {},
        # What ipykernel says of itself (debugger, encryption) holds for its snapshots.
        "metadata": {
            **get_kernel_dict().get("metadata", {}),
            "zerostart": {"snapshot": key, "name": name},
        },
    }
    return _write(_folder(name), spec)


def published(name: str, key: str) -> bool:
    """Whether this snapshot has a kernelspec."""
    try:
        spec = json.loads((_folder(name) / "kernel.json").read_text())
        return bool(spec["metadata"]["zerostart"]["snapshot"] == key)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def withdraw(name: str, key: str) -> bool:
    """Remove the kernelspec of this snapshot; False if there is none."""
    ours = published(name, key)
    if ours:
        shutil.rmtree(_folder(name))
    return ours


def _write(folder: Path, spec: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    staging = folder / "kernel.json.part"
    staging.write_text(json.dumps(spec, indent=1))
    staging.replace(folder / "kernel.json")
    return folder


def _folder(name: str) -> Path:
    # Jupyter finds kernels by lower-case names.
    return _kernels() / f"zerostart-{name.lower()}"


def _kernels() -> Path:
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "kernels"
