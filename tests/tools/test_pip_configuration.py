"""pip's configuration in uv's words, from what `pip config list` really prints."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.pip_configuration import for_uv, parse, read

LISTED = r"""
global.extra-index-url='https://one.example/simple\nhttps://two.example/simple'
global.find-links='/wheels'
global.index-url='https://main.example/simple'
install.find-links='/wheels/of/install'
:env:.index-url='https://env.example/simple'
:env:.default-timeout='30'
list.format='json'
"""


def test_the_environment_wins_over_a_command_over_what_is_global() -> None:
    assert parse(LISTED) == {
        "extra-index-url": "https://one.example/simple\nhttps://two.example/simple",
        "find-links": "/wheels/of/install",
        "index-url": "https://env.example/simple",
        "default-timeout": "30",
    }


def test_arguments_and_variables() -> None:
    arguments, variables = for_uv(parse(LISTED), {})
    assert arguments == [
        *("--default-index", "https://env.example/simple"),
        *("--index", "https://one.example/simple"),
        *("--index", "https://two.example/simple"),
        *("--index-strategy", "unsafe-best-match"),
        *("--find-links", "/wheels/of/install"),
    ]
    assert variables == {"UV_HTTP_TIMEOUT": "30"}


@pytest.mark.parametrize(
    ("option", "variable"),
    [
        ("index-url", "UV_DEFAULT_INDEX"),
        ("index-url", "UV_INDEX_URL"),
        ("extra-index-url", "UV_INDEX"),
        ("find-links", "UV_FIND_LINKS"),
    ],
)
def test_what_is_set_for_uv_wins(option: str, variable: str) -> None:
    assert for_uv({option: "https://pip.example"}, {variable: "https://uv.example"}) == ([], {})


def test_certificates_proxies_and_hosts() -> None:
    pip = {"cert": "/ca.pem", "proxy": "http://p:1", "trusted-host": "a b", "no-index": "true"}
    arguments, variables = for_uv(pip, {"HTTPS_PROXY": "http://mine:1"})
    assert arguments == ["--no-index", "--allow-insecure-host", "a", "--allow-insecure-host", "b"]
    assert variables == {"SSL_CERT_FILE": "/ca.pem", "NODE_EXTRA_CA_CERTS": "/ca.pem"}


def test_nothing_configured_is_nothing_passed() -> None:
    assert for_uv({}, {}) == ([], {})


def test_reads_what_pip_itself_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nfind-links =\n    /one\n    /two\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    arguments, _ = for_uv(read(sys.executable), {})
    found = [arguments[at + 1] for at, word in enumerate(arguments) if word == "--find-links"]
    assert found[-2:] == ["/one", "/two"]
