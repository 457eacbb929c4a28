from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from tests.snapshot.kernels import PATIENCE, Kernel, kernel
from zerostart_jupyter import snapshot

pytestmark = pytest.mark.criu


@contextmanager
def other(name: str, **traits: Any) -> Iterator[Kernel]:
    """A kernel whose manager was told something about the connection."""
    manager = KernelManager(kernel_name=name, **traits)
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def saved_and_back(original: Kernel) -> None:
    original.run("import zerostart_jupyter.snapshot as z; x = 1")
    assert original.attempt("s = z.snapshot('one')\nprint(s.restored)").text == "False\n"
    original.run("x = 2")
    assert original.attempt("z.restore('one')").text == "True\n"
    assert original.run("x") == "1"
    snapshot.publish("one")


def test_an_encrypted_connection(with_criu: Path) -> None:
    with other("python3", transport_encryption="required") as original:
        assert original.connection["curve_publickey"]
        saved_and_back(original)
        with other("zerostart-one", transport_encryption="required") as clone:
            assert clone.run("x") == "1"
            assert clone.connection["curve_publickey"] != original.connection["curve_publickey"]
        with kernel("zerostart-one") as plain:
            assert "curve_publickey" not in plain.connection
            assert plain.run("x") == "1"


def test_sockets_in_the_file_system(with_criu: Path) -> None:
    with other("python3", transport="ipc", ip=str(with_criu / "a")) as original:
        saved_and_back(original)
        with other("zerostart-one", transport="ipc", ip=str(with_criu / "b")) as clone:
            assert clone.run("x") == "1"
            assert original.run("x") == "1"
        with kernel("zerostart-one") as tcp:
            assert tcp.run("x") == "1"
