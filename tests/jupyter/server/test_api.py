"""Every endpoint of a real server: what comes back, what is refused. Who may: test_access."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from tests.servers.jupyter import ROOT, Jupyter, until
from zerostart_jupyter.core.activity import Activity
from zerostart_jupyter.core.errors import Cancelled
from zerostart_jupyter.core.events import Event, Hub, Operation, State, operation
from zerostart_jupyter.core.status import StatusFile
from zerostart_jupyter.jupyter.server.description import openapi
from zerostart_jupyter.snapshot.catalog import ROOM, Catalog, fresh_id

API = "zerostart/api"
SOMEBODY = 54321  # a user id that nobody has


def answer(schema: str, body: Any) -> Any:
    """The body, once it has been found valid under a schema of the description."""
    spec = openapi()
    Draft202012Validator({"$ref": f"#/components/schemas/{schema}", **spec}).validate(body)
    return body


RESTORE = "kernels/nobody/restore"
CANCEL = "kernels/nobody/operations/load-1/cancel"
LONG = "x" * 70_000


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("post", RESTORE, {"snapshot": "a"}, 404, "no kernel nobody"),
        ("post", RESTORE, {}, 400, "'snapshot' is a required property"),
        ("post", RESTORE, {"snapshot": 1}, 400, "snapshot is not valid: 1 is not of type"),
        ("post", RESTORE, {"snapshot": ""}, 400, "snapshot is not valid: '' does not match"),
        ("post", RESTORE, {"snapshot": "a", "b": 1}, 400, "'b' was unexpected"),
        ("post", RESTORE, {"snapshot": "x" * 65}, 400, "is too long"),
        ("post", RESTORE, {"snapshot": "../up"}, 400, "'../up' does not match"),
        ("post", RESTORE, {"snapshot": "a\n"}, 400, "'a\\n' does not match"),
        ("post", RESTORE, {"snapshot": LONG}, 400, "larger than 65536 bytes"),
        ("post", RESTORE, [], 400, "body is not valid"),
        ("post", RESTORE, None, 400, "not JSON"),
        ("post", CANCEL, None, 404, "no operation load-1"),
        ("post", CANCEL, {}, 400, "takes no body"),
        ("patch", "snapshots/none", {"name": "../up"}, 400, "name is not valid"),
        ("patch", "snapshots/none", {"name": "new"}, 404, "no snapshot 'none'"),
        ("delete", "snapshots/none", None, 404, "no snapshot 'none'"),
        ("post", "snapshots/none/clone", None, 404, "no snapshot 'none'"),
        ("put", "snapshots/none", None, 405, "Method Not Allowed"),
    ],
)
def test_what_is_refused(
    http: httpx.Client, method: str, path: str, body: Any, status: int, says: str
) -> None:
    response = http.request(method, f"{API}/{path}", json=body)
    assert response.status_code == status, response.text
    error = answer("Error", response.json())
    assert says in error["message"]
    assert error["remedy"]
    assert len(error["message"]) < 300


HOSTILE = [
    "..",
    ".",
    "..%2F..%2Fetc",
    "%00",
    "a%00b",
    "%2E%2E",
    "%C3%BC",
    "a%0A",
    "-x",
    "%20",
    "x" * 65,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_no_snapshot_can_have(http: httpx.Client, name: str) -> None:
    for method, end in (("delete", ""), ("post", "/clone")):
        request = httpx.Request(method, f"{http.base_url}{API}/snapshots/{name}{end}")
        # A client would resolve the dots before it asks; whoever attacks does not.
        request.extensions["target"] = f"{http.base_url.path}{API}/snapshots/{name}{end}".encode()
        request.headers.update(http.headers)
        response = http.send(request)
        assert response.status_code == 404, response.text
        error = answer("Error", response.json())
        assert "is not the name of anything" in error["message"]
        assert error["remedy"].startswith("Letters, digits")


@pytest.mark.parametrize(
    "path",
    ["kernels/..%2Fa/restore", "kernels/%2E%2E/restore", f"kernels/{'x' * 201}/restore"]
    + [f"kernels/a/operations/{bad}/cancel" for bad in ("..%2Fb", "a_b", "---", "%00")],
)
def test_ids_that_nothing_can_have(http: httpx.Client, path: str) -> None:
    body = {"snapshot": "a"} if path.endswith("restore") else None
    response = http.post(f"{API}/{path}", json=body)
    assert response.status_code == 404, response.text
    assert "of anything" in answer("Error", response.json())["message"]


def test_a_path_that_is_no_text(http: httpx.Client) -> None:
    response = http.delete(f"{API}/snapshots/%ff")
    assert response.status_code == 400, response.text
    assert "Invalid unicode" in answer("Error", response.json())["message"]


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[" * 60_000, b"1" * 60_000])
def test_a_body_that_is_not_json(http: httpx.Client, text: bytes) -> None:
    response = http.post(f"{API}/{RESTORE}", content=text)
    assert response.status_code == 400
    assert "not JSON" in answer("Error", response.json())["message"]


def test_the_description_is_served_with_the_address(http: httpx.Client, server: Jupyter) -> None:
    served = http.get(f"{API}/openapi.json").json()
    assert served.pop("servers") == [{"url": httpx.URL(server.url).path.rstrip("/")}]
    assert served == openapi()


def test_doctor(http: httpx.Client) -> None:
    found = answer("Doctor", http.get(f"{API}/doctor").json())["capabilities"]
    assert "python" in [capability["name"] for capability in found]


def test_gpu(http: httpx.Client) -> None:
    found = answer("Gpu", http.get(f"{API}/gpu").json())
    assert found["devices"] if found["ok"] else found["reason"] and found["remedy"]


def test_no_snapshots(http: httpx.Client) -> None:
    assert answer("Snapshots", http.get(f"{API}/snapshots").json()) == {"snapshots": []}


def saved(catalog: Catalog, name: str) -> Path:
    """The directory of a new snapshot."""
    key = fresh_id()
    with catalog.store.publish(ROOM, key, {"name": name, "bytes": 3}):
        pass
    return catalog.store.path(ROOM, key)


def snapshots(http: httpx.Client) -> list[str]:
    """The names that the server lists, once the list was found well-formed."""
    found = answer("Snapshots", http.get(f"{API}/snapshots").json())["snapshots"]
    return [each["name"] for each in found]


def test_a_thousand_snapshots_are_listed_and_each_is_found(
    http: httpx.Client, catalog: Catalog
) -> None:
    for number in range(1000):
        saved(catalog, f"run-{number}")
    assert snapshots(http) == [f"run-{number}" for number in range(1000)]
    assert http.patch(f"{API}/snapshots/run-500", json={"name": "best"}).status_code == 200
    assert http.delete(f"{API}/snapshots/run-501").status_code == 204
    assert snapshots(http)[499:502] == ["run-499", "best", "run-502"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_another_users_snapshots_and_kernels_are_not_there(
    server: Jupyter, http: httpx.Client, catalog: Catalog
) -> None:
    saved(catalog, "mine")
    theirs = saved(catalog, "theirs")
    os.chown(theirs, SOMEBODY, SOMEBODY)
    assert snapshots(http) == ["mine"]
    for method, path, body in (
        ("delete", "snapshots/theirs", None),
        ("patch", "snapshots/theirs", {"name": "now-mine"}),
        ("post", "snapshots/theirs/clone", None),
    ):
        assert http.request(method, f"{API}/{path}", json=body).status_code == 404
    assert theirs.exists()
    with kernel(server, "theirs") as others, kernel(server, "mine") as own:
        os.chown(server.status / "kernel-theirs", SOMEBODY, SOMEBODY)
        with operation("load", "secret", hub=others) as work, operation("load", "model", hub=own):
            until(lambda: activity(http, "mine"), "mine to be shown")
            assert activity(http, "theirs") == []
            cancel = http.post(f"{API}/kernels/theirs/operations/{work.id}/cancel")
            assert cancel.status_code == 404


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_cache_of_another_user_is_refused_with_the_next_step(
    http: httpx.Client, catalog: Catalog
) -> None:
    root = catalog.store.root
    os.chown(root, SOMEBODY, SOMEBODY)
    try:
        refused = http.get(f"{API}/snapshots")
    finally:
        os.chown(root, os.geteuid(), os.getegid())
    assert refused.status_code == 503, refused.text
    assert "ZEROSTART_CACHE" in answer("Error", refused.json())["remedy"]


def test_a_place_that_cannot_be_written_to_is_no_internal_error(
    server: Jupyter, http: httpx.Client, catalog: Catalog
) -> None:
    saved(catalog, "ready")
    kernels = server.home / "data" / "kernels"
    if kernels.exists():
        kernels.rename(kernels.with_name("aside"))
    kernels.touch()
    refused = http.post(f"{API}/snapshots/ready/clone")
    kernels.unlink()
    assert refused.status_code == 503, refused.text
    assert "The machine refused" in answer("Error", refused.json())["message"]


@contextlib.contextmanager
def kernel(server: Jupyter, name: str) -> Iterator[Hub]:
    """A hub whose events go to the status file of the kernel with this id."""
    hub = Hub(interval=0.01)
    status = StatusFile(server.status / f"kernel-{name}", "kernel", {"kernel": name}, hub)
    try:
        yield hub
    finally:
        status.close()


def activity(http: httpx.Client, kernel: str) -> list[dict[str, Any]]:
    """What the server says of a kernel's operations."""
    sources = answer("Activity", http.get(f"{API}/activity").json())["sources"]
    return [
        each for source in sources if source["kernel"] == kernel for each in source["operations"]
    ]


def test_activity_is_told_by_events_and_to_late_joiners(
    server: Jupyter, http: httpx.Client
) -> None:
    with server.events() as events, kernel(server, "told") as hub:
        folded = Activity()
        with operation("install", "torch", hub=hub) as work:
            for step in range(1, 4):
                work.update("numpy", step, 3, state=State.DONE if step == 3 else State.RUNNING)
                work.update("", step * 10, 30)
        while not any(view.state is State.DONE for view in folded.operations.values()):
            message = json.loads(events.recv())
            if message["schema_id"] == "urn:zerostart:activity" and message["kernel"] == "told":
                folded = folded.fold(
                    Event(**{**raw, "state": State(raw["state"])}) for raw in message["events"]
                )
        expected = Activity().fold(hub.known()).as_json()
        assert folded.as_json() == expected
        joined = activity(http, "told")
        assert joined == [{key: view[key] for key in joined[0]} for view in expected]


def test_an_operation_is_cancelled_from_outside(server: Jupyter, http: httpx.Client) -> None:
    began: list[Operation] = []
    ended: list[BaseException] = []

    def work() -> None:
        try:
            with operation("load", "model", hub=hub) as mine:
                began.append(mine)
                stopped = threading.Event()
                mine.on_cancel(stopped.set)
                assert stopped.wait(60)
                mine.check()
        except Cancelled as error:
            ended.append(error)

    with kernel(server, "stopped") as hub:
        thread = threading.Thread(target=work)
        thread.start()
        shown = until(lambda: activity(http, "stopped"), "the operation to be shown")
        path = f"{API}/kernels/stopped/operations/{shown[0]['id']}/cancel"
        assert http.post(path).status_code == 204
        thread.join(60)
        assert ended
        until(
            lambda: activity(http, "stopped")[0]["state"] == "cancelled", "the panel to hear of it"
        )
        assert http.post(path).status_code == 404


KILLED = """
import sys, pathlib
from zerostart_jupyter.core.events import operation
from zerostart_jupyter.core.status import StatusFile
StatusFile(pathlib.Path(sys.argv[1]), "kernel", {})
with operation("install", "torch"):
    print("running", flush=True)
    sys.stdin.read()
"""


def test_a_killed_kernel_leaves_the_panel(server: Jupyter, http: httpx.Client) -> None:
    folder: Path = server.status / "kernel-killed"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        until(lambda: activity(http, "killed"), "the operation to be shown")
    finally:
        process.kill()
        process.communicate()
    until(lambda: not activity(http, "killed"), "the operation to vanish")
    assert not folder.exists()


def test_files_that_make_no_sense_do_no_harm(server: Jupyter, http: httpx.Client) -> None:
    for number, text in enumerate(["", "[]", "{", '{"operations": [{}]}', "\0", "[" * 100_000]):
        folder = server.status / f"kernel-odd{number}"
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(text)
    with kernel(server, "sane") as hub, operation("load", "model", hub=hub):
        until(lambda: activity(http, "sane"), "the sane one to be shown")
    sources = http.get(f"{API}/activity").json()["sources"]
    assert not [source for source in sources if source["kernel"].startswith("odd")]
