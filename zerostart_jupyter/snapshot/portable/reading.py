"""Brings a session's names back: first everything is read, checked and made, then it is given."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.snapshot import random_states
from zerostart_jupyter.snapshot.portable import (
    arrays,
    compiled,
    needs,
    session,
    tensor_file,
    tensors,
)
from zerostart_jupyter.snapshot.portable.borrowed import borrowed
from zerostart_jupyter.snapshot.portable.description import FOLDER, Description
from zerostart_jupyter.snapshot.portable.pickling import BUFFERS, PICKLE
from zerostart_jupyter.snapshot.portable.unpickling import Reader
from zerostart_jupyter.snapshot.portable.verified import Verified


@dataclass(frozen=True, slots=True)
class Brought:
    """What was brought back, not yet given to the shell; `notes` are in words."""

    description: Description
    session: dict[str, Any]
    values: dict[str, Any]
    notes: tuple[str, ...]

    def give(self, shell: Any, *, fresh: bool) -> None:
        """Have the shell be this session; a fresh one goes on with its prompts, too."""
        outputs = {name: value for name, value in self.values.items() if "[" in name}
        named = {name: value for name, value in self.values.items() if name.isidentifier()}
        for name in session.names(shell):
            if name not in named:
                del shell.user_ns[name]
        shell.user_ns.update(named)
        if fresh:
            session.take_place(shell, self.session)
            numbered = {int(name[4:-1]): value for name, value in outputs.items()}
            shell.history_manager.output_hist.update(numbered)
        session.draw_with(self.session)
        if self.description.reseed:
            random_states.reseed(named)
        else:
            session.set_random_states(self.values[session.RANDOM])


def check(description: Description) -> None:
    """Raise SnapshotRefused if this Python cannot read it."""
    here, there = sys.version_info[:2], description.python.split(".")[:2]
    same = f"{here[0]}.{here[1]}" == ".".join(there)
    if description.code and (description.implementation != sys.implementation.name or not same):
        raise SnapshotRefused(
            f"This snapshot holds code of {description.implementation} {'.'.join(there)}, "
            f"this is {sys.implementation.name} {here[0]}.{here[1]}.",
            remedy=f"Restore it with Python {'.'.join(there)}.",
        )


def bring(
    description: Description, directory: Path, shell: Any, tell: Callable[[int], None]
) -> Brought:
    """Make every name; `tell` hears of bytes as they are read and may raise to give up.

    Raises SnapshotRefused and SnapshotCorrupt with the shell untouched.
    """
    check(description)
    folder = directory / FOLDER
    about: dict[str, Any] = json.loads(_whole(folder, session.FILE, description))
    session.add_paths(about)
    notes = needs.bring(description.needs)
    data = _whole(folder, PICKLE, description)
    made_of = [
        _told(
            arrays.read(folder / f"arrays/{at}.npy", description.digests[f"arrays/{at}.npy"]), tell
        )
        for at in range(description.arrays)
    ]
    storages = []
    if description.storages:
        digest = description.digests[tensors.FILE]
        storages = tensor_file.read(folder / tensors.FILE, digest, description.storages, tell)
    if description.compiled:
        why = compiled.load(_whole(folder, compiled.FILE, description), description.compiled)
        notes += [f"compiled code is made anew: {why}"] if why else []
    with borrowed("cloudpickle"):
        reader = Reader(
            data, session.given(shell), made_of, storages, _buffers(folder, description)
        )
        values = dict(reader.names(description.names))
    return Brought(description, about, values, tuple(notes))


def _told(array: Any, tell: Callable[[int], None]) -> Any:
    tell(array.nbytes)
    return array


def _whole(folder: Path, name: str, description: Description) -> bytes:
    with Verified.open(folder / name, description.digests[name]) as stream:
        return stream.read()


def _buffers(folder: Path, description: Description) -> list[bytearray]:
    made = []
    with Verified.open(folder / BUFFERS, description.digests[BUFFERS]) as stream:
        for length in description.buffers:
            made.append(bytearray(length))
            stream.fill(memoryview(made[-1]))
    return made
