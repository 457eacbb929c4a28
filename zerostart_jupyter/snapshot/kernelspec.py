"""Snapshots as kernels to choose: a kernelspec whose command is the shepherd's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from zerostart_jupyter.snapshot.launch import command, python_path


def publish(name: str, key: str) -> Path:
    """Write the kernelspec `zerostart-NAME` into the user's Jupyter data directory.

    Every client of Jupyter starts it as it starts any kernel; a restart is a rewind.
    """
    from ipykernel.kernelspec import get_kernel_dict

    folder = _folder(name)
    folder.mkdir(parents=True, exist_ok=True)
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
    staging = folder / "kernel.json.part"
    staging.write_text(json.dumps(spec, indent=1))
    staging.replace(folder / "kernel.json")
    return folder


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


def _folder(name: str) -> Path:
    from jupyter_core.paths import jupyter_data_dir

    # Jupyter finds kernels by lower-case names.
    return Path(jupyter_data_dir()) / "kernels" / f"zerostart-{name.lower()}"
