"""Sources into wheels, through uv, so that everything after the resolve sees wheels only."""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.pylock import Package, PackageArchive, PackageDirectory, PackageSdist, PackageVcs
from packaging.utils import parse_wheel_filename

from zerostart_jupyter.core.errors import DigestMismatch, InstallError, ResolveError
from zerostart_jupyter.core.events import Operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import resolve
from zerostart_jupyter.install.answers import ROOM
from zerostart_jupyter.install.connections import Connections
from zerostart_jupyter.install.indexes import Indexes
from zerostart_jupyter.install.lock import Locked, digest, interpreter
from zerostart_jupyter.install.source import HttpSource

# Options for indexes that `uv build` understands as `uv pip compile` does, with a value.
_OPTIONS = frozenset(
    {
        "--default-index",
        "--index",
        "--find-links",
        "--index-strategy",
        "--prerelease",
        "--allow-insecure-host",
        "--keyring-provider",
    }
)


class Builder:
    """Builds what a lock names by its source; a wheel that was built once is used again."""

    def __init__(
        self, store: Store, settings: Settings, indexes: Indexes, operation: Operation
    ) -> None:
        self._store = store
        self._settings = settings
        self._indexes = indexes
        self._operation = operation
        self._stop = threading.Event()
        operation.on_cancel(self._stop.set)

    def build(self, package: Package, artefact: Any, base: Path) -> Locked:
        """The package as a wheel in the store. Raises an InstallError that names the package."""
        key = _key(artefact)
        entry = self._store.get(ROOM, key) if key else None
        if entry is None:
            with tempfile.TemporaryDirectory(prefix="zerostart-build-") as scratch:
                source = self._source(package, artefact, base, Path(scratch))
                key = key or f"built-{digest([package.name, scratch])}"
                entry_path = self._build(package, source, Path(scratch) / "out", key)
        else:
            entry_path = entry.path
        wheels = list(entry_path.glob("*.whl"))
        if len(wheels) != 1:
            self._store.remove(ROOM, key or "")
            raise InstallError(f"{package.name} was not built.", remedy="Run it again.")
        (wheel,) = wheels
        data = wheel.read_bytes()
        version = str(parse_wheel_filename(wheel.name)[1])
        found = hashlib.sha256(data).hexdigest()
        return Locked(package.name, version, wheel.name, wheel.as_uri(), found, len(data))

    def _source(self, package: Package, artefact: Any, base: Path, scratch: Path) -> Path:
        if isinstance(artefact, PackageDirectory):
            folder = base / artefact.path
            return folder / artefact.subdirectory if artefact.subdirectory else folder
        if isinstance(artefact, PackageVcs):
            return self._clone(package, artefact, scratch / "source")
        if isinstance(artefact, PackageSdist | PackageArchive):
            source = self._download(package, artefact, base, scratch)
            if artefact_folder := getattr(artefact, "subdirectory", None):
                raise ResolveError(
                    f"{package.name} is in the subdirectory {artefact_folder} of an archive.",
                    remedy="Name its repository instead.",
                )
            return source
        raise ResolveError(
            f"{package.name} has no wheel and no source.", remedy="Ask for another version."
        )

    def _download(
        self,
        package: Package,
        artefact: PackageSdist | PackageArchive,
        base: Path,
        scratch: Path,
    ) -> Path:
        if artefact.path is not None:
            return base / artefact.path
        url = str(artefact.url)
        if url.startswith("file:"):
            return Path(unquote(urlsplit(url).path))
        target = scratch / url.rpartition("/")[2].partition("#")[0].partition("?")[0]
        connections = Connections(self._indexes, self._settings.http_timeout)
        seen = hashlib.sha256()
        try:
            with open(target, "wb") as file:

                def write(at: int, block: memoryview) -> None:
                    seen.update(block)
                    file.write(block)

                HttpSource(connections, url, self._stop).spool(write)
        finally:
            connections.close()
        wanted = artefact.hashes.get("sha256")
        if wanted is not None and wanted != seen.hexdigest():
            raise DigestMismatch(
                f"The source of {package.name} is not what the index promised.",
                remedy="Do not install it; tell the index, or try again later.",
            )
        return target

    def _clone(self, package: Package, artefact: PackageVcs, folder: Path) -> Path:
        address = artefact.url or str(artefact.path)
        for command in (
            ["git", "clone", "--quiet", "--no-checkout", address, str(folder)],
            ["git", "-C", str(folder), "checkout", "--quiet", artefact.commit_id],
        ):
            self._run(package, command, folder.parent)
        return folder / artefact.subdirectory if artefact.subdirectory else folder

    def _build(self, package: Package, source: Path, out: Path, key: str) -> Path:
        command = [resolve.find_uv(), "build", "--wheel", "--quiet", "--color", "never"]
        command += ["--python", sys.executable, "--out-dir", str(out), *self._options()]
        self._run(package, [*command, str(source)], source.parent)
        wheels = list(out.glob("*.whl"))
        if len(wheels) != 1:
            raise InstallError(f"{package.name} built no wheel.", remedy="Ask for another version.")
        with self._store.publish(ROOM, key, {"name": package.name}) as staging:
            (staging / wheels[0].name).write_bytes(wheels[0].read_bytes())
        return self._store.path(ROOM, key)

    def _options(self) -> list[str]:
        given = self._indexes.arguments
        kept = [each for each in given if each in ("--no-index", "--offline")]
        for option, value in itertools.pairwise(given):
            if option in _OPTIONS:
                kept += [option, value]
        return kept

    def _run(self, package: Package, command: list[str], folder: Path) -> None:
        environment = {**os.environ, **self._indexes.environment}
        try:
            status, _, errors = resolve.run(command, folder, environment, self._operation)
        except FileNotFoundError as error:
            raise InstallError(
                f"{package.name} needs {command[0]}, which was not found.",
                remedy=f"Install {command[0]}, or ask for a version that has a wheel.",
            ) from error
        if status:
            last = [line.strip() for line in errors.splitlines() if line.strip()][-1:]
            raise InstallError(
                f"{package.name} could not be built: {(last or ['no reason was given'])[0]}.",
                remedy="Install what its build needs, or ask for a version that has a wheel.",
            )


def _key(artefact: Any) -> str | None:
    if isinstance(artefact, PackageVcs):
        identity = [artefact.url or str(artefact.path), artefact.commit_id]
        identity.append(artefact.subdirectory or "")
    elif isinstance(artefact, PackageDirectory):
        return None
    elif "sha256" in artefact.hashes:
        identity = [artefact.hashes["sha256"]]
    else:
        return None
    return f"built-{digest(identity, interpreter())}"
