"""From a request to a lock: uv decides, its answer is kept for a while.

uv is run as a program, with this process's interpreter as the target, and answers with a
pylock.toml (PEP 751). What it locks to a source is built into a wheel before the lock is handed
on, so that everything after this sees wheels only.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from zerostart_jupyter.core.errors import (
    InstallError,
    NetworkError,
    RequirementError,
    ResolveError,
)
from zerostart_jupyter.install.indexes import Indexes
from zerostart_jupyter.install.lock import Lock, Locked
from zerostart_jupyter.install.requirements import Request

if TYPE_CHECKING:
    from packaging.pylock import Package, PackageArchive, PackageSdist, PackageWheel

    from zerostart_jupyter.core.events import Operation
    from zerostart_jupyter.install.build import Builder


_PIPED = 4096  # characters that a pipe takes without a reader, in any encoding


def find_uv() -> str:
    """The uv program: the one of the uv package, or else the one on PATH."""
    try:
        import uv

        return os.fsdecode(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise InstallError(
            "uv, which resolves requirements, was not found.", remedy="Install it: pip install uv."
        )
    return found


def resolve(
    request: Request,
    indexes: Indexes,
    builder: Callable[[], Builder],
    operation: Operation,
    constraints: Sequence[str] = (),
    preferred: Mapping[str, str] | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Lock:
    """Ask uv; it takes the `preferred` version of a name wherever that will do.

    `meanwhile` is called while uv is at work.
    Raises RequirementError, ResolveError or NetworkError, each in one sentence.
    """
    with tempfile.TemporaryDirectory(prefix="zerostart-") as scratch:
        text = _ask(
            request, indexes, Path(scratch), operation, constraints, preferred or {}, meanwhile
        )
    from packaging.pylock import Pylock, PylockSelectError, PylockValidationError

    try:
        chosen = list(Pylock.from_dict(tomllib.loads(text)).select())
    except (PylockSelectError, PylockValidationError, tomllib.TOMLDecodeError) as error:
        raise ResolveError(
            f"{request.title} has no set of files for this machine: {error}.",
            remedy="Ask for another version, or use another Python.",
        ) from error
    packages, files = [], []
    volatile = False
    for package, artefact in chosen:
        operation.check()
        if path := _local(artefact, request.base):
            files.append(path)
        locked = _as_wheel(package, artefact, request.base)
        if locked is None:
            volatile = volatile or package.directory is not None
            locked = builder().build(package, artefact, request.base)
        packages.append(locked)
    return Lock(tuple(sorted(packages, key=lambda each: each.name)), volatile, tuple(files))


def _ask(
    request: Request,
    indexes: Indexes,
    scratch: Path,
    operation: Operation,
    constraints: Sequence[str],
    preferred: Mapping[str, str],
    meanwhile: Callable[[], None],
) -> str:
    command = [find_uv(), "pip", "compile", "--format", "pylock.toml", "--python", sys.executable]
    command += ["--quiet", "--no-header", "--no-annotate", "--color", "never"]
    command += indexes.arguments
    if indexes.offline and "--offline" not in command:
        command.append("--offline")
    if constraints:
        file = scratch / "constraints.txt"
        file.write_text("\n".join(constraints))
        command += ["--constraints", str(file)]
    earlier = scratch / "pylock.toml"
    if preferred:  # uv keeps to what an earlier answer in its place says
        lines = [
            f'[[packages]]\nname = "{name}"\nversion = "{preferred[name]}"' for name in preferred
        ]
        head = 'lock-version = "1.0"\ncreated-by = "zerostart"'
        earlier.write_text("\n".join([head, *lines]))
        command += ["--output-file", str(earlier)]
    command += ["-"] if request.specs else []
    command += [str(path) for path in request.files]
    environment = {**os.environ, **indexes.environment}
    if request.project:
        project = scratch / "project"
        project.mkdir()
        (project / "pyproject.toml").write_text(request.project, encoding="utf-8")
        command += ["--project", str(project), str(project / "pyproject.toml")]
        environment.pop("UV_CONFIG_FILE", None)  # what it says is in there
        if environment.pop("UV_NO_CONFIG", None):  # of other places
            environment.update(XDG_CONFIG_HOME=str(scratch), XDG_CONFIG_DIRS=str(scratch))
    status, out, errors = run(
        command, request.base, environment, operation, "\n".join(request.specs), meanwhile
    )
    if status:
        raise explain(errors, request)
    return earlier.read_text(encoding="utf-8") if preferred else out


def run(
    command: Sequence[str],
    folder: Path,
    environment: dict[str, str],
    operation: Operation,
    text: str = "",
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[int, str, str]:
    """Run a program to its end, with `text` as its input; `meanwhile` is called while it runs.

    It is ended when the operation is cancelled.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # an interrupt of the kernel comes to us, and we end it
    )
    with _ended(process):
        operation.on_cancel(process.terminate)
        if len(text) < _PIPED and process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin as given:
                given.write(text)
            process.stdin, text = None, ""
        meanwhile()
        out, errors = process.communicate(text or None)
    operation.check()
    return process.returncode, out, errors


@contextlib.contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        process.kill()
        process.communicate()
        raise


def explain(errors: str, request: Request) -> InstallError:
    """uv's words as one of our errors: one sentence, and the next step."""
    text = re.sub(r"\s*\n\s*", " ", re.sub(r"(?m)^\s*(error|cause): ", "", errors)).strip()
    text = re.sub(r"://[^/@\s]+@", "://", text)  # credentials in an index's address
    reason = text.partition(" hint: ")[0]
    if missing := re.findall(r"[Bb]ecause ([\w.-]+) was not found in the package registry", text):
        names = ", ".join(dict.fromkeys(missing))
        return ResolveError(
            f"No index has a package named {names}.",
            remedy="Check the spelling, or name the index that has it with --index-url.",
        )
    if "network was disabled" in text or "was not found in the cache" in text:
        return ResolveError(
            f"{request.title} cannot be resolved offline: {_last(reason)}",
            remedy="Run it once without --offline.",
        )
    if re.search(r"error sending request|Failed to fetch|[Rr]equest failed|dns error", text):
        found = re.search(r"Failed to (?:fetch|download):? `?(https?://[^/`\s]+)", text)
        return NetworkError(
            f"The index {found.group(1) if found else ''} could not be reached: {_last(errors)}",
            remedy="Check the network, the index address and the proxy, and run it again.",
        )
    if "parse" in text or "Invalid" in text or "invalid" in text:
        return RequirementError(
            f"{request.origin} cannot be read: {reason.rstrip('.')}.",
            remedy="Write requirements as pip does, `name>=1.2` say.",
        )
    because = re.search(r"Because (.*)", reason)
    cause = (because.group(1) if because else reason).rstrip(".")
    return ResolveError(
        f"Nothing satisfies {request.title}: {cause}.",
        remedy="Loosen a version, or look at what the index offers.",
    )


def _last(errors: str) -> str:
    lines = [line.strip() for line in errors.strip().splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("hint:")] or ["no reason was given"]
    return re.sub(r"^(error|cause): ", "", lines[-1]).rstrip(".") + "."


def _as_wheel(package: Package, artefact: Any, base: Path) -> Locked | None:
    """The artefact as a wheel by digest, or None if it has yet to become one."""
    from packaging.pylock import PackageArchive, PackageWheel
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    if not isinstance(artefact, PackageWheel | PackageArchive):
        return None
    sha256 = artefact.hashes.get("sha256")
    file = _filename(artefact)
    if sha256 is None or not file.endswith(".whl"):
        return None
    try:
        version = package.version or parse_wheel_filename(file)[1]
    except InvalidWheelFilename as error:
        raise ResolveError(
            f"{file} is not a wheel's name.", remedy="Report it to the index it came from."
        ) from error
    return Locked(package.name, str(version), file, location(artefact, base), sha256, artefact.size)


def _local(artefact: Any, base: Path) -> str | None:
    """The path of an artefact that is a file of this machine."""
    from packaging.pylock import PackageArchive, PackageSdist, PackageWheel

    if not isinstance(artefact, PackageWheel | PackageSdist | PackageArchive):
        return None
    address = location(artefact, base)
    return unquote(urlsplit(address).path) if address.startswith("file:") else None


def location(artefact: PackageWheel | PackageArchive | PackageSdist, base: Path) -> str:
    """The artefact's address; a path becomes a file: URL."""
    if artefact.url is not None:
        return artefact.url
    return (base / str(artefact.path)).resolve().as_uri()


def _filename(artefact: PackageWheel | PackageArchive) -> str:
    if getattr(artefact, "name", None):
        return str(artefact.name)  # type: ignore[union-attr]
    if artefact.path is not None:
        return Path(artefact.path).name
    return unquote(urlsplit(str(artefact.url)).path).rpartition("/")[2]
