"""The kernel provisioner: launches kernels as Jupyter does, and snapshots in their place.

Everything but the command is LocalProvisioner's: the shepherd is an ordinary process. An ordinary
user's Python kernels start below the launcher, so that they can be saved whole.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from jupyter_client.manager import KernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from zerostart_jupyter.snapshot import privileges
from zerostart_jupyter.snapshot.launch import command, python_path

VARIABLE = "ZEROSTART_RESTORE"  # names a snapshot to start from, for one launch
_TAKEN_OVER = ("process", "pid", "pgid", "ip", "ports_cached", "cwd", "connection_info")


class ZerostartProvisioner(LocalProvisioner):
    """Launches the kernelspec's command, or the shepherd of a snapshot.

    A snapshot is named by `restore_from` for the next launch only, by ZEROSTART_RESTORE in the
    launch's environment, or by the kernelspec's metadata: `{"zerostart": {"snapshot": ...}}`.
    """

    restore_from: str | None = None
    adopted = False  # a kernel that another provisioner would start: it stays as it is

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """As LocalProvisioner, with the command swapped where a snapshot is named."""
        env = dict(kwargs.get("env") or {})
        named = env.pop(VARIABLE, None)
        if "env" in kwargs:
            kwargs["env"] = env
        snapshot = self.restore_from or named or self._of_kernelspec()
        self.restore_from = None
        launch = await super().pre_launch(**kwargs)
        ours = self._command(snapshot, launch["cmd"])
        if ours is not None:
            launch["cmd"] = ours
            root = python_path()
            if root is not None:
                path = launch["env"].get("PYTHONPATH")
                launch["env"]["PYTHONPATH"] = f"{root}:{path}" if path else root
        return launch

    def _command(self, snapshot: str | None, plain: list[str]) -> list[str] | None:
        """What to run instead of the kernelspec's command; None for that itself."""
        manager = self.parent
        assert manager is not None
        file = ["-f", manager.connection_file]
        if snapshot:
            return command("shepherd", "--snapshot", snapshot, *file)
        python = self.kernel_spec.language == "python" and sys.platform == "linux"
        if not python or self.adopted or os.geteuid() == 0 or not privileges.missing():
            return None
        ours = command("launcher")[-1] in plain  # a kernelspec that says so itself
        return None if ours else command("launcher", *file, "--", *plain)

    def _of_kernelspec(self) -> str | None:
        ours = (self.kernel_spec.metadata or {}).get("zerostart")
        return ours.get("snapshot") if isinstance(ours, dict) else None


def adopt(manager: KernelManager) -> ZerostartProvisioner:
    """Give a kernel manager our provisioner, its running kernel included; returns it.

    Set `restore_from` on it and restart the kernel: it comes back from the snapshot, with the
    same kernel id and connection file. A second call returns the same one.
    """
    present = manager.provisioner
    if isinstance(present, ZerostartProvisioner):
        return present
    ours = ZerostartProvisioner(
        kernel_id=manager.kernel_id, kernel_spec=manager.kernel_spec, parent=manager
    )
    for name in _TAKEN_OVER:
        with contextlib.suppress(AttributeError):
            setattr(ours, name, getattr(present, name))
    ours.adopted = True
    manager.provisioner = ours
    return ours
