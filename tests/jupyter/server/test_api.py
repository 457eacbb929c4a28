"""Every endpoint of a real server: who may, what comes back, what is refused."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from tests.servers.jupyter import PATIENCE, ROOT, TOKEN, Jupyter, environment, serve, until
from zerostart_jupyter.core.activity import Activity
from zerostart_jupyter.core.errors import Cancelled
from zerostart_jupyter.core.events import Event, Hub, Operation, State, operation
from zerostart_jupyter.core.status import StatusFile
from zerostart_jupyter.jupyter.server.endpoint import openapi
from zerostart_jupyter.jupyter.server.handlers import ROUTES

API = "zerostart/api"
METHODS = ("get", "post", "put", "patch", "delete")


BASE = "/hub/user/ada/"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A server below a base URL, as JupyterHub starts them."""
    home = tmp_path_factory.mktemp("server")
    with serve(home, options=[f"--ServerApp.base_url={BASE}"]) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Jupyter) -> Iterator[httpx.Client]:
    """A client of that server, with its token."""
    with server.client() as client:
        yield client


def calls() -> list[tuple[str, str]]:
    """(method, path) of everything the description promises, with harmless parameters."""
    given = {"{kernel}": "no-kernel", "{operation}": "none-0", "{name}": "no-snapshot"}
    found = []
    for path, item in openapi()["paths"].items():
        for name, value in given.items():
            path = path.replace(name, value)
        found += [(method, path.lstrip("/")) for method in METHODS if method in item]
    return found


def answer(schema: str, body: Any) -> Any:
    """The body, once it has been found valid under a schema of the description."""
    spec = openapi()
    Draft202012Validator({"$ref": f"#/components/schemas/{schema}", **spec}).validate(body)
    return body


def test_the_description_lists_exactly_what_is_there() -> None:
    handled = {
        (method, handler) for _, handler in ROUTES for method in METHODS if method in vars(handler)
    }
    assert len(handled) == len(calls())


@pytest.mark.parametrize(("method", "path"), calls())
def test_nobody_without_a_token(server: Jupyter, method: str, path: str) -> None:
    response = httpx.request(method, server.url + path, follow_redirects=False)
    assert response.status_code == 403


@pytest.fixture(scope="module")
def browser(server: Jupyter) -> Iterator[httpx.Client]:
    """A client that is logged in by cookie, as a browser is, on any page it visits."""
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        client.get("", params={"token": TOKEN}, follow_redirects=True)
        assert client.get(f"{API}/activity").status_code == 200
        yield client


@pytest.mark.parametrize(("method", "path"), [call for call in calls() if call[0] != "get"])
def test_no_forged_requests(browser: httpx.Client, method: str, path: str) -> None:
    forged = browser.request(method, path)
    assert forged.status_code == 403
    assert "_xsrf" in forged.json()["message"]
    token = {"X-XSRFToken": browser.cookies["_xsrf"]}
    assert browser.request(method, path, headers=token).status_code in (400, 404)


DENYING = """
from jupyter_server.auth.authorizer import Authorizer

class ReadOnly(Authorizer):
    def is_authorized(self, handler, user, action, resource):
        return action == "read" and resource != "kernels"
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A server whose authorizer keeps everybody from kernels."""
    home = tmp_path_factory.mktemp("guarded")
    (home / "denying.py").write_text(DENYING)
    path = f"{home}:{environment(home)['PYTHONPATH']}"
    with serve(
        home,
        options=["--ServerApp.authorizer_class=denying.ReadOnly"],
        environ={"PYTHONPATH": path},
    ) as running:
        yield running


@pytest.mark.parametrize(("method", "path"), calls())
def test_nobody_without_permission(guarded: Jupyter, method: str, path: str) -> None:
    with guarded.client() as client:
        assert client.request(method, path).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("post", "kernels/nobody/restore", {"snapshot": "a"}, 404, "no kernel nobody"),
        ("post", "kernels/nobody/restore", {}, 400, "'snapshot' is a required property"),
        ("post", "kernels/nobody/restore", {"snapshot": 1}, 400, "snapshot is not valid"),
        ("post", "kernels/nobody/restore", {"snapshot": ""}, 400, "snapshot is not valid"),
        ("post", "kernels/nobody/restore", {"snapshot": "a", "b": 1}, 400, "'b' was unexpected"),
        ("post", "kernels/nobody/restore", [], 400, "body is not valid"),
        ("post", "kernels/nobody/operations/load-1/cancel", None, 404, "no operation load-1"),
        ("patch", "snapshots/none", {"name": ""}, 400, "name is not valid"),
        ("patch", "snapshots/none", {"name": "new"}, 404, "no snapshot 'none'"),
        ("delete", "snapshots/none", None, 404, "no snapshot 'none'"),
        ("delete", "snapshots/..%2F..%2Fetc", None, 404, "no snapshot '../../etc'"),
        ("delete", "snapshots/%00", None, 404, "no snapshot"),
        ("post", "snapshots/none/clone", None, 404, "no snapshot 'none'"),
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


def test_a_body_that_is_not_json(http: httpx.Client) -> None:
    response = http.post(f"{API}/kernels/nobody/restore", content=b"{")
    assert response.status_code == 400
    assert "not JSON" in response.json()["message"]


@pytest.mark.parametrize("path", ["kernels/..%2Fa/restore", "kernels/a/operations/..%2Fb/cancel"])
def test_paths_that_are_no_ids(http: httpx.Client, path: str) -> None:
    assert http.post(f"{API}/{path}", json={"snapshot": "a"}).status_code == 404


def test_doctor(http: httpx.Client) -> None:
    found = answer("Doctor", http.get(f"{API}/doctor").json())["capabilities"]
    assert "python" in [capability["name"] for capability in found]


def test_gpu(http: httpx.Client) -> None:
    found = answer("Gpu", http.get(f"{API}/gpu").json())
    assert found["devices"] if found["ok"] else found["reason"] and found["remedy"]


def test_no_snapshots(http: httpx.Client) -> None:
    assert answer("Snapshots", http.get(f"{API}/snapshots").json()) == {"snapshots": []}


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
