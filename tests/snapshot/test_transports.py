from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from jupyter_client.manager import KernelManager
from zmq.utils.monitor import recv_monitor_message

from tests.patience import PATIENCE, eventually
from tests.snapshot.conftest import separate, share_criu
from tests.snapshot.kernels import Cells, Kernel, kernel, ours
from zerostart_jupyter import snapshot

pytestmark = pytest.mark.criu

SOCKETS = {
    "shell": zmq.DEALER,
    "control": zmq.DEALER,
    "stdin": zmq.DEALER,
    "iopub": zmq.SUB,
    "hb": zmq.REQ,
}
REFUSED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_DISCONNECTED
)


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


@contextmanager
def encrypted(name: str) -> Iterator[Kernel]:
    """A kernel whose manager brings CURVE keys."""
    with other(name, transport_encryption="required") as made:
        yield made


def open_to(connection: dict[str, Any], server_key: str | None = None) -> list[str]:
    """The channels that greet a client without keys, or one that knows this server's."""
    return [name for name in SOCKETS if _greets(connection, name, server_key)]


def _greets(connection: dict[str, Any], name: str, server_key: str | None) -> bool:
    with zmq.Context() as context, context.socket(SOCKETS[name]) as socket:
        socket.linger = 0
        if server_key is not None:
            socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
            socket.curve_serverkey = server_key.encode()
        with socket.get_monitor_socket() as events:
            socket.connect(f"tcp://{connection['ip']}:{connection[f'{name}_port']}")
            event = zmq.EVENT_CONNECTED
            while not event & (REFUSED | zmq.EVENT_HANDSHAKE_SUCCEEDED):
                assert events.poll(PATIENCE * 1000), f"{name} says nothing"
                event = recv_monitor_message(events)["event"]
            socket.disable_monitor()
    return event == zmq.EVENT_HANDSHAKE_SUCCEEDED


def debugger(kernel: Kernel) -> dict[str, Any]:
    """What the debugger answers to a frontend that begins; it runs code over shell for that."""
    client = kernel.client
    begin = {"clientID": "test", "adapterID": "", "pathFormat": "path"}
    request = {"seq": 1, "type": "request", "command": "initialize", "arguments": begin}
    client.control_channel.send(client.session.msg("debug_request", request))
    return dict(client.get_control_msg(timeout=PATIENCE)["content"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Directories of this module's own, with a CRIU."""
    made = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        separate(made, patch)
        share_criu(made)
        yield made
        eventually(lambda: not ours(made))


@pytest.fixture(scope="module")
def one(home: Path) -> Iterator[Kernel]:
    """An encrypted kernel with x = 1 that was saved and published as `one`."""
    with encrypted("python3") as made:
        made.run("import zerostart_jupyter.snapshot as z; x = 1")
        assert made.attempt("s = z.snapshot('one')\nprint(s.restored)").text == "False\n"
        snapshot.publish("one")
        yield made


def test_the_kernel_that_was_saved_goes_on_encrypted(one: Kernel) -> None:
    assert open_to(one.connection) == []
    assert one.run("x") == "1"


def test_it_is_restored_in_place_with_its_keys(one: Kernel) -> None:
    before = one.connection
    one.run("x = 2")
    assert one.attempt("z.restore('one')").text == "True\n"
    assert one.run("x") == "1"
    assert (
        json.loads(Path(one.manager.connection_file).read_text())["curve_secretkey"]
        == (before["curve_secretkey"])
    )
    assert open_to(one.connection) == []


def test_a_client_that_knows_another_kernel_s_key_gets_nothing(one: Kernel) -> None:
    known = one.connection["curve_publickey"]
    assert open_to(one.connection, known) == list(SOCKETS)
    assert open_to(one.connection, zmq.curve_keypair()[0].decode()) == []


def test_a_client_that_brings_keys_has_them_used(one: Kernel) -> None:
    with encrypted("zerostart-one") as published:
        assert published.run("x") == "1"
        assert published.connection["curve_publickey"] != one.connection["curve_publickey"]
        assert open_to(published.connection) == []
        published.manager.restart_kernel(now=True)
        published.client.wait_for_ready(timeout=PATIENCE)
        assert published.run("x") == "1"
        assert open_to(published.connection) == []
        assert debugger(published)["success"]


def test_a_client_that_brings_none_is_served_without(one: Kernel) -> None:
    with kernel("zerostart-one") as plain:
        assert "curve_publickey" not in plain.connection
        assert plain.run("x") == "1"
        assert debugger(plain)["success"]


def test_a_kernel_that_was_saved_without_keys_takes_those_a_client_brings(one: Kernel) -> None:
    with kernel("zerostart-one") as plain:
        plain.run("z.snapshot('plain')")
        snapshot.publish("plain")
    with encrypted("zerostart-plain") as published:
        assert open_to(published.connection) == []
        assert published.run("x") == "1"


@pytest.mark.parametrize("tier", ["process", "portable"])
def test_a_clone_is_encrypted_by_keys_of_its_own(one: Kernel, tier: str) -> None:
    one.run(f"z.snapshot('for_clones', tier={tier!r}, replace=True)")
    clone = snapshot.clone("for_clones")
    client = clone.client()
    try:
        assert Cells(client).run("x") == "1"
        connection = json.loads(clone.connection_file.read_text())
        assert connection["curve_publickey"] != one.connection["curve_publickey"]
        assert open_to(connection) == []
    finally:
        client.stop_channels()
        clone.shutdown()


def test_it_stays_encrypted_through_an_undo_and_so_does_what_an_undo_point_saves(
    one: Kernel,
) -> None:
    one.run("z.auto(True)")
    one.run("x = 5")
    one.run("z.snapshot('early', from_undo=1)")
    one.run("z.undo(2)")
    assert one.run("x") == "1"
    assert open_to(one.connection) == []
    assert snapshot.show("early").encrypted
    one.run("z.auto(False)")


def test_whoever_imports_it_gets_encrypted_clones(one: Kernel, home: Path) -> None:
    snapshot.export("one", home / "one.zsnap")
    assert snapshot.import_(home / "one.zsnap", "again", trust=True).encrypted


def test_sockets_in_the_file_system(home: Path) -> None:
    with other("python3", transport="ipc", ip=str(home / "a")) as original:
        original.run("import zerostart_jupyter.snapshot as z; x = 1")
        original.run("z.snapshot('ipc')")
        original.run("x = 2")
        original.run("z.restore('ipc')")
        assert original.run("x") == "1"
        snapshot.publish("ipc")
        with other("zerostart-ipc", transport="ipc", ip=str(home / "b")) as clone:
            assert clone.run("x") == "1"
            assert original.run("x") == "1"
        with kernel("zerostart-ipc") as tcp:
            assert tcp.run("x") == "1"
