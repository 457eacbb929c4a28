"""What a portable snapshot says about itself: read, and checked, before anything is unpickled."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import SnapshotCorrupt
from zerostart_jupyter.snapshot.portable.verified import Digest

SCHEMA = 1
FILE = "portable.json"
FOLDER = "portable"


@dataclass(frozen=True, slots=True)
class Description:
    """`names` in the order of their frames, `omitted` and `changed` as (name, why) and (name, how).

    `needs` are modules with the distribution that has them, `code` whether there is bytecode,
    `storages` where the bytes of tensors are, `buffers` the lengths in `buffers.bin`, `arrays`
    their number, `digests` the (bytes, sha256) of each file, `compiled` what torch.compile's
    artefacts were made for, `reseed` whether random states begin anew.
    """

    id: str
    names: tuple[str, ...]
    omitted: tuple[tuple[str, str], ...] = ()
    changed: tuple[tuple[str, str], ...] = ()
    needs: Mapping[str, tuple[str, str] | None] = field(default_factory=dict)
    code: bool = False
    storages: tuple[Mapping[str, Any], ...] = ()
    buffers: tuple[int, ...] = ()
    arrays: int = 0
    digests: Mapping[str, Digest] = field(default_factory=dict)
    compiled: Mapping[str, str] | None = None
    reseed: bool = True
    python: str = field(default_factory=platform.python_version)
    implementation: str = sys.implementation.name
    machine: str = field(default_factory=platform.machine)
    schema: int = SCHEMA

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(each.bytes for each in self.digests.values())

    def write(self, directory: Path) -> None:
        """Put it into a snapshot's directory."""
        path = directory / FILE
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, directory: Path, sha256: str | None = None) -> Description:
        """That of a snapshot, whose marker may know its digest; raises SnapshotCorrupt."""
        try:
            text = (directory / FILE).read_bytes()
            if sha256 is not None and hashlib.sha256(text).hexdigest() != sha256:
                raise ValueError("it is not what was written")
            body: dict[str, Any] = json.loads(text)
            if body["schema"] != SCHEMA:
                raise SnapshotCorrupt(
                    f"The snapshot in {directory} has format {body['schema']}, not {SCHEMA}.",
                    remedy="Use the zerostart that saved it, or save it again.",
                )
            for name in ("omitted", "changed"):
                body[name] = tuple((str(each), str(why)) for each, why in body[name])
            for name in ("names", "storages", "buffers"):
                body[name] = tuple(body[name])
            body["needs"] = {
                str(name): None if each is None else (str(each[0]), str(each[1]))
                for name, each in body["needs"].items()
            }
            body["digests"] = {
                str(name): Digest(int(size), str(sha))
                for name, (size, sha) in body["digests"].items()
            }
            return cls(**body)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, SnapshotCorrupt):
                raise
            raise SnapshotCorrupt(
                f"The description of the snapshot in {directory} cannot be read.",
                remedy="Delete the snapshot and save it again.",
            ) from error
