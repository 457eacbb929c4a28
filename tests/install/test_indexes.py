from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from zerostart_jupyter.install.indexes import IndexOptions, pip_settings, read_indexes


def read(environ: dict[str, str], **options: object) -> tuple[str, ...]:
    base = {"PIP_CONFIG_FILE": os.devnull}
    return read_indexes(IndexOptions(**options), base | environ).arguments  # type: ignore[arg-type]


def test_nothing_set_asks_for_nothing() -> None:
    assert read({}) == ()


def test_pips_indexes_are_all_asked_for_the_best_version() -> None:
    found = read(
        {"PIP_INDEX_URL": "https://a/simple", "PIP_EXTRA_INDEX_URL": "https://b https://c"}
    )
    assert found == (
        *("--default-index", "https://a/simple", "--index", "https://b", "--index", "https://c"),
        *("--index-strategy", "unsafe-best-match"),
    )


def test_our_own_options_win() -> None:
    environ = {"PIP_INDEX_URL": "https://pip", "PIP_FIND_LINKS": "/pip"}
    found = read(environ, index_url="https://own", find_links=("/own",), offline=True)
    assert found == ("--default-index", "https://own", "--find-links", "/own", "--offline")


def test_what_a_request_names_itself_is_known_to_our_connections() -> None:
    environ = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "https://pip"}
    found = read_indexes(IndexOptions(named=("https://own",)), environ)
    assert found.arguments == ("--default-index", "https://pip")
    assert found.urls == ("https://pip", "https://own")
    found = read_indexes(IndexOptions(named=("https://own",), names_default=True), environ)
    assert found.arguments == ()
    assert found.urls == ("https://own",)


@pytest.mark.parametrize("name", ["UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX"])
def test_uvs_settings_win_over_pips(name: str) -> None:
    environ = {
        name: "https://uv",
        "PIP_INDEX_URL": "https://pip",
        "PIP_EXTRA_INDEX_URL": "https://x",
    }
    assert read(environ) == ()


def test_find_links_are_handed_on() -> None:
    assert read({"PIP_FIND_LINKS": "/a ~/b"})[-1] == str(Path("~/b").expanduser())
    assert read({"PIP_FIND_LINKS": "/a", "UV_FIND_LINKS": "/b"}) == ()
    assert read({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/a"})[0] == "--no-index"


def test_the_rest_of_pip_has_its_counterparts() -> None:
    environ = {
        "PIP_CONSTRAINT": "/c.txt",
        "PIP_PRE": "1",
        "PIP_TRUSTED_HOST": "inner:8080",
        "PIP_CERT": "/ca.pem",
        "PIP_PROXY": "http://proxy:1",
        "PIP_CLIENT_CERT": "/me.pem",
        "PIP_KEYRING_PROVIDER": "subprocess",
        "PIP_CONFIG_FILE": os.devnull,
    }
    found = read_indexes(None, environ)
    assert found.arguments == (
        *("--constraints", "/c.txt", "--prerelease", "allow"),
        *("--allow-insecure-host", "inner:8080", "--keyring-provider", "subprocess"),
    )
    assert found.environment["SSL_CERT_FILE"] == found.certificate == "/ca.pem"
    assert found.environment["SSL_CLIENT_CERT"] == "/me.pem"
    assert found.environment["HTTPS_PROXY"] == found.proxy == "http://proxy:1"
    assert found.trusted_hosts == {"inner:8080"}
    assert found.keyring


def test_pips_files_are_read_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    places = {
        "xdg/pip/pip.conf": "[global]\nindex-url = shared\ntimeout = 1\n[install]\nno-index = 0\n",
        "home/.pip/pip.conf": "[global]\nindex_url = legacy\n",
        "home/.config/pip/pip.conf": "[global]\nindex-url = user\nproxy = %(x)s\n",
        "venv/pip.conf": "[global]\nno-index = true\n[list]\nindex-url = other command\n",
        "named.conf": "[global]\nfind-links =\n    /a\n    /b\n",
    }
    for name, text in places.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    environ = {
        "HOME": str(tmp_path / "home"),
        "XDG_CONFIG_DIRS": str(tmp_path / "xdg"),
        "PIP_CONFIG_FILE": str(tmp_path / "named.conf"),
        "PIP_TIMEOUT": "9",
    }
    found = pip_settings(environ)
    assert found["index-url"] == "user"
    assert found["no-index"] == "true"
    assert found["find-links"].split() == ["/a", "/b"]
    assert found["timeout"] == "9"
    assert found["proxy"] == "%(x)s"


def test_a_broken_file_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("no section\n")
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    assert isinstance(pip_settings(environ), dict)


def test_credentials_stay_out_of_sight() -> None:
    options = IndexOptions(index_url="https://user:secret@host/simple")
    found = read_indexes(options, {"PIP_CONFIG_FILE": os.devnull})
    assert found.urls == ("https://user:secret@host/simple",)
    assert "secret" not in repr(found)


def test_named_indexes_of_uv_have_their_address() -> None:
    environ = {"UV_INDEX": "inner=https://a/simple https://b/?q=1", "PIP_CONFIG_FILE": os.devnull}
    assert read_indexes(None, environ).urls == ("https://a/simple", "https://b/?q=1")


def test_every_setting_that_matters_is_in_the_fingerprint() -> None:
    def key(environ: dict[str, str]) -> tuple[str, ...]:
        return read_indexes(None, {"PIP_CONFIG_FILE": os.devnull, **environ}).fingerprint()

    assert key({"UV_PRERELEASE": "allow"}) != key({})
    assert key({"PIP_INDEX_URL": "x"}) != key({})
    assert key({"UV_CACHE_DIR": "x"}) == key({})
