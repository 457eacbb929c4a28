"""Restores through the server, with real kernels and CRIU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from tests.servers.jupyter import PATIENCE, Jupyter, serve, until
from tests.snapshot.faulty import Broken

pytestmark = pytest.mark.criu
API = "zerostart/api"
AS_IT_SHOULD = 'exec $real "$@"'


@pytest.fixture(scope="module")
def criu(tmp_path_factory: pytest.TempPathFactory) -> Broken:
    """The CRIU of the server's kernels, which does as it should until it is told otherwise."""
    made = Broken(tmp_path_factory.mktemp("criu"))
    made.does(AS_IT_SHOULD)
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, criu: Broken) -> Iterator[Jupyter]:
    """A server whose kernels can be dumped."""
    home = tmp_path_factory.mktemp("restoring")
    with serve(home, environ={"ZS_CRIU": str(criu.path)}) as running:
        yield running


@pytest.fixture
def http(server: Jupyter) -> Iterator[httpx.Client]:
    """A client; afterwards no kernel and no snapshot is left."""
    with server.client() as client:
        yield client
        for kernel in client.get("api/kernels").json():
            client.delete(f"api/kernels/{kernel['id']}")
        for snapshot in client.get(f"{API}/snapshots").json()["snapshots"]:
            client.delete(f"{API}/snapshots/{snapshot['name']}").raise_for_status()


def start(http: httpx.Client, name: str = "python3") -> str:
    """Start a kernel as the frontend does; returns its id."""
    answer = http.post("api/kernels", json={"name": name})
    answer.raise_for_status()
    return str(answer.json()["id"])


@contextlib.contextmanager
def client(server: Jupyter, kernel: str) -> Iterator[BlockingKernelClient]:
    """A client of a kernel, once that answers."""
    made = BlockingKernelClient(connection_file=str(server.runtime / f"kernel-{kernel}.json"))
    made.load_connection_file()
    made.start_channels(hb=False)  # a slow machine is not a dead kernel
    try:
        made.wait_for_ready(timeout=PATIENCE)
        yield made
    finally:
        made.stop_channels()


def run(server: Jupyter, kernel: str, code: str) -> str:
    """What a cell prints, or the name of its error."""
    found: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        content = message["content"]
        found.append(content.get("text") or content.get("ename") or "")

    with client(server, kernel) as asked:
        asked.execute_interactive(code, timeout=PATIENCE, output_hook=hear)
    return "".join(found).strip()


@pytest.fixture
def kernel(server: Jupyter, http: httpx.Client) -> str:
    """A kernel that was saved as `ready` with `x = 1`, and has `x = 2` since."""
    made = start(http)
    run(server, made, "x = 1")
    run(server, made, "%load_ext zerostart\n%zs_snapshot save ready")
    run(server, made, "x = 2")
    return made


def restore(http: httpx.Client, kernel: str) -> httpx.Response:
    return http.post(f"{API}/kernels/{kernel}/restore", json={"snapshot": "ready"})


def test_a_kernel_is_restored_under_its_id_again_and_again(
    server: Jupyter, http: httpx.Client, kernel: str
) -> None:
    for _ in range(2):
        answer = restore(http, kernel)
        assert answer.status_code == 200, answer.text
        assert answer.json()["seconds"] > 0
        assert run(server, kernel, "print(x)") == "1"
        run(server, kernel, "x = 3")
    assert [each["id"] for each in http.get("api/kernels").json()] == [kernel]
    http.post(f"api/kernels/{kernel}/interrupt").raise_for_status()
    http.post(f"api/kernels/{kernel}/restart").raise_for_status()
    assert run(server, kernel, "print(x)") == "NameError"


def test_clones_start_as_kernels_and_live_apart(
    server: Jupyter, http: httpx.Client, kernel: str
) -> None:
    spec = http.post(f"{API}/snapshots/ready/clone").json()["kernelspec"]
    clones = [start(http, spec) for _ in range(2)]
    for number, clone in enumerate(clones):
        run(server, clone, f"x += {number + 10}")
    assert [run(server, each, "print(x)") for each in [kernel, *clones]] == ["2", "11", "12"]


def test_a_snapshot_is_renamed_to_what_is_free_and_allowed(http: httpx.Client, kernel: str) -> None:
    path = f"{API}/snapshots/ready"
    assert http.patch(path, json={"name": "../up"}).status_code == 400
    renamed = http.patch(path, json={"name": "trained"})
    assert renamed.json()["name"] == "trained"
    assert http.patch(path, json={"name": "trained"}).status_code == 404
    assert restore(http, kernel).status_code == 404


def test_two_restores_at_once_are_one(server: Jupyter, http: httpx.Client, kernel: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: restore(http, kernel).status_code, range(2)))
    assert sorted(answers) in ([200, 200], [200, 409])  # the second may come after the first
    assert run(server, kernel, "print(x)") == "1"


def test_what_cannot_come_back_leaves_the_kernel_alone(server: Jupyter, http: httpx.Client) -> None:
    kernel = start(http)
    needed = server.home / "needed.txt"
    needed.write_text("something")
    run(server, kernel, f"file = open({str(needed)!r}); x = 1")
    run(server, kernel, "%load_ext zerostart\n%zs_snapshot save ready")
    run(server, kernel, "file.close(); x = 2")
    needed.unlink()
    refused = restore(http, kernel)
    assert refused.status_code == 409
    assert "needed.txt is gone" in refused.json()["message"]
    assert refused.json()["remedy"]
    assert run(server, kernel, "print(x)") == "2"


def spoil(images: Path) -> None:
    """Cut what CRIU reads first short, which no check before a restore looks into."""
    for image in images.glob("core-*.img"):
        image.write_bytes(image.read_bytes()[:-16])


def test_images_that_criu_cannot_read_end_in_an_error_and_a_fresh_kernel(
    server: Jupyter, http: httpx.Client, kernel: str
) -> None:
    [snapshot] = http.get(f"{API}/snapshots").json()["snapshots"]
    spoil(Path(snapshot["path"]) / "images")
    failed = restore(http, kernel)
    assert failed.status_code == 409, failed.text
    assert "'ready' did not come back" in failed.json()["message"]
    assert "is not what was written" in failed.json()["remedy"], failed.text

    def states() -> list[str]:
        sources = http.get(f"{API}/activity").json()["sources"]
        told = [each["operations"] for each in sources if each["writer"] == "shepherd"]
        return [each["state"] for operations in told for each in operations]

    assert until(states, "the failure to be shown") == ["failed"]
    assert run(server, kernel, "print('fresh', 'x' in globals())") == "fresh False"


def test_a_restore_that_is_cancelled_ends_in_a_fresh_kernel(
    server: Jupyter, http: httpx.Client, kernel: str, criu: Broken
) -> None:
    def restoring() -> list[str]:
        sources = http.get(f"{API}/activity").json()["sources"]
        told = [each["operations"] for each in sources if each["writer"] == "shepherd"]
        return [each["id"] for all in told for each in all if each["state"] == "running"]

    criu.does("exec sleep 1000", action="restore")
    try:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(restore, http, kernel)
            [operation] = until(restoring, "the restore to be shown")
            http.post(f"{API}/kernels/{kernel}/operations/{operation}/cancel").raise_for_status()
            answer = asked.result(PATIENCE)
    finally:
        criu.does(AS_IT_SHOULD)
    assert answer.status_code == 409, answer.text
    assert answer.json()["remedy"] == "It was cancelled."
    assert run(server, kernel, "print('fresh', 'x' in globals())") == "fresh False"
    assert restore(http, kernel).status_code == 200
    assert run(server, kernel, "print(x)") == "1"
