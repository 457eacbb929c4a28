"""The exception tree: one root, a remedy each, one line in a cell, whole across processes."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from zerostart_jupyter.core import errors
from zerostart_jupyter.core.errors import ZerostartError

TREE = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, ZerostartError)
]


def line_of(kind: type[ZerostartError]) -> str:
    lines = [
        line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in f"{line} "
    ]
    assert len(lines) == 1, kind
    return lines[0]


@pytest.mark.parametrize("kind", [kind for kind in TREE if kind is not ZerostartError])
def test_the_docstring_is_the_map(kind: type[ZerostartError]) -> None:
    line = line_of(kind)
    builtin = [base for base in kind.__bases__ if base.__module__ == "builtins"]
    assert all(f"({base.__name__})" in line for base in builtin)
    assert ("(" in line) == bool(builtin)


@pytest.mark.parametrize("kind", TREE)
def test_says_what_happened_and_what_to_do(kind: type[ZerostartError]) -> None:
    error = kind("The wheel a.whl is broken.", remedy="Fetch it again.")
    assert str(error) == "The wheel a.whl is broken. Fetch it again."
    assert error._render_traceback_() == [f"{kind.__name__}: {error}"]


@pytest.mark.parametrize("kind", TREE)
def test_survives_a_pickle_and_a_copy(kind: type[ZerostartError]) -> None:
    error = kind("What.", remedy="Do.")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(twin), twin.message, twin.remedy) == (kind, "What.", "Do.")


def test_an_empty_remedy_leaves_no_blank() -> None:
    assert str(ZerostartError("Stopped.", remedy="")) == "Stopped."
