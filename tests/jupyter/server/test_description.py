"""Whatever a request says, it follows the description or is refused in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.core.events import operation
from zerostart_jupyter.jupyter.server.description import (
    BadRequest,
    NotFound,
    check_body,
    check_ids,
    openapi,
    pattern,
)
from zerostart_jupyter.snapshot.catalog import Catalog

RENAME = "/zerostart/api/snapshots/{name}"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("name"), inner),
    max_leaves=20,
)


def refused(check: Callable[..., Any], *arguments: Any) -> bool:
    """Whether it is, in one bounded line with a next step."""
    try:
        check(*arguments)
    except (BadRequest, NotFound) as error:
        told = error
    else:
        return False
    assert "\n" not in str(told)
    assert len(str(told)) < 500
    assert told.message
    assert told.remedy
    return True


@given(JSON | st.builds(lambda name: {"name": name}, st.text()))
def test_a_body_is_what_the_description_says_or_is_refused(body: Any) -> None:
    if not refused(check_body, RENAME, "patch", json.dumps(body).encode()):
        assert list(body) == ["name"]
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", body["name"])


@given(st.binary())
def test_any_bytes_are_json_or_refused(text: bytes) -> None:
    assert refused(check_body, RENAME, "patch", text)


IDS = openapi()["components"]["parameters"]


@given(st.sampled_from(sorted(IDS)), st.text() | st.from_regex(r"[\w.-]*\n?"))
def test_an_id_makes_no_path_or_is_refused(name: str, value: str) -> None:
    if not refused(check_ids, {name: value}):
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}", value)


def test_what_operations_and_kernels_are_called_is_an_id() -> None:
    with operation("load", "model") as work:
        check_ids({"operation": work.id, "kernel": "8c1f0a52-8f0d-4f6e-9f62-0c2b9f1d2c11"})
    check_ids({"kernel": "v2-12345abcXYZ"})  # as VS Code calls them


@given(st.text() | st.from_regex(r"[\w.-]{1,70}"))
def test_a_name_is_free_to_give_wherever_the_catalogue_takes_it(name: str) -> None:
    try:
        Catalog.check(None, name, replace=True)  # type: ignore[arg-type]  # asks nothing of it
    except SnapshotRefused:
        assert refused(check_ids, {"name": name})
    else:
        check_ids({"name": name})


def test_a_route_has_a_group_for_each_id() -> None:
    route = pattern("/zerostart/api/kernels/{kernel}/operations/{operation}/cancel")
    found = re.fullmatch(route, "/zerostart/api/kernels/a%2Fb/operations/c/cancel")
    assert found
    assert found.groupdict() == {"kernel": "a%2Fb", "operation": "c"}
    assert not re.fullmatch(route, "/zerostart/api/kernels/a/b/operations/c/cancel")
    assert not re.fullmatch(pattern("/openapi.json"), "/openapi-json")
