from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.jupyter.magics import NAMING
from zerostart_jupyter.snapshot.catalog import Catalog, fresh_id

MAGICS = ("zs_install", "zs_load", "zs_snapshot")


def complete(shell: InteractiveShell, text: str) -> list[str]:
    return list(shell._zerostart.completion.complete(text))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("%zs_snapshot s", ["save", "show"]),
        ("%zs_snapshot ", None),
        ("x = %zs_load --re", ["--reader"]),
        ("%zs_load --reader m", ["mmap"]),
        ("%zs_install --w", ["--wait"]),
        ("a = 1\n%zs_install --w", ["--wait"]),
        ("%zs_install --wait --w", []),
        ("print('%zs_snapshot s", []),
        ("%other s", []),
    ],
)
def test_words(shell: InteractiveShell, text: str, found: list[str] | None) -> None:
    words = complete(shell, text)
    if found is None:
        assert {"save", "list", "restore", "clone", "delete", "doctor"} <= set(words)
    else:
        assert words == found


def test_files(shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "notes.md").touch()
    (tmp_path / "models").mkdir()
    assert complete(shell, "%zs_load mo") == ["model.safetensors", "models/"]
    assert complete(shell, "%zs_load no") == []


def test_into_offers_names(shell: InteractiveShell) -> None:
    shell.user_ns["my_model"] = 1
    assert complete(shell, "%zs_load x --into my_") == ["my_model"]


def test_ipython_asks_us(shell: InteractiveShell) -> None:
    text = "%zs_snapshot resto"
    with provisionalcompleter():
        found = [each.text for each in shell.Completer.completions(text, len(text))]
    assert found == ["restore"]


@pytest.fixture
def snapshots(private: Path) -> Path:
    """A cache other than the environment's, with snapshots `one` and `other`."""
    catalog = Catalog(Settings.read(cache=private / "another"))
    for name in ("one", "other"):
        with catalog.reserve(name), catalog.publish(fresh_id(), {"name": name}):
            pass
    return private / "another"


@pytest.mark.parametrize("magic", MAGICS)
def test_all_options(shell: InteractiveShell, magic: str) -> None:
    actions = shell.find_line_magic(magic).parser._actions
    known = {name for action in actions for name in action.option_strings if name[:2] == "--"}
    assert known
    assert complete(shell, f"%{magic} x --") == sorted(known)


@pytest.mark.parametrize("action", NAMING)
def test_snapshots_of_the_cache_that_is_configured(
    shell: InteractiveShell, snapshots: Path, action: str
) -> None:
    assert complete(shell, f"%zs_snapshot {action} o") == []
    shell.run_line_magic("config", f"Zerostart.cache = {str(snapshots)!r}")
    assert complete(shell, f"%zs_snapshot {action} o") == ["one", "other"]
    assert complete(shell, f"found = %zs_snapshot --trust {action} on") == ["one"]


def test_a_setting_that_cannot_be_used_offers_nothing(shell: InteractiveShell) -> None:
    shell.run_line_magic("config", "Zerostart.chunk_mb = 'many'")
    assert complete(shell, "%zs_snapshot restore ") == []


def test_files_at_home(
    shell: InteractiveShell, private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(private))
    (private / "model.safetensors").touch()
    assert complete(shell, "%zs_load ~/mod") == ["~/model.safetensors"]


def test_exports(shell: InteractiveShell, private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(private)
    (private / "one.zsnap").touch()
    assert complete(shell, "%zs_snapshot import o") == ["one.zsnap"]
    assert complete(shell, "%zs_snapshot export one o") == ["one.zsnap"]
