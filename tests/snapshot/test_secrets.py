from __future__ import annotations

import pytest

from zerostart_jupyter.snapshot import secrets


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "token", "api_key", "OPENAI_API_KEY", "db_password", "AWS_SECRET_ACCESS_KEY"],
)
def test_names_that_look_like_one(name: str) -> None:
    assert secrets.found({name: "xyz"}) == [name]
    assert secrets.found({}, [name]) == [name]


@pytest.mark.parametrize("name", ["tokenizer", "n_tokens_seen", "keys", "monkey", "PATH", "passes"])
def test_names_that_do_not(name: str) -> None:
    found = secrets.found({name: 3.0}, [] if name.startswith("n_") else [name])
    assert found == []


def test_what_holds_nothing_or_no_text_is_none() -> None:
    assert secrets.found({"token": "", "password": None, "tokens": [1, 2]}) == []
    assert secrets.found({"password": b"xyz"}) == ["password"]


def test_each_is_told_once_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_told", set())
    monkeypatch.setenv("SOME_API_KEY", "xyz")
    assert "SOME_API_KEY" not in secrets.once(process=False)
    assert "SOME_API_KEY" in secrets.once(process=True)
    assert "SOME_API_KEY" not in secrets.once(process=True)
