from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.jupyter.magics import NAMING, _parse
from zerostart_jupyter.snapshot.catalog import Catalog, fresh_id

MAGICS = ("zs_install", "zs_load", "zs_snapshot")


ODD = (
    "my model",
    "it's mine",
    "it's",
    'an "old" one',
    "'first",
    "'old's\" one",
    "tab\there",
    "a\nb",
)


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


@pytest.fixture
def odd_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files whose names the magics' parser takes only in quotes, or not at all."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my models").mkdir()
    for name in ODD:
        (tmp_path / f"{name}.safetensors").touch()
    (tmp_path / "my models" / "a b.safetensors").touch()
    (tmp_path / "my models" / "plain.safetensors").touch()


@pytest.mark.usefixtures("odd_files")
@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("my", ['"my model.safetensors"', '"my models/']),
        ('"my mo', ['"my model.safetensors"', '"my models/']),
        ("'my mo", ["'my model.safetensors'", "'my models/"]),
        ('"my models/', ['"my models/a b.safetensors"', '"my models/plain.safetensors"']),
        ('"my models/a b', ['"my models/a b.safetensors"']),
        ('"my model.safetensors"', ['"my model.safetensors"']),
        ("it", ['"it\'s mine.safetensors"', "it's.safetensors"]),
        ("'it", ['"it\'s mine.safetensors"', '"it\'s.safetensors"']),
        ("\"it's ", ['"it\'s mine.safetensors"']),
        ("an", ["'an \"old\" one.safetensors'"]),
        ('\'an "old" ', ["'an \"old\" one.safetensors'"]),
        ("\"'", ['"\'first.safetensors"']),
        ("tab", ['"tab\there.safetensors"']),
        ("a", ["'an \"old\" one.safetensors'"]),
    ],
)
def test_files_are_quoted_as_the_parser_needs(
    shell: InteractiveShell, written: str, found: list[str]
) -> None:
    assert complete(shell, f"%zs_load {written}") == sorted(found)
    magic = shell.find_line_magic("zs_load")
    for word in found:
        path = Path(_parse(magic, f"{word}{'' if word[-1] != '/' else word[0]}").source)
        assert path.exists()


@pytest.mark.usefixtures("odd_files")
def test_a_quote_that_the_editor_has_closed_is_not_closed_again(shell: InteractiveShell) -> None:
    completion = shell._zerostart.completion
    assert completion.complete('%zs_load "my model.', '"') == ['"my model.safetensors']
    assert completion.complete("%zs_load 'it", "' --into w") == []


@pytest.mark.usefixtures("odd_files")
@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("%zs_load my|", '%zs_load "my model.safetensors"'),
        ('x = %zs_load "my mo| --device cpu', 'x = %zs_load "my model.safetensors" --device cpu'),
        ('%zs_load "my mo|"', '%zs_load "my model.safetensors"'),
        ('%zs_load "my models/a b" --re|', '%zs_load "my models/a b" --reader'),
    ],
)
def test_ipython_puts_the_quoted_word_in_place_of_what_was_typed(
    shell: InteractiveShell, line: str, completed: str
) -> None:
    at = line.index("|")
    text = line.replace("|", "")
    with provisionalcompleter():
        first = next(iter(shell.Completer.completions(text, at)))
    assert text[: first.start] + first.text + text[first.end :] == completed


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
