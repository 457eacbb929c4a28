"""The programs that entry_points.txt asks for: only names that stay in a directory of programs,
and only objects that are named and not computed, because both are written into a script.

Format: the PyPA specification "Entry points".
"""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass

from zerostart_jupyter.install.archive import reject

_SECTIONS = {"console_scripts": "console", "gui_scripts": "gui"}
_NAME = r"[^\W\d]\w*"
_OBJECT = re.compile(
    rf"(?P<module>{_NAME}(?:\.{_NAME})*):(?P<attribute>{_NAME}(?:\.{_NAME})*)"
    r"\s*(?:\[[^\]]*\])?"
)
_PYTHON = re.compile(r"pythonw?(\d+(\.\d+)*)?(\.exe)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Program:
    """A program of a name that calls an object of a module; `section` is `console` or `gui`."""

    name: str
    module: str
    attribute: str
    section: str


def programs(data: bytes, wheel: str) -> list[Program]:
    """The programs that an entry_points.txt asks for. Raises WheelRejected where one is unsound."""
    config = configparser.ConfigParser(
        delimiters=("=",), interpolation=None, strict=False, default_section="\0"
    )
    config.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        config.read_string(data.decode("utf-8-sig"))
    except (configparser.Error, ValueError):
        reject(wheel, "its entry_points.txt cannot be read")
    return [
        _program(name, value, section, wheel)
        for group, section in _SECTIONS.items()
        if config.has_section(group)
        for name, value in config.items(group)
    ]


def _program(name: str, value: str, section: str, wheel: str) -> Program:
    if not name.isprintable() or re.search(r"[/\\\s]|^\.{0,2}$", name) or len(name.encode()) > 200:
        reject(wheel, f"{name[:60]!r} is no name for a program")
    if is_python(name):
        reject(wheel, f"its program {name!r} would stand in for the interpreter")
    found = _OBJECT.fullmatch(value.strip())
    if found is None:
        reject(wheel, f"its program {name!r} names nothing that can be called")
    return Program(name, found["module"], found["attribute"], section)


def is_python(program: str) -> bool:
    """True for the names under which interpreters are called."""
    return _PYTHON.fullmatch(program) is not None
