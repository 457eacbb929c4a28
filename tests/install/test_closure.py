from __future__ import annotations

import unittest.mock

from zerostart_jupyter.install.closure import Closure


def test_closures_follow_requirements_within_the_lock() -> None:
    closure = Closure(["a", "b", "c", "d"], {})
    closure.learn("a", ["B>=1", "elsewhere", "not a requirement !"])
    closure.learn("b", ["c; python_version >= '3'", "d; python_version < '3'"])
    assert closure.of("a") == {"a", "b", "c"}
    assert closure.of("d") == {"d"}


def test_circles_end() -> None:
    closure = Closure(["a", "b"], {})
    closure.learn("a", ["b"])
    closure.learn("b", ["a"])
    assert closure.of("a") == {"a", "b"}


def test_extras_count_where_somebody_asks_for_them() -> None:
    closure = Closure(["a", "b", "plot", "deep"], {"b": ["all"]})
    closure.learn("b", ["plot; extra == 'all'", "deep; extra == 'other'"])
    assert closure.of("b") == {"b", "plot"}
    closure.learn("a", ["b[other]"])
    assert closure.of("b") == {"b", "plot", "deep"}


def test_an_extra_may_ask_for_another() -> None:
    closure = Closure(["a", "b"], {"a": ["all"]})
    closure.learn("a", ["a[most]; extra == 'all'", "b; extra == 'most'"])
    assert closure.of("a") == {"a", "b"}


def test_what_is_not_known_yet_needs_nothing() -> None:
    assert Closure(["a", "b"], {}).of("a") == {"a"}


def test_what_it_says_later_counts() -> None:
    closure = Closure(["a", "b", "c"], {})
    closure.learn("a", [])
    assert closure.of("a") == {"a"}
    closure.learn("a", ["b", "c[x]"])
    assert closure.of("a") == {"a", "b", "c"}


def test_requirements_are_read_when_somebody_asks() -> None:
    closure = Closure(["a", "b", "c", "d"], {})
    closure.learn("a", ["b"])
    closure.learn("c", ["b"])
    with unittest.mock.patch("zerostart_jupyter.install.closure.Requirement") as read:
        closure.learn("d", ["b"])
        closure.of("d")
        closure.of("d")
    read.assert_called_once_with("b")
