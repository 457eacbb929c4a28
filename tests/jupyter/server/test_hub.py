"""A user's server below a real JupyterHub and its proxy: its prefix, its logins, its scopes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
import websocket

from tests.servers.jupyterhub import PATIENCE, Hub, hub
from zerostart_jupyter.core import events
from zerostart_jupyter.core.status import StatusFile
from zerostart_jupyter.jupyter.server.description import methods, openapi

pytestmark = pytest.mark.timeout(900)
API = "zerostart/api"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with hub(tmp_path_factory.mktemp("hub")) as started:
        yield started


@pytest.fixture(scope="module")
def server(running: Hub) -> str:
    """The address of Ann's server, as everybody sees it."""
    running.token("ann")
    return running.start("ann")


@pytest.fixture(scope="module")
def ann(running: Hub, server: str) -> Iterator[httpx.Client]:
    """Ann, with a token that the hub gave her."""
    headers = {"Authorization": f"token {running.token('ann')}"}
    with httpx.Client(base_url=server, headers=headers, timeout=PATIENCE) as client:
        yield client


def calls() -> list[tuple[str, str]]:
    """(method, path below the prefix) of everything there is, of things that are not there."""
    found = [(method, path) for path in openapi()["paths"] for method in methods(path)]
    return [
        (method, path.format(kernel="none", operation="none-0", name="none").lstrip("/"))
        for method, path in found
    ]


def test_the_panel_is_answered_below_the_hubs_prefix(ann: httpx.Client) -> None:
    served = ann.get(f"{API}/openapi.json").json()
    assert served["servers"] == [{"url": "/user/ann"}]
    statuses = {ann.request(method, path).status_code for method, path in calls()}
    assert statuses == {200, 400, 404}
    assert ann.get(f"{API}/snapshots").json() == {"snapshots": []}


def test_nobody_gets_in_without_the_hubs_word(running: Hub, server: str, ann: httpx.Client) -> None:
    bob = running.token("bob")
    strangers = {
        "no token": {},
        "no such token": {"Authorization": "token not-this-one"},
        "another user": {"Authorization": f"token {bob}"},
    }
    for who, headers in strangers.items():
        with httpx.Client(base_url=server, headers=headers, timeout=PATIENCE) as stranger:
            found = {call: stranger.request(*call).status_code for call in calls()}
        assert found == dict.fromkeys(found, 403), who


def test_a_login_by_cookie_reads_and_writes_with_its_own_xsrf_token_only(
    running: Hub, server: str
) -> None:
    with httpx.Client(base_url=server, timeout=PATIENCE, follow_redirects=True) as browser:
        page = browser.get(f"{running.url}hub/login")
        form = {"username": "ann", "password": "", "_xsrf": browser.cookies["_xsrf"]}
        assert page.status_code == 200
        entered = browser.post(f"{running.url}hub/login", params={"next": "/user/ann/"}, data=form)
        assert (entered.status_code, entered.url.path) == (200, "/user/ann/lab")
        forged = browser.delete(f"{API}/snapshots/none")
        assert forged.status_code == 403
        assert "_xsrf" in forged.json()["message"]
        [token] = [
            each.value
            for each in browser.cookies.jar
            if each.path == "/user/ann/" and each.name == "_xsrf"
        ]
        sent = {"X-XSRFToken": str(token), "Sec-Fetch-Site": "same-origin"}
        sent["Sec-Fetch-Mode"] = "cors"  # what a browser says of the panel's requests
        assert browser.get(f"{API}/activity", headers=sent).status_code == 200
        assert browser.delete(f"{API}/snapshots/none", headers=sent).status_code == 404
        elsewhere = {"Origin": "http://elsewhere.invalid"}
        assert browser.get(f"{API}/activity", headers=elsewhere).status_code == 404


def test_progress_comes_through_the_proxy(running: Hub, server: str, ann: httpx.Client) -> None:
    address = f"{server.replace('http', 'ws', 1)}api/events/subscribe"
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        websocket.create_connection(address, timeout=PATIENCE)
    header = {"Authorization": ann.headers["Authorization"]}
    socket = websocket.create_connection(address, header=header, timeout=PATIENCE)
    source = events.Hub()
    status = StatusFile(running.runtime / "zerostart" / "kernel-ann", "kernel", {}, source)
    try:
        with events.operation("load", "model", hub=source) as work:
            while (told := json.loads(socket.recv())).get("kernel") != "ann":
                pass
            assert told["events"][0]["operation"] == work.id
            [shown] = ann.get(f"{API}/activity").json()["sources"]
            assert shown["operations"][0]["id"] == work.id
    finally:
        status.close()
        socket.close()
