"""Files of torch's pickle format, converted once to safetensors and kept in the model cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import CheckpointChanged, CheckpointInvalid, LoadError
from zerostart_jupyter.core.events import operation
from zerostart_jupyter.core.references import FileIdentity
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Lease, Store
from zerostart_jupyter.load.cache import ModelCache, key_of
from zerostart_jupyter.load.places import ROOM, touch

NAME = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Converted:
    """A safetensors file; `aliases` are names whose tensors are others' in it."""

    path: Path
    aliases: Mapping[str, str]
    lease: Lease


def converted(source: Path, settings: Settings) -> Converted:
    """The conversion of a file as it is now, made if there is none yet.

    Raises CheckpointInvalid where it holds more than tensors, CheckpointChanged, LoadError.
    """
    source = source.resolve()
    key = key_of(source).replace("copy", "converted", 1)
    store = Store(settings.cache)
    lease = store.lease(ROOM, key)
    try:
        if store.get(ROOM, key) is None:
            with store.lock(f"{ROOM}-{key}"):
                if store.get(ROOM, key) is None:
                    _make(source, key, store, settings)
        entry = store.get(ROOM, key)
        assert entry is not None, "we hold its lease"
    except BaseException:
        lease.close()
        raise
    touch(entry.path / NAME)
    return Converted(entry.path / NAME, dict(entry.about.get("aliases", {})), lease)


def _make(source: Path, key: str, store: Store, settings: Settings) -> None:
    identity = FileIdentity.of(source)
    if not ModelCache(settings=settings).make_room(identity.size):
        raise LoadError(
            f"There is no room to convert {source}, {identity.size / (1 << 30):.2f} GiB.",
            remedy="Make room, raise ZS_MODEL_CACHE_GB, or move the cache with ZEROSTART_CACHE.",
        )
    about: dict[str, Any] = {"kind": "conversion", "source": str(source), "bytes": identity.size}
    with (
        operation("load", f"{source.name} as safetensors") as work,
        store.publish(ROOM, key, about) as staging,
    ):
        command = [sys.executable, "-m", "zerostart_jupyter.load.pickled"]
        process = subprocess.Popen(
            [*command, str(source), str(staging / NAME)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # What this process imports from, that one does: environments are directories here.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
            start_new_session=True,  # a Ctrl-C is ours to hand on
        )
        with process:
            work.on_cancel(process.kill)
            try:
                out, err = process.communicate()
            except BaseException:
                process.kill()
                raise
        work.check()
        if FileIdentity.of(source) != identity:
            raise _changed(source)
        if process.returncode:
            raise _ended(source, process.returncode, err)
        told = json.loads(out)
        if "aliases" not in told:
            raise _refused(source, told)
        about["aliases"] = told["aliases"]


def _refused(source: Path, told: Mapping[str, str]) -> LoadError:
    if "failed" in told:
        return LoadError(
            f"{source} could not be converted: {told['failed']}.",
            remedy="Make room, or move the cache with ZEROSTART_CACHE.",
        )
    whole = not told["unfit"].startswith("it cannot be read")
    return CheckpointInvalid(
        f"{source} cannot be converted to safetensors: {told['unfit']}.",
        remedy="If you trust its author, load it with torch.load(weights_only=False), and save its "
        "tensors with safetensors.torch.save_file."
        if whole
        else "Download or save it again.",
    )


def _ended(source: Path, code: int, err: bytes) -> LoadError:
    last = (err.decode(errors="replace").strip().splitlines() or [f"exit status {code}"])[-1]
    return LoadError(
        f"{source} could not be converted: {last[:200]}.",
        remedy="Free memory, or convert it elsewhere with safetensors.torch.save_file.",
    )


def _changed(source: Path) -> CheckpointChanged:
    return CheckpointChanged(
        f"{source} changed while it was being read.",
        remedy="Wait until nothing writes to it any more, then load it again.",
    )
