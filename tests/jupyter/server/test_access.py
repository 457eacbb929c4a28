"""Who may: every request that any handler of the extension answers, as the running app lists them.

What is asked for is not there, so that whoever is let in changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
import websocket

from tests.jupyter.server.conftest import BASE
from tests.servers.jupyter import PATIENCE, TOKEN, Jupyter
from zerostart_jupyter.jupyter.server.description import methods, openapi, pattern

Registered = dict[str, list[str]]
Answers = Mapping[tuple[str, str], int]


def test_the_description_lists_exactly_what_the_app_answers(registered: Registered) -> None:
    described = {
        f"{BASE.rstrip('/')}{pattern(path)}$": methods(path) for path in openapi()["paths"]
    }
    answered = {route: sorted({*found} - {"options"}) for route, found in registered.items()}
    assert answered == {route: sorted(found) for route, found in described.items()}
    assert len(answered) >= 9


def requests(registered: Registered) -> list[tuple[str, str]]:
    """(method, path below the base URL) of all that is answered, with names that nothing has."""
    found = []
    for route, answered in registered.items():
        path = re.sub(r"\(.*?\)", "nothing", route.removeprefix(BASE).rstrip("$"))
        found += [(method, path.replace("\\", "")) for method in answered]
    return found


def answers(client: httpx.Client, registered: Registered, **options: Any) -> Answers:
    """The status of each request but OPTIONS, which the browser sends before it knows who asks."""
    return {
        (method, path): client.request(method, path, **options).status_code
        for method, path in requests(registered)
        if method != "options"
    }


def all_are(status: int, found: Answers) -> bool:
    assert found == dict.fromkeys(found, status)
    return bool(found)


CREDENTIALS = {
    "none": {},
    "a wrong token": {"headers": {"Authorization": "token not-this-one"}},
    "half of the token": {"headers": {"Authorization": f"token {TOKEN[:-1]}"}},
    "a wrong token in the address": {"params": {"token": "not-this-one"}},
    "a cookie that nobody signed": {"headers": {"Cookie": "username-127-0-0-1=ada; _xsrf=1"}},
}


@pytest.mark.parametrize("given", CREDENTIALS.values(), ids=CREDENTIALS.keys())
def test_nobody_without_the_token(
    server: Jupyter, registered: Registered, given: dict[str, Any]
) -> None:
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as stranger:
        assert all_are(403, answers(stranger, registered, **given))


def test_nobody_without_permission(
    http: httpx.Client,
    registered: Registered,
    closed: Callable[[], AbstractContextManager[None]],
) -> None:
    open_to_all = answers(http, registered)
    assert 403 not in open_to_all.values()
    with closed():
        assert all_are(403, answers(http, registered))
        refused = http.post("zerostart/api/snapshots/nothing/clone").json()
    assert "not authorized to write on resource: kernels" in refused["message"]
    assert refused["remedy"]


def test_no_forged_requests(browser: httpx.Client, registered: Registered) -> None:
    writing = {route: sorted({*found} - {"get"}) for route, found in registered.items()}
    assert all_are(403, answers(browser, writing))
    assert "_xsrf" in browser.delete("zerostart/api/snapshots/nothing").json()["message"]
    token = {"X-XSRFToken": browser.cookies["_xsrf"]}
    assert set(answers(browser, writing, headers=token).values()) == {400, 404}


def test_no_page_of_another_origin_reads(browser: httpx.Client, registered: Registered) -> None:
    elsewhere = {"Origin": "http://elsewhere.invalid"}
    reading = {route: ["get"] for route, found in registered.items() if "get" in found}
    assert all_are(404, answers(browser, reading, headers=elsewhere))


def test_a_browser_that_asks_beforehand_learns_nothing(
    server: Jupyter, registered: Registered
) -> None:
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as stranger:
        for method, path in requests(registered):
            if method == "options":
                answer = stranger.options(path, headers={"Origin": "http://elsewhere.invalid"})
                assert (answer.status_code, answer.content) == (200, b"")
                assert "Access-Control-Allow-Origin" not in answer.headers


def subscribe(server: Jupyter, **headers: str) -> websocket.WebSocket:
    address = f"{server.url.replace('http', 'ws', 1)}api/events/subscribe"
    return websocket.create_connection(address, header=headers, timeout=PATIENCE)


def test_progress_is_told_to_nobody_without_token_and_permission(
    server: Jupyter, closed: Callable[[], AbstractContextManager[None]]
) -> None:
    right = {"Authorization": f"token {TOKEN}"}
    for headers in ({}, {"Authorization": "token not-this-one"}):
        with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
            subscribe(server, **headers)
    with closed(), pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        subscribe(server, **right)
    subscribe(server, **right).close()
