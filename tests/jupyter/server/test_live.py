"""The server beside real kernels that install and load: shown, cancelled, and outlived.

The kernels are not the server's own: as those of a console or of VS Code, they go on without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jupyter_client.manager import KernelManager

from tests.install.wheels import Wheel, make, noise
from tests.jupyter.conftest import Kernel
from tests.servers.hub import Hub
from tests.servers.index import Behaviour, Index
from tests.servers.jupyter import PATIENCE, Jupyter, environment, serve, until

pytestmark = pytest.mark.timeout(900)  # two servers and three kernels have to start
API = "zerostart/api"
MIB = 1 << 20


@contextlib.contextmanager
def kernel(home: Path, name: str) -> Iterator[Kernel]:
    """A kernel that keeps to `home`, with the extension loaded."""
    ours = ("PIP_", "UV_", "ZS_")
    kept = {key: value for key, value in environment(home).items() if not key.startswith(ours)}
    kept |= {"PIP_CONFIG_FILE": os.devnull, "UV_CACHE_DIR": str(home / "uv"), "ZS_CHUNK_MB": "1"}
    (home / "runtime").mkdir(exist_ok=True)
    connection = str(home / "runtime" / f"kernel-{name}.json")
    manager = KernelManager(kernel_name="python3", connection_file=connection)
    manager.start_kernel(cwd=str(home), env=kept)
    client = manager.client()
    client.start_channels(hb=False)
    try:
        client.wait_for_ready(timeout=PATIENCE)
        made = Kernel(manager, client)
        made.run("%load_ext zerostart", timeout=PATIENCE)
        yield made
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def one(server: Jupyter) -> Iterator[Kernel]:
    with kernel(server.home, "one") as made:
        yield made


@pytest.fixture(scope="module")
def two(server: Jupyter) -> Iterator[Kernel]:
    with kernel(server.home, "two") as made:
        yield made


@pytest.fixture
def index() -> Iterator[Index]:
    with Index() as running:
        yield running


def held(index: Index, name: str) -> tuple[Wheel, threading.Event]:
    """A wheel of the index whose bytes do not come before the event is set."""
    wheel = make(name, files={f"{name}.py": b"", f"{name}_data.bin": noise(3 * MIB)})
    index.wheels[wheel.filename] = wheel
    gate = threading.Event()
    index.behaviour[wheel.filename] = Behaviour(hold=gate)
    return wheel, gate


@pytest.fixture
def weights() -> Iterator[Hub]:
    """A server with a checkpoint of 8 MiB, whose bytes do not come before `hold` is set."""
    tensor = {"dtype": "U8", "shape": [8 * MIB], "data_offsets": [0, 8 * MIB]}
    header = json.dumps({"weight": tensor}).encode()
    model = struct.pack("<Q", len(header)) + header + bytes(8 * MIB)
    with Hub({"model.safetensors": model}) as running:
        running.behaviour.hold = threading.Event()
        running.behaviour.hold_from = MIB
        yield running


def operations(http: httpx.Client, kernel: str, *, kind: str) -> list[dict[str, Any]]:
    """What the server says of a kernel's installs or loads that are under way, newest last."""
    sources = http.get(f"{API}/activity").json()["sources"]
    known = [
        each for source in sources if source["kernel"] == kernel for each in source["operations"]
    ]
    return [each for each in known if each["kind"] == kind and each["state"] == "running"]


def running(http: httpx.Client, kernel: str, *, kind: str) -> dict[str, Any]:
    return until(lambda: operations(http, kernel, kind=kind), f"{kernel} to {kind}")[-1]


def cancel(http: httpx.Client, kernel: str, operation: dict[str, Any]) -> None:
    answer = http.post(f"{API}/kernels/{kernel}/operations/{operation['id']}/cancel")
    assert answer.status_code == 204, answer.text


def reply(kernel: Kernel, request: str) -> dict[str, Any]:
    """The content of the reply to a cell that was sent before."""
    while True:
        message = kernel.client.get_shell_msg(timeout=PATIENCE)
        if message["parent_header"].get("msg_id") == request:
            content: dict[str, Any] = message["content"]
            return content


def test_work_of_several_kernels_is_shown_and_cancelled_one_by_one(
    http: httpx.Client, one: Kernel, two: Kernel, index: Index, weights: Hub
) -> None:
    held(index, "slowly")
    installing = one.client.execute(f"%zs_install slowly --wait --index-url {index.url}")
    loading = two.client.execute(
        f"%zs_load {weights.address('model.safetensors')} --into weights --device cpu"
    )
    install, load = running(http, "one", kind="install"), running(http, "two", kind="load")
    cancel(http, "two", load)
    assert reply(two, loading)["ename"] == "Cancelled"
    assert running(http, "one", kind="install")["id"] == install["id"]
    cancel(http, "one", install)
    assert reply(one, installing)["ename"] == "Cancelled"
    until(lambda: not operations(http, "one", kind="install"), "the install to end")
    until(lambda: not operations(http, "two", kind="load"), "the load to end")
    assert one.attempt("import slowly")[1]["ename"] == "Cancelled"
    assert two.attempt("weights")[1]["ename"] == "NameError"


@contextlib.contextmanager
def keeping_the_gil(kernel: Kernel, home: Path) -> Iterator[None]:
    """The kernel is in a call of C that gives no thread of Python a turn, until the end."""
    pipe = home / "gil"
    os.mkfifo(pipe)
    code = f"import ctypes, os; end = os.open({str(pipe)!r}, os.O_RDONLY)\n"
    code += "ctypes.PyDLL(None).read(end, ctypes.create_string_buffer(1), 1)"  # PyDLL keeps it
    request = kernel.client.execute(code)
    with pipe.open("wb", buffering=0) as end:  # opens once the kernel is there
        try:
            yield
        finally:
            end.write(b"1")
    assert reply(kernel, request)["status"] == "ok"
    pipe.unlink()


@contextlib.contextmanager
def stopped(kernel: Kernel, home: Path) -> Iterator[None]:
    """No thread of the kernel runs at all, as while it is being dumped."""
    pid = kernel.manager.provisioner.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("still", [keeping_the_gil, stopped])
def test_a_kernel_that_stands_still_is_shown_while_others_move_and_obeys_afterwards(
    server: Jupyter,
    http: httpx.Client,
    one: Kernel,
    two: Kernel,
    index: Index,
    weights: Hub,
    still: Callable[[Kernel, Path], contextlib.AbstractContextManager[None]],
) -> None:
    name = f"behind-{still.__name__.replace('_', '-')}"
    held(index, name)
    one.run(f"%zs_install {name} --index-url {index.url}", timeout=PATIENCE)
    install = running(http, "one", kind="install")
    with still(one, server.home), server.events() as events:
        source = weights.address("model.safetensors")
        loading = two.client.execute(f"%zs_load {source} --into weights --device cpu")
        load = running(http, "two", kind="load")
        assert weights.behaviour.hold
        weights.behaviour.hold.set()
        seen = [(-1.0, "")]
        while seen[-1][1] != "done":
            told = json.loads(events.recv())
            for event in told.get("events", ()) if told.get("kernel") == "two" else ():
                if (event["operation"], event["item"]) == (load["id"], ""):
                    seen.append((event["done"], event["state"]))
        assert seen[-1][0] >= 8 * MIB
        assert reply(two, loading)["status"] == "ok"
        assert running(http, "one", kind="install")["id"] == install["id"]
        cancel(http, "one", install)
    until(lambda: not operations(http, "one", kind="install"), "the install to end")
    assert one.attempt(f"import {name.replace('-', '_')}")[1]["ename"] == "Cancelled"


def test_a_server_that_is_started_anew_shows_and_cancels_what_it_did_not_see_begin(
    tmp_path: Path, index: Index
) -> None:
    _, gate = held(index, "kept")
    held(index, "given-up")
    with kernel(tmp_path, "long") as working:
        with serve(tmp_path) as first, first.client() as http:
            for name in ("kept", "given-up"):
                working.run(f"%zs_install {name} --index-url {index.url}", timeout=PATIENCE)
            until(lambda: len(operations(http, "long", kind="install")) == 2, "both installs")
            before = [each["id"] for each in operations(http, "long", kind="install")]
        with serve(tmp_path) as second, second.client() as http:
            until(lambda: len(operations(http, "long", kind="install")) == 2, "both installs")
            shown = operations(http, "long", kind="install")
            assert [each["id"] for each in shown] == before
            cancel(http, "long", shown[1])
            until(lambda: len(operations(http, "long", kind="install")) == 1, "one to be cancelled")
            gate.set()
            until(lambda: not operations(http, "long", kind="install"), "the other to end")
        working.run("import kept", timeout=PATIENCE)
        assert working.attempt("import given_up")[1]["ename"] == "Cancelled"
