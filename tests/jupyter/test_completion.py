from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell


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
