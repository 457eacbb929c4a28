"""The names of `zerostart` stay what they are, whatever was imported before."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import zerostart
import zerostart_jupyter

FUNCTIONS = ["install", "load", "load_into", "snapshot", "restore", "snapshots", "undo", "doctor"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_package_of_the_same_name_does_not_hide_a_function(name: str) -> None:
    for folder in pkgutil.iter_modules(zerostart_jupyter.__path__):
        importlib.import_module(f"zerostart_jupyter.{folder.name}")
    for _ in range(2):
        assert inspect.isfunction(getattr(zerostart, name))
    assert not inspect.isfunction(getattr(zerostart_jupyter, name, None))


def test_every_public_name_is_documented() -> None:
    for name in zerostart.__all__:
        if name != "__version__":
            assert inspect.getdoc(getattr(zerostart, name)), name


def test_the_error_is_the_root_of_the_tree() -> None:
    assert zerostart.ZerostartError.__module__ == "zerostart_jupyter.core.errors"


def test_other_names_are_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'instal'"):
        _ = zerostart.instal  # type: ignore[attr-defined]


def test_dir_lists_the_surface() -> None:
    assert set(FUNCTIONS) < set(dir(zerostart))
