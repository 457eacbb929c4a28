from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.contracts.reader import STAGES, ReaderContract
from zerostart_jupyter.core.references import FileIdentity
from zerostart_jupyter.load.arriving import Arriving, Place, Stopped
from zerostart_jupyter.load.checkpoint import Checkpoint, Shard, open_located
from zerostart_jupyter.load.copying import FileOrigin
from zerostart_jupyter.load.located import Located
from zerostart_jupyter.load.plan import Plan
from zerostart_jupyter.load.readers import select
from zerostart_jupyter.load.readers.contract import Reader
from zerostart_jupyter.load.readers.remote import RemoteReader


def arriving(path: Path, folder: Path) -> Arriving:
    """The file on its way to `folder`. Its place is called after the origin, which tests change."""
    identity = FileIdentity.of(path)
    place = Place(folder / path.name, path, "etag", lambda: None, lambda: None)
    return Arriving(place, FileOrigin(path, identity), identity.size)


class Remote(ReaderContract):
    local: str

    def make(self, shards: Sequence[Shard], *, block: int, stages: int) -> Reader:
        reader = select.make(self.local, shards, device="cpu", block=block, stages=stages)
        assert reader.name == "remote"
        return reader

    def open(self, folder: Path) -> Checkpoint:
        files = tuple(sorted(folder.glob("*.safetensors")))
        coming = {path: arriving(path, folder / "here") for path in files}
        return open_located(Located("remote", files, arriving=coming))

    def test_what_was_not_asked_for_comes_at_the_end(
        self, reader: Reader, checkpoint: Checkpoint, tmp_path: Path
    ) -> None:
        entry = checkpoint.entries["2.e"]
        for block in Plan([entry], block=STAGES * 4096, gap=0).blocks:
            reader.read(block)
        sizes = [shard.identity.size for shard in checkpoint.shards]
        early = reader.statistics()
        assert early["published"] == 0
        assert entry.nbytes <= int(early["downloaded_bytes"]) < sum(sizes) - 40_000
        reader.finish()
        late = reader.statistics()
        assert (late["published"], late["downloaded_bytes"]) == (2, sum(sizes))
        for shard in checkpoint.shards:
            assert (tmp_path / "here" / shard.path.name).read_bytes() == shard.path.read_bytes()

    def test_ends_early_when_it_is_stopped(self, reader: Reader, plan: Plan) -> None:
        reader.stop()
        with pytest.raises(Stopped):
            reader.read(plan.blocks[-1])
        reader.finish()
        assert reader.statistics()["published"] == 0


class TestMapped(Remote):
    local = "mmap"


class TestBuffered(Remote):
    local = "buffered"


class TestDirect(Remote):
    local = "direct"


def test_files_that_are_here_are_read_without_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"\2\0\0\0\0\0\0\0{}")
    with open_located(Located("a", (path,))) as checkpoint:
        reader = select.make("mmap", checkpoint.shards, device="cpu", block=4096, stages=1)
        assert not isinstance(reader, RemoteReader)
        reader.close()
