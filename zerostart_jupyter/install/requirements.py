"""What was asked for, and where it was found.

The text of requirements stays as it was written: uv reads it, with all of its syntax. Here it is
only gathered, and made into a fingerprint by which an earlier answer is found again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from zerostart_jupyter.core.errors import RequirementError
from zerostart_jupyter.install import blocks, cells
from zerostart_jupyter.install.indexes import IndexOptions

_INCLUDE = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)[ =]\s*(\S+)", re.MULTILINE)
_EXTRAS = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*\[([A-Za-z0-9._,\s-]+)\]")
_PROJECT_FILES = ("pyproject.toml", "requirements.txt")


@dataclass(frozen=True, slots=True)
class Request:
    """Requirement lines, files with more of them, and index options.

    `origin` says where they were found, for people. Relative paths in `specs` are relative to
    `base`. `project` is the text of a pyproject.toml, for a block that speaks to uv.
    """

    specs: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    origin: str = "arguments"
    base: Path = field(default_factory=Path.cwd)
    requires_python: str | None = None
    index: IndexOptions = field(default_factory=IndexOptions)
    project: str = ""

    @property
    def empty(self) -> bool:
        """True if nothing at all was asked for."""
        return not (self.specs or self.files or self.project)

    @property
    def title(self) -> str:
        """A few words for a progress line."""
        # an address may hold a password before its host, and a signature in its query
        specs = [re.sub(r"(://)[^/@\s]+@|\?[^#\s]*(?=#|\s|$)", r"\1", each) for each in self.specs]
        words = [*specs, *(path.name for path in self.files)]
        if self.project:
            words.insert(0, Path(self.origin).name)
        shown = ", ".join(words[:3]) or "nothing"
        return shown + (f" and {len(words) - 3} more" if len(words) > 3 else "")

    def parts(self) -> list[str]:
        """Every text that the answer depends on; raises RequirementError for a missing file."""
        local = any(spec.startswith((".", "-")) for spec in self.specs)
        texts = [*self.specs, str(self.base) if local else "", self.project]
        for path in self.files:
            for name, text in includes(path):
                texts += [str(name), text]
        return texts

    def extras(self) -> dict[str, set[str]]:
        """The extras that are named anywhere, by project."""
        found: dict[str, set[str]] = {}
        for text in self.parts():
            for name, extras in _EXTRAS.findall(text):
                wanted = {
                    re.sub(r"[-_.]+", "-", each.strip()).lower() for each in extras.split(",")
                }
                found.setdefault(_normal(name), set()).update(wanted)
        return found


def gather(
    specs: Sequence[str] = (),
    *,
    files: Sequence[Path] = (),
    text: str | None = None,
    start: Path | None = None,
    notebook: Path | None = None,
    executed: Iterable[str] = (),
    index: IndexOptions | None = None,
) -> Request:
    """A request from arguments, files and a cell's body, or else from what lies around.

    With nothing given: the notebook's own PEP 723 cell, else `start` itself if it is a script
    with such a block, else the nearest pyproject.toml or requirements.txt at or above `start`.
    `executed` are cells that ran, the latest first: a notebook may not have been saved since.
    Raises RequirementError if there is nothing, or if it cannot be read.
    """
    index = index or IndexOptions()
    folder = start if start is not None and start.is_dir() else (start or Path.cwd() / "x").parent
    paths = tuple(Path(path).expanduser().resolve() for path in files)
    for path in paths:
        if not path.is_file():
            raise RequirementError(
                f"There is no requirements file {path}.", remedy="Check the path after -r."
            )
    named = tuple(spec.strip() for spec in specs if spec.strip())
    if text is not None:
        found = _read_text(text, folder.resolve(), index)
        return _checked(replace(found, specs=(*named, *found.specs), files=paths))
    if named or paths:
        return _checked(Request(named, paths, "arguments", folder.resolve(), None, index))
    return _checked(_found(folder.resolve(), start, notebook, executed, index))


def candidates(folder: Path) -> Iterator[Path]:
    """The files that are looked for where nothing was named, the first first."""
    for above in (folder, *folder.parents):
        yield from (above / name for name in _PROJECT_FILES)


def includes(path: Path) -> Iterator[tuple[Path, str]]:
    """A file of requirements and all that it includes, each with its text.

    Raises RequirementError for one that cannot be read.
    """
    return _with_includes(path, set())


def script_request(script: Path, index: IndexOptions | None = None) -> Request | None:
    """The request in a script's PEP 723 block, or None if it has no block."""
    text = script.read_text(encoding="utf-8", errors="replace")
    return _script(text, str(script), script.resolve().parent, index)


def text_request(text: str, where: str, index: IndexOptions | None = None) -> Request | None:
    """The same for a script that is no file, with `where` as its name for people."""
    block = blocks.body(text)
    if block is not None and "tool" in blocks.table(block, where):
        raise RequirementError(
            f"{where} has tables of tools in its `# /// script` block, which need a file.",
            remedy="Write the script to a file, and run that.",
        )
    return _script(text, where, Path.cwd(), index)


def _script(text: str, where: str, base: Path, index: IndexOptions | None) -> Request | None:
    block = blocks.body(text)
    return None if block is None else _checked(_of_block(block, where, base, index))


def _of_block(block: str, where: str, base: Path, index: IndexOptions | None) -> Request:
    index = index or IndexOptions()
    table = blocks.table(block, where)
    lines, python = blocks.dependencies(table, where), table.get("requires-python")
    from zerostart_jupyter.install import tables

    if not tables.uvs(table):
        return Request(lines, (), where, base, python, index)
    addresses, default = tables.indexes(table)
    index = replace(index, named=addresses, names_default=default)
    return Request((), (), where, base, python, index, tables.project(table, where, base))


def _found(
    folder: Path,
    start: Path | None,
    notebook: Path | None,
    executed: Iterable[str],
    index: IndexOptions,
) -> Request:
    block = cells.latest_block(executed)
    if block is None and notebook is not None:
        block = cells.notebook_block(notebook)
    if block is not None:
        name = notebook.name if notebook is not None else "the notebook"
        base = notebook.parent.resolve() if notebook is not None else folder
        return _of_block(block, name, base, index)
    if start is not None and start.is_file() and (request := script_request(start, index)):
        return request
    for path in candidates(folder):
        if path.is_file() and (path.name != "pyproject.toml" or _is_project(path)):
            return Request((), (path,), str(path), path.parent, None, index)
    raise RequirementError(
        f"Nothing was named to install, and there is no pyproject.toml or requirements.txt in "
        f"{folder} or above it.",
        remedy="Name a package, or a file with -r.",
    )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _read_text(text: str, base: Path, index: IndexOptions) -> Request:
    block = blocks.body(text)
    if block is not None:
        return _of_block(block, "the cell", base, index)
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in text.splitlines())
    return Request(tuple(filter(None, lines)), (), "the cell", base, None, index)


def _is_project(path: Path) -> bool:
    import tomllib

    try:
        project = tomllib.loads(path.read_text(encoding="utf-8")).get("project")
    except (OSError, ValueError) as error:
        raise RequirementError(f"{path} cannot be read: {error}.", remedy="Correct it.") from error
    return isinstance(project, dict) and bool(
        project.get("dependencies") or "dependencies" in project.get("dynamic", [])
    )


def _with_includes(path: Path, seen: set[Path]) -> Iterator[tuple[Path, str]]:
    path = path.resolve()
    if path in seen:
        return
    seen.add(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequirementError(
            f"The requirements file {path} cannot be read: {error}.", remedy="Check the path."
        ) from error
    yield path, text
    for name in _INCLUDE.findall(text) if path.suffix != ".py" else ():
        if "://" not in name:
            yield from _with_includes(path.parent / name, seen)


def _checked(request: Request) -> Request:
    if request.requires_python:
        import platform

        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        try:
            fits = SpecifierSet(request.requires_python).contains(platform.python_version())
        except InvalidSpecifier as error:
            raise RequirementError(
                f"`requires-python` of {request.origin} cannot be read: {error}.",
                remedy="Correct it.",
            ) from error
        if not fits:
            raise RequirementError(
                f"{request.origin} needs Python {request.requires_python}, and this is "
                f"{platform.python_version()}.",
                remedy="Start a kernel of a fitting Python.",
            )
    return request
