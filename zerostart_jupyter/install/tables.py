"""What a PEP 723 block says to uv, as a project that `uv pip compile` reads.

Of a script uv's resolver reads the dependencies, and silently not all of `[tool.uv]`: sources and
named indexes are passed over, and what was meant for one's own index is asked of the public one. Of
a project it reads everything. A cell is no file either, so both become a project.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import RequirementError

# Of a project around: what is about that project, and not about how to resolve.
_ITS_OWN = frozenset(
    {"sources", "workspace", "package", "managed", "dev-dependencies", "dependency-groups"}
    | {"default-groups", "build-backend", "conflicts", "environments", "required-environments"}
)


def uvs(table: Mapping[str, Any]) -> dict[str, Any]:
    """The `[tool.uv]` of a block that was read; empty if it has none."""
    tools = table.get("tool")
    found = tools.get("uv") if isinstance(tools, dict) else None
    return found if isinstance(found, dict) else {}


def project(table: Mapping[str, Any], where: str, base: Path) -> str:
    """The text of a pyproject.toml that asks for the same as a block in a file of folder `base`.

    Raises RequirementError for what cannot be told in it.
    """
    around = {} if os.environ.get("UV_NO_CONFIG") else _around(base)
    own = _absolute(uvs(table), base)
    if "index" in own and isinstance(around.get("index"), list):
        own["index"] = [*own["index"], *around["index"]]
    about = {
        "name": "zerostart-request",
        "version": "0",
        **{key: table[key] for key in ("dependencies", "requires-python") if key in table},
    }
    try:
        return f"project = {_toml(about)}\ntool = {_toml({'uv': around | own})}\n"
    except TypeError as error:
        raise RequirementError(
            f"The `[tool.uv]` table of {where} cannot be read: {error}.", remedy="Correct it."
        ) from error


def indexes(table: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    """The addresses of indexes that a block names, and whether one is to be the default."""
    own = uvs(table)
    listed = [each for each in own.get("index") or () if isinstance(each, dict)]
    urls = [each.get("url") for each in listed] + [own.get("index-url")]
    urls += own.get("extra-index-url") or ()
    default = "index-url" in own or any(each.get("default") for each in listed)
    return tuple(url for url in urls if isinstance(url, str)), default


def _around(base: Path) -> dict[str, Any]:
    """The settings that uv would find at or above a folder, or in the file that is named to it."""
    named = os.environ.get("UV_CONFIG_FILE")
    if named:
        return _absolute(_read(base / named), (base / named).parent)
    for folder in (base, *base.parents):
        if (folder / "uv.toml").is_file():
            return _absolute(_read(folder / "uv.toml"), folder)
        if (folder / "pyproject.toml").is_file():
            found = uvs(_read(folder / "pyproject.toml"))
            if found:
                kept = {key: each for key, each in found.items() if key not in _ITS_OWN}
                return _absolute(kept, folder)
    return {}


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequirementError(f"{path} cannot be read: {error}.", remedy="Correct it.") from error


def _absolute(own: dict[str, Any], base: Path) -> dict[str, Any]:
    """The same with paths that hold wherever it stands."""

    def settled(value: Any) -> Any:
        if isinstance(value, str) and "://" not in value:
            return str((base / os.path.expanduser(value)).absolute())
        return value

    def within(value: Any) -> Any:
        if isinstance(value, list):
            return [within(each) for each in value]
        if isinstance(value, dict):
            return {
                key: settled(each) if key in ("path", "url") else within(each)
                for key, each in value.items()
            }
        return value

    found = {key: within(value) for key, value in own.items()}
    for key in ("index-url", "extra-index-url", "find-links"):
        if key in found:
            value = found[key]
            listed = isinstance(value, list)
            found[key] = [settled(each) for each in value] if listed else settled(value)
    return found


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    raise TypeError(f"{value!r} has no place in TOML")


def _text(value: str) -> str:
    # JSON's escapes are TOML's, but for the one character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
