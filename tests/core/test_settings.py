"""Settings: precedence, what cannot be read, and that every field is documented."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerostart_jupyter.core import settings as module
from zerostart_jupyter.core.errors import SettingsError
from zerostart_jupyter.core.settings import MIB, Settings, describe, table


def test_defaults() -> None:
    read = Settings.read({})
    assert read == Settings()
    assert read.cache == Path.home() / ".cache" / "zerostart"
    assert (read.parallel_downloads, read.chunk_bytes, read.window_bytes) == (
        16,
        8 * MIB,
        160 * MIB,
    )


def test_argument_before_environment_before_default() -> None:
    environ = {"ZS_CHUNK_MB": "4", "ZS_WINDOW_MB": "64"}
    read = Settings.read(environ, chunk_mb=2, window_mb=None)
    assert (read.chunk_mb, read.window_mb, read.parallel_downloads) == (2, 64, 16)


def test_reads_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZS_CHUNK_MB", "3")
    assert Settings.read().chunk_mb == 3


def test_an_empty_variable_is_not_set() -> None:
    assert Settings.read({"ZS_CHUNK_MB": ""}).chunk_mb == 8


def test_seconds_may_be_fractions() -> None:
    assert Settings.read({"ZS_HTTP_TIMEOUT": "2.5"}).http_timeout == 2.5


def test_none_at_all_may_be_asked_for() -> None:
    read = Settings.read({"ZS_MODEL_CACHE_GB": "0.0", "ZS_MAP_MB": "0"})
    assert (read.model_cache_gb, read.map_mb) == (0, 0)
    read = Settings.read({"ZS_MODEL_CACHE_GB": "0.5", "ZS_MAP_MB": "2"})
    assert (read.model_cache_gb, read.map_mb) == (0.5, 2)


def test_with_changes_a_copy() -> None:
    read = Settings.read({})
    assert read.with_(chunk_mb=1, window_mb=None) == Settings(chunk_mb=1)
    assert read.chunk_mb == 8


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("ZS_CHUNK_MB", "0"),
        ("ZS_CHUNK_MB", "-1"),
        ("ZS_CHUNK_MB", "eight"),
        ("ZS_CHUNK_MB", "1.5"),
        ("ZS_HTTP_TIMEOUT", "0"),
        ("ZS_HTTP_TIMEOUT", "nan"),
        ("ZS_HTTP_TIMEOUT", "inf"),
        ("ZS_HTTP_TIMEOUT", "soon"),
        ("ZS_MAP_MB", "-1"),
        ("ZS_MODEL_CACHE_GB", "-0.5"),
        ("ZS_NO_SYSTEM_CUDA", "perhaps"),
        ("ZEROSTART_CACHE", "~no-such-user-here/cache"),
    ],
)
def test_what_cannot_be_read_is_named(variable: str, text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.read({variable: text})
    assert f"{variable}={text!r}" in raised.value.message
    assert raised.value.remedy.endswith("Unset it for the default.")


@pytest.mark.parametrize("text", ["1", "true", "YES", " on "])
def test_flags_that_are_on(text: str) -> None:
    assert Settings.read({"ZS_NO_SYSTEM_CUDA": text}).no_system_cuda


@pytest.mark.parametrize("text", ["0", "false", "No", "off", " "])
def test_flags_that_are_off(text: str) -> None:
    assert not Settings.read({"ZS_NO_SYSTEM_CUDA": text}).no_system_cuda


def test_the_cache_stays_where_it_is_when_the_notebook_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.read({"ZEROSTART_CACHE": "here"}).cache == tmp_path / "here"
    assert Settings.read({"ZEROSTART_CACHE": "~/z"}).cache == Path.home() / "z"


@given(st.sampled_from([each.metadata["env"] for each in fields(Settings)]), st.text())
def test_any_text_is_read_or_refused_in_one_way(variable: str, text: str) -> None:
    refused = ""
    try:
        Settings.read({variable: text})
    except SettingsError as error:
        refused = str(error)
    assert refused == "" or variable in refused


def test_cores_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert module._cores() == 1


def test_the_table_has_every_field_and_depends_on_no_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = table()
    assert [row[0] for row in before] == [each.metadata["env"] for each in fields(Settings)]
    assert all(doc.endswith(".") for _, _, doc in before)
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.setattr(module, "_cores", lambda: 77)
    assert table() == before


def test_describe() -> None:
    assert describe("chunk_mb").metadata["env"] == "ZS_CHUNK_MB"
    with pytest.raises(KeyError):
        describe("no_such_setting")
