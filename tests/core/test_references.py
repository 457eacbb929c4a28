"""The register counts only what lives, is unchanged, and is still on disk."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from zerostart_jupyter.core.references import (
    FileIdentity,
    Live,
    Reference,
    References,
    references,
)

LONG = 60.0


class Tensor:
    """Something that owns bytes and counts writes to them, as torch's tensors do."""

    version = 0


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"0123456789")
    return path


@pytest.fixture
def reference(shard: Path) -> Reference:
    return Reference(shard, 2, 4, FileIdentity.of(shard))


def note(register: References, owner: Tensor, reference: Reference, name: str = "w") -> None:
    register.add(
        name, owner, reference, address=lambda owner: 4096, version=lambda owner: owner.version
    )


def test_what_lives_is_known(reference: Reference) -> None:
    register, owner = References(), Tensor()
    note(register, owner, reference)
    assert list(register.live()) == [Live("w", owner, 4096, "cpu", reference)]
    assert len(register) == 1


def test_a_dead_owner_is_forgotten(reference: Reference) -> None:
    register, owner = References(), Tensor()
    note(register, owner, reference)
    del owner
    gc.collect()
    assert (len(register), list(register.live())) == (0, [])


def test_an_owner_that_dies_while_the_list_is_read_is_left_out(reference: Reference) -> None:
    register, owners = References(), [Tensor(), Tensor()]
    for owner in owners:
        note(register, owner, reference)
    live = register.live()
    next(live)
    del owner
    owners.clear()
    gc.collect()
    assert list(live) == []


def test_a_tensor_written_to_is_no_longer_the_files(reference: Reference) -> None:
    register, owner = References(), Tensor()
    note(register, owner, reference)
    owner.version += 1
    assert list(register.live()) == []
    note(register, owner, reference, "again")
    assert [live.name for live in register.live()] == ["again"]


@pytest.mark.parametrize("change", ["rewritten", "grown", "replaced", "removed"])
def test_a_file_that_changed_does_not_count(shard: Path, reference: Reference, change: str) -> None:
    register, owner = References(), Tensor()
    note(register, owner, reference)
    if change == "rewritten":
        os.utime(shard, ns=(1, 1))
    elif change == "grown":
        shard.write_bytes(b"0123456789abc")
        os.utime(shard, ns=(reference.identity.mtime,) * 2)
    elif change == "replaced":
        twin = shard.with_suffix(".new")
        twin.write_bytes(b"9876543210")
        os.utime(twin, ns=(reference.identity.mtime,) * 2)
        twin.replace(shard)
    else:
        shard.unlink()
    assert not reference.intact()
    assert list(register.live()) == []


def test_an_identity_is_that_of_a_descriptor_too(shard: Path) -> None:
    with shard.open() as file:
        assert FileIdentity.of(file.fileno()) == FileIdentity.of(shard)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_owners_may_die_in_a_child_whose_parent_held_the_lock(reference: Reference) -> None:
    register, owner = references(), Tensor()
    note(register, owner, reference)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with register._lock:
            held.set()
            done.wait(LONG)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(LONG)
    pid = os.fork()
    if pid == 0:
        import signal

        signal.alarm(20)
        try:
            del owner
            gc.collect()
            os._exit(0 if len(register) == 0 else 1)
        finally:
            os._exit(2)
    done.set()
    thread.join(LONG)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class Kept:
    """What a holder makes: it knows its tensors, and whether they have their memory."""

    def __init__(self, lives: Sequence[Live]) -> None:
        self.names = [live.name for live in lives]
        self.bytes = sum(live.reference.length for live in lives)
        self.files = sorted({live.reference.path for live in lives})

    def let_go(self) -> None: ...

    def take_back(self) -> None: ...


def test_memory_is_held_by_whoever_knows_it(reference: Reference) -> None:
    register, wanted, other, changed = References(), Tensor(), Tensor(), Tensor()
    for name, owner in (("wanted", wanted), ("other", other), ("changed", changed)):
        note(register, owner, reference, name)
    changed.version += 1
    assert register.hold(lambda live: True) is None  # nobody knows how
    register.hold_with(Kept)
    held = register.hold(lambda live: live.name != "other")
    assert isinstance(held, Kept)
    assert held.names == ["wanted"]
    assert register.hold(lambda live: False) is None
