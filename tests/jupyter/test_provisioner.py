"""The provisioner: kernels as Jupyter launches them, and snapshots in their place."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from jupyter_client.manager import KernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from tests.snapshot import conftest as snapshots
from tests.snapshot.kernels import Kernel, kernel
from zerostart_jupyter import snapshot
from zerostart_jupyter.jupyter import provisioner
from zerostart_jupyter.jupyter.provisioner import ZerostartProvisioner, adopt
from zerostart_jupyter.snapshot.launch import command

private = snapshots.private
with_criu = snapshots.with_criu


@pytest.fixture
def saved(with_criu: Path) -> Iterator[Kernel]:
    """A kernel with x = 1 that was saved as `one`, and has x = 2 since."""
    with kernel() as made:
        made.run("import zerostart_jupyter.snapshot as z; x = 1\nz.snapshot('one')")
        made.run("x = 2")
        yield made


@pytest.fixture
def ordinary(with_criu: Path) -> str:
    """A kernelspec whose provisioner is ours and that names no snapshot."""
    folder = with_criu / "jupyter_data_dir" / "kernels" / "ours"
    folder.mkdir(parents=True)
    spec = {
        "argv": ["python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Ours",
        "language": "python",
        "metadata": {"kernel_provisioner": {"provisioner_name": "zerostart-test"}},
    }
    (folder / "kernel.json").write_text(json.dumps(spec))
    return "ours"


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our provisioner under a name of its own, whether or not the package is installed."""
    from importlib.metadata import EntryPoint

    from jupyter_client.provisioning.factory import KernelProvisionerFactory

    entry = EntryPoint(
        "zerostart-test",
        "zerostart_jupyter.jupyter.provisioner:ZerostartProvisioner",
        KernelProvisionerFactory.GROUP_NAME,
    )
    factory = KernelProvisionerFactory.instance()
    monkeypatch.setitem(factory.provisioners, "zerostart-test", entry)


def test_an_ordinary_launch_is_as_ever(ordinary: str, registered: None) -> None:
    with kernel(ordinary) as made:
        assert isinstance(made.manager.provisioner, ZerostartProvisioner)
        assert made.run("1 + 1") == "2"
        assert psutil.Process(made.pid).children() == []


@pytest.mark.parametrize("adopted", [False, True])
def test_an_ordinary_users_kernel_starts_below_the_launcher_unless_it_was_adopted(
    ordinary: str, registered: None, monkeypatch: pytest.MonkeyPatch, *, adopted: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(provisioner.privileges, "missing", lambda: ["CAP_SYS_ADMIN"])
    manager = KernelManager(kernel_name=ordinary, connection_file="/tmp/kernel-1.json")
    made = ZerostartProvisioner(kernel_id="1", kernel_spec=manager.kernel_spec, parent=manager)
    made.adopted = adopted
    plain = ["python3", "-m", "ipykernel_launcher", "-f", "/tmp/kernel-1.json"]
    before = [*command("launcher", "-f", "/tmp/kernel-1.json"), "--", *plain]
    assert made._command(None, plain) == (None if adopted else before)
    assert made._command(None, before) is None  # a kernelspec that has it already


@pytest.mark.criu
def test_a_snapshot_named_by_the_environment(
    saved: Kernel, ordinary: str, registered: None
) -> None:
    with kernel(ordinary, env=os.environ | {"ZEROSTART_RESTORE": "one"}) as made:
        assert made.run("x") == "1"


@pytest.mark.criu
def test_a_kernel_that_local_provisioner_started_is_adopted(saved: Kernel) -> None:
    manager = saved.manager
    assert type(manager.provisioner) is LocalProvisioner
    kernel_id, connection = manager.kernel_id, saved.connection

    ours = adopt(manager)
    assert adopt(manager) is ours
    assert manager.is_alive()
    ours.restore_from = snapshot.show("one").id
    manager.restart_kernel(now=True)
    saved.client.wait_for_ready(timeout=60)

    assert saved.run("x") == "1"
    assert (manager.kernel_id, saved.connection) == (kernel_id, connection)
    assert ours.restore_from is None  # the next restart is an ordinary one


@pytest.mark.criu
def test_a_busy_kernel_is_restored_too(saved: Kernel) -> None:
    saved.client.execute("while True: pass")
    adopt(saved.manager).restore_from = "one"
    saved.manager.restart_kernel(now=True)
    saved.client.wait_for_ready(timeout=60)
    assert saved.run("x") == "1"


@pytest.mark.criu
def test_a_dead_kernel_is_restored_too(saved: Kernel) -> None:
    os.kill(saved.pid, 9)
    saved.manager.provisioner.process.wait()
    adopt(saved.manager).restore_from = "one"
    saved.manager.restart_kernel(now=True)
    saved.client.wait_for_ready(timeout=60)
    assert saved.run("x") == "1"


@pytest.mark.criu
def test_the_way_a_server_restores(saved: Kernel) -> None:
    async def restore() -> tuple[str, str]:
        manager = AsyncMultiKernelManager()
        key = await manager.start_kernel()
        try:
            adopt(manager.get_kernel(key)).restore_from = snapshot.show("one").id
            await manager.restart_kernel(key, now=True)
            client = manager.get_kernel(key).client()
            client.start_channels()
            await client.wait_for_ready(timeout=60)
            reply = await client.execute("", user_expressions={"x": "x"}, reply=True, timeout=60)
            client.stop_channels()
            return key, reply["content"]["user_expressions"]["x"]["data"]["text/plain"]
        finally:
            await manager.shutdown_kernel(key, now=True)

    key, x = asyncio.run(restore())
    assert key
    assert x == "1"


@pytest.mark.criu
def test_a_snapshot_that_is_gone_is_a_kernel_that_died(saved: Kernel) -> None:
    manager = KernelManager()
    manager.start_kernel()
    adopt(manager).restore_from = "nothing"
    manager.restart_kernel(now=True)
    assert manager.provisioner.process.wait(60) == 1
    manager.shutdown_kernel(now=True)
