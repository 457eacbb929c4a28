"""What pip is configured to use here, in uv's words: uv does not read pip's configuration.

An index, a folder of wheels, a certificate or a proxy that was set for pip then holds for uv
too. What is set for uv itself wins, because uv reads that on its own.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping

# Where an option may stand, the later ones first obeyed by pip.
_SECTIONS = ("global", "install", ":env:")


def read(python: str = sys.executable) -> dict[str, str]:
    """pip's options by name, as `pip config` and the environment give them."""
    listed = subprocess.run(
        [python, "-m", "pip", "config", "list"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return parse(listed.stdout)


def parse(listed: str) -> dict[str, str]:
    """The options out of the lines that `pip config list` prints."""
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listed.splitlines():
        name, equals, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if equals and section in found:
            found[section][option] = str(ast.literal_eval(value))
    return {option: value for section in _SECTIONS for option, value in found[section].items()}


def for_uv(pip: Mapping[str, str], environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The arguments and variables that make uv use what pip uses."""
    arguments: list[str] = []
    if "index-url" in pip and not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & environ.keys():
        arguments += ["--default-index", pip["index-url"]]
    if "extra-index-url" in pip and not {"UV_INDEX", "UV_EXTRA_INDEX_URL"} & environ.keys():
        for url in pip["extra-index-url"].split():
            arguments += ["--index", url]
        # pip takes the best version of all indexes; uv by itself takes the first index that has one
        if "UV_INDEX_STRATEGY" not in environ:
            arguments += ["--index-strategy", "unsafe-best-match"]
    if "find-links" in pip and "UV_FIND_LINKS" not in environ:
        for place in pip["find-links"].split():
            arguments += ["--find-links", os.path.expanduser(place)]
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        arguments += ["--no-index"]
    for host in pip.get("trusted-host", "").split():
        arguments += ["--allow-insecure-host", host]

    variables = {
        "SSL_CERT_FILE": pip.get("cert"),
        "NODE_EXTRA_CA_CERTS": pip.get("cert"),  # the frontend's packages come the same way
        "SSL_CLIENT_CERT": pip.get("client-cert"),
        "HTTPS_PROXY": pip.get("proxy"),
        "UV_HTTP_TIMEOUT": pip.get("timeout", pip.get("default-timeout")),
    }
    return arguments, {
        name: value for name, value in variables.items() if value and name not in environ
    }
