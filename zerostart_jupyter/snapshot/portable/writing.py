"""Writes what can be saved of a session into a directory, and says what cannot and why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zerostart_jupyter.snapshot.manifest import digest
from zerostart_jupyter.snapshot.portable import compiled, needs, session, tensor_file, tensors
from zerostart_jupyter.snapshot.portable.borrowed import borrowed
from zerostart_jupyter.snapshot.portable.description import FOLDER, Description
from zerostart_jupyter.snapshot.portable.pickling import BUFFERS, PICKLE, Failed, Writer
from zerostart_jupyter.snapshot.portable.reasons import examiner
from zerostart_jupyter.snapshot.portable.verified import Digest


class Session:
    """One session on its way to one directory."""

    def __init__(self, shell: Any, key: str, cache: Path, *, reseed: bool, running: bool) -> None:
        self._shell = shell
        self._key = key
        self._cache = cache
        self._reseed = reseed
        self._running = running

    def write(
        self, directory: Path, tell: Callable[[int, int], None], check: Callable[[], None]
    ) -> Description:
        """Everything; `tell` hears how many names are done of how many, `check` may raise."""
        shell = self._shell
        frames = session.names(shell) | session.outputs(shell)
        frames[session.RANDOM] = session.random_states()
        examine = examiner()
        plain = {name: why for name, value in frames.items() if (why := examine(value))}
        omitted = {name: f"it is {why}" for name, why in plain.items()}
        with borrowed("cloudpickle") as cloudpickle:
            made = _Passes(cloudpickle, shell, frames, omitted, tell, check)
            writer = made.write(directory / FOLDER)
        folder = directory / FOLDER
        file, described = tensor_file.write(folder / tensors.FILE, writer.storages, check)
        artefacts = compiled.save(folder)
        text = json.dumps(session.describe(shell, self._cache, running=self._running), default=str)
        (folder / session.FILE).write_text(text)
        digests = {tensors.FILE: file}
        digests |= {f"arrays/{at}.npy": each for at, each in enumerate(writer.arrays.digests)}
        for name in (PICKLE, BUFFERS, session.FILE, *([compiled.FILE] if artefacts else [])):
            check()
            digests[name] = Digest(*digest(folder / name))
        result = Description(
            id=self._key,
            names=tuple(name for name in frames if name not in omitted),
            omitted=tuple(omitted.items()),
            changed=tuple(writer.found.changed),
            needs=needs.of(writer.found.modules),
            code=writer.found.code,
            storages=tuple(described),
            buffers=tuple(writer.found.buffers),
            arrays=len(writer.arrays.digests),
            digests=digests,
            compiled=artefacts,
            reseed=self._reseed,
        )
        result.write(directory)
        return result


class _Passes:
    """All names in one pass, as they share objects. A name that fails spoils its pass.

    Then a pass that writes nothing finds every other that fails, and the next one is the last.
    """

    def __init__(
        self,
        cloudpickle: Any,
        shell: Any,
        frames: Mapping[str, Any],
        omitted: dict[str, str],
        tell: Callable[[int, int], None],
        check: Callable[[], None],
    ) -> None:
        self._cloudpickle = cloudpickle
        self._shell = shell
        self._frames = frames
        self._omitted = omitted
        self._tell = tell
        self._check = check

    def write(self, directory: Path) -> Writer:
        """The pass that went through."""
        while True:
            directory.mkdir(mode=0o700)
            writer = self._begin(directory)
            try:
                for at, name in enumerate(names := self._names()):
                    self._tell(at, len(names))
                    writer.add(name, self._frames[name])
                return writer
            except Failed as failed:
                self._omitted[failed.name] = failed.reason
                self._find_others()
            finally:
                writer.close()
            shutil.rmtree(directory)

    def _find_others(self) -> None:
        trial = self._begin(None)
        for name in self._names():
            try:
                trial.add(name, self._frames[name])
            except Failed as failed:
                self._omitted[name] = failed.reason
                trial = self._begin(None)  # what the failed one has met is not known to be good

    def _begin(self, directory: Path | None) -> Writer:
        shell = self._shell
        given = session.given(shell)
        return Writer(self._cloudpickle, shell.user_ns, given, directory, self._check)

    def _names(self) -> list[str]:
        return [name for name in self._frames if name not in self._omitted]
