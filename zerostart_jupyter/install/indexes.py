"""The index settings a person already has: uv's own, pip's own, and what they gave us.

uv reads its variables and files itself; pip's are read here, from pip's places in pip's order,
and handed to uv as options. Given options win over uv's settings, and those over pip's.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# What uv understands about indexes; any of these set means that uv has been configured.
_UV_INDEX = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
_UV_NEUTRAL = ("UV_CACHE_DIR", "UV_NO_PROGRESS", "UV_CONCURRENT_DOWNLOADS", "UV_HTTP_TIMEOUT")


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """What a person said in the magic or on the command line about where packages come from.

    `named` are addresses that uv reads from the request's own table: our connections are to know
    them. With `names_default` one of them stands in the place of what pip asks.
    """

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    offline: bool = False
    named: tuple[str, ...] = field(default=(), repr=False)
    names_default: bool = False


@dataclass(frozen=True, slots=True)
class Indexes:
    """What uv is started with, and what our own connections need.

    `urls` may carry credentials and therefore stay out of the repr.
    """

    arguments: tuple[str, ...] = field(default=(), repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    urls: tuple[str, ...] = field(default=(), repr=False)
    certificate: str | None = None
    client_certificate: str | None = None
    proxy: str | None = field(default=None, repr=False)
    trusted_hosts: frozenset[str] = frozenset()
    keyring: bool = False
    offline: bool = False

    @property
    def simple(self) -> tuple[str, ...]:
        """Those with simple pages that HTTP reaches, in the order in which uv asks them."""
        found = _simple(self.arguments, self.environment)
        return tuple(url for url in found if url.startswith("http"))

    def fingerprint(self) -> tuple[str, ...]:
        """All that can change an answer, for the key of a cached one."""
        set_ = (f"{name}={value}" for name, value in sorted(self.environment.items()))
        return (*self.arguments, *set_)


def read_indexes(
    options: IndexOptions | None = None, environ: Mapping[str, str] | None = None
) -> Indexes:
    """The settings as they stand now."""
    options = options or IndexOptions()
    environ = os.environ if environ is None else environ
    pip = pip_settings(environ)
    arguments = _given(options)
    given = options.index_url or options.names_default
    if not (given or any(environ.get(name) for name in _UV_INDEX)):
        arguments += _pip_indexes(pip, extra=not options.extra_index_urls)
    if not options.find_links and not environ.get("UV_FIND_LINKS"):
        arguments += _each("--find-links", map(_expanded, _words(pip.get("find-links"))))
    for constraints in _words(pip.get("constraint")):
        arguments += ["--constraints", constraints]
    if _true(pip.get("pre")) and "UV_PRERELEASE" not in environ:
        arguments += ["--prerelease", "allow"]
    trusted = _words(pip.get("trusted-host"))
    arguments += _each("--allow-insecure-host", trusted)
    keyring = environ.get("UV_KEYRING_PROVIDER") or pip.get("keyring-provider", "")
    if keyring in ("subprocess", "import"):
        arguments += ["--keyring-provider", "subprocess"]
    extra, certificate = _secure(pip, environ)
    relevant = {
        name: value
        for name, value in environ.items()
        if name.startswith("UV_") and name not in _UV_NEUTRAL
    }
    return Indexes(
        arguments=tuple(arguments),
        environment=relevant | extra,
        urls=(*_urls(arguments, environ), *options.named),
        certificate=certificate,
        client_certificate=pip.get("client-cert") or environ.get("SSL_CLIENT_CERT"),
        proxy=pip.get("proxy"),
        trusted_hosts=frozenset([*trusted, *_words(environ.get("UV_INSECURE_HOST"))]),
        keyring=keyring in ("subprocess", "import"),
        offline=options.offline or _true(environ.get("UV_OFFLINE")),
    )


def pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """pip's options by their long names, from its files and then its PIP_ variables."""
    found: dict[str, str] = {}
    for path in pip_files(environ):
        if not os.path.exists(path):
            continue
        import configparser

        # pip interpolates nothing, and neither may a password with a % in it
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (OSError, configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update((key.replace("_", "-"), text) for key, text in parser.items(section))
    for name, value in environ.items():
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE" and value:
            found[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return found


def pip_files(environ: Mapping[str, str]) -> list[Path]:
    """Where pip's settings may be, the later ones winning."""
    # pip's "Configuration": global, user, site, then the file the variable names.
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = Path(environ.get("HOME") or Path.home())
    shared = (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path(each) / "pip" / "pip.conf" for each in shared if each]
    files += [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", user / "pip" / "pip.conf"]
    files.append(Path(sys.prefix) / "pip.conf")
    if named:
        files.append(Path(named))
    return files


def _given(options: IndexOptions) -> list[str]:
    arguments: list[str] = []
    if options.index_url:
        arguments += ["--default-index", options.index_url]
    arguments += _each("--index", options.extra_index_urls)
    arguments += _each("--find-links", options.find_links)
    if options.no_index:
        arguments.append("--no-index")
    if options.offline:
        arguments.append("--offline")
    return arguments


def _pip_indexes(pip: Mapping[str, str], *, extra: bool) -> list[str]:
    if _true(pip.get("no-index")):
        return ["--no-index"]
    arguments: list[str] = []
    if pip.get("index-url"):
        arguments += ["--default-index", pip["index-url"].strip()]
    others = _words(pip.get("extra-index-url")) if extra else []
    if others:
        # pip takes the best version over all its indexes, and these were written for pip.
        arguments += [*_each("--index", others), "--index-strategy", "unsafe-best-match"]
    return arguments


def _secure(
    pip: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[dict[str, str], str | None]:
    extra: dict[str, str] = {}
    certificate = environ.get("SSL_CERT_FILE") or pip.get("cert")
    certificate = certificate or environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE")
    if certificate and not environ.get("SSL_CERT_FILE"):
        extra["SSL_CERT_FILE"] = certificate
    if pip.get("client-cert") and not environ.get("SSL_CLIENT_CERT"):
        extra["SSL_CLIENT_CERT"] = pip["client-cert"]
    if pip.get("proxy"):
        extra.update(HTTP_PROXY=pip["proxy"], HTTPS_PROXY=pip["proxy"])
    return extra, certificate


def _urls(arguments: list[str], environ: Mapping[str, str]) -> Iterable[str]:
    for option, value in itertools.pairwise(arguments):
        if option in ("--default-index", "--index", "--find-links"):
            yield value
    for name in (*_UV_INDEX, "UV_FIND_LINKS"):
        yield from _unnamed(environ.get(name))


def _simple(arguments: Sequence[str], environ: Mapping[str, str]) -> Iterable[str]:
    if "--no-index" in arguments:
        return
    given = list(itertools.pairwise(arguments))
    yield from (value for option, value in given if option == "--index")
    yield from _unnamed(environ.get("UV_INDEX"))
    yield from _unnamed(environ.get("UV_EXTRA_INDEX_URL"))
    default = [value for option, value in given if option == "--default-index"]
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        default += _unnamed(environ.get(name))
    yield from default[:1] or pips_own()


def pips_own() -> list[str]:
    """The index that pip and uv ask when nothing is configured, as pip's source has it; none
    where there is no pip. It is read: importing pip changes the logging of the whole process."""
    import importlib.util
    import re

    spec = importlib.util.find_spec("pip")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        with contextlib.suppress(OSError):
            text = Path(folder, "_internal", "models", "index.py").read_text(encoding="utf-8")
            return [f"{url}simple" for url in re.findall(r'\nPyPI = \w+\(\s*"([^"]+/)"', text)]
    return []


def _unnamed(words: str | None) -> Iterable[str]:
    for word in _words(words):
        label, separator, url = word.partition("=")
        yield url if separator and "://" not in label else word


def _each(option: str, values: Iterable[str]) -> list[str]:
    return [part for value in values for part in (option, value)]


def _expanded(path: str) -> str:
    return path if "://" in path else os.path.expanduser(path)


def _words(text: str | None) -> list[str]:
    return shlex.split(text, comments=False) if text else []


def _true(text: str | None) -> bool:
    return (text or "").strip().lower() in ("1", "true", "yes", "on")
