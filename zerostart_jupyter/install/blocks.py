"""PEP 723 blocks: found in a text, read, and written with further dependencies.

A block is changed as text, so that comments, its own tables and the order of lines stay.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from zerostart_jupyter.core.errors import RequirementError

# The reference implementation's expression, PEP 723.
_BLOCK = re.compile(r"(?m)^# /// script[ \t]*$\r?\n(?P<body>(^#(| .*)$\r?\n?)+?)^# ///[ \t]*$")
_LIST = re.compile(r"(?m)^dependencies[ \t]*=[ \t]*\[")
# A name, and then what may follow it in a requirement (PEP 508): no path, no option, no bare URL.
_NAMED = re.compile(r"\s*([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9])\s*(?=$|[\[(<>=!~;@])")
# Lines that have to stay the first of their text.
_FIRST = re.compile(r"\A(?:#!.*\n|%%.*(?:\n|\Z))?(?:#.*coding[:=].*\n)?")


def body(text: str) -> str | None:
    """The inside of a text's block, or None if it has none; RequirementError for several."""
    found = list(_BLOCK.finditer(_ended(text)))
    if len(found) > 1:
        raise RequirementError(
            "There are several `# /// script` blocks.", remedy="Keep one of them (PEP 723)."
        )
    return found[0].group("body") if found else None


def table(inside: str, where: str) -> dict[str, Any]:
    """What the inside of a block says; raises RequirementError if it is not TOML."""
    import tomllib

    try:
        return tomllib.loads(_plain(inside))
    except tomllib.TOMLDecodeError as error:
        raise RequirementError(
            f"The `# /// script` block of {where} is not TOML: {error}.",
            remedy="Correct it (PEP 723).",
        ) from error


def dependencies(read: dict[str, Any], where: str) -> tuple[str, ...]:
    """The requirements of a block that was read; raises RequirementError if they make no list."""
    lines = read.get("dependencies", [])
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise RequirementError(
            f"`dependencies` of {where} is not a list of texts.", remedy="Correct it (PEP 723)."
        )
    return tuple(lines)


def check(specs: Sequence[str]) -> None:
    """Raise RequirementError for what a block cannot hold: options, paths, addresses alone."""
    for spec in specs:
        _name(spec)


def written(text: str, specs: Sequence[str], block: str | None = None) -> str:
    """The text with a block that names these too; a requirement of the same name gives way.

    Without a block of its own the text gets one, made of the inside of another `block` or new.
    Raises RequirementError for a requirement that a block cannot hold.
    """
    check(specs)
    own = body(text)
    inside = own if own is not None else block
    if inside is None:
        inside = f'# requires-python = ">={sys.version_info.major}.{sys.version_info.minor}"\n'
    new = _commented(_merged(_plain(inside), specs))
    if own is not None:
        return _ended(text).replace(own, new, 1)
    at = _FIRST.match(text)
    start = at.end() if at else 0
    head = text[:start] if text[:start].endswith("\n") or not start else f"{text[:start]}\n"
    return f"{head}# /// script\n{new}# ///\n{text[start:]}"


def _merged(toml: str, specs: Sequence[str]) -> str:
    known = list(dependencies(table(_commented(toml), "the text"), "the text"))
    wanted = list(known)
    for spec in specs:
        same = [at for at, each in enumerate(wanted) if _same(each, spec)]
        if same:
            wanted[same[0]] = spec
        elif spec not in wanted:
            wanted.append(spec)
    if wanted == known:
        return toml
    for changed in (_edited(toml, known, wanted), _replaced(toml, wanted)):
        if changed is not None and _says(changed, wanted):
            return changed
    raise RequirementError(
        "The `dependencies` of the `# /// script` block cannot be changed as text.",
        remedy="Write them as a list of texts, one a line.",
    )


def _edited(toml: str, known: list[str], wanted: list[str]) -> str | None:
    """The list with single entries exchanged and added, where its form allows that."""
    span = _span(toml)
    if span is None or "\n" not in toml[slice(*span)]:
        return None
    inside = toml[slice(*span)]
    for old, new in zip(known, wanted, strict=False):
        if old != new:
            inside = inside.replace(json.dumps(old), json.dumps(new), 1)
            inside = inside.replace(f"'{old}'", json.dumps(new), 1)
    inside = inside.rstrip()
    if known and not inside.endswith(","):
        inside += ","
    indent = re.findall(r"\n([ \t]*)[\"']", inside)
    added = "".join(
        f"\n{(indent or ['    '])[0]}{json.dumps(new)}," for new in wanted[len(known) :]
    )
    return f"{toml[: span[0]]}{inside}{added}\n{toml[span[1] :]}"


def _replaced(toml: str, wanted: list[str]) -> str:
    """The whole list written anew, before everything else if there was none."""
    lines = "".join(f"\n    {json.dumps(each)}," for each in wanted) + "\n"
    span = _span(toml)
    if span is not None:
        return f"{toml[: span[0]]}{lines}{toml[span[1] :]}"
    before, at, rest = toml.partition("\n[") if not toml.startswith("[") else ("", "", toml)
    before = before if before.endswith("\n") or not before else f"{before}\n"
    return f"{before}dependencies = [{lines}]\n{at}{rest}"


def _span(toml: str) -> tuple[int, int] | None:
    """Where the inside of the list of dependencies begins and ends."""
    import tomllib

    start = _LIST.search(toml)
    for stop in re.finditer(r"]", toml[start.end() :]) if start else ():
        end = start.end() + stop.start()  # type: ignore[union-attr]
        try:
            tomllib.loads(f"x = [{toml[start.end() : end]}]")  # type: ignore[union-attr]
        except tomllib.TOMLDecodeError:
            continue
        return start.end(), end  # type: ignore[union-attr]
    return None


def _says(toml: str, wanted: list[str]) -> bool:
    try:
        return list(table(_commented(toml), "").get("dependencies", [])) == wanted
    except RequirementError:
        return False


def _same(one: str, other: str) -> bool:
    """Whether both speak of one distribution, for the same machines."""
    return _name(one) == _name(other) and one.partition(";")[2:] == other.partition(";")[2:]


def _name(spec: str) -> str:
    found = _NAMED.match(spec)
    if found is None:
        raise RequirementError(
            f"{spec!r} cannot be kept in a `# /// script` block.",
            remedy="Name a package, `name>=1.2` or `name @ URL` say.",
        )
    return re.sub(r"[-_.]+", "-", found.group(1)).lower()


def _plain(inside: str) -> str:
    lines = inside.splitlines(keepends=True)
    return "".join(line[2:] if line.startswith("# ") else line[1:] for line in lines)


def _commented(toml: str) -> str:
    return "".join(f"# {line}\n" if line else "#\n" for line in toml.splitlines())


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"
