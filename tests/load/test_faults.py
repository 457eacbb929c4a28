"""Disks, network file systems and users that do the worst, at any moment."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from tests.load.faults.build import Faulty
from tests.patience import PATIENCE
from tests.servers.hub import Hub
from zerostart_jupyter.core.errors import Cancelled
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import load

MIB = 1 << 20

# Loads as told and says what came of it; then again without the fault.
SCRIPT = """
import ctypes, json, os, sys, threading, zlib
source, options, again = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] == "again"
from zerostart_jupyter.core.errors import LoadError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import load, pages
if options.pop("old_kernel", False):
    pages.can_populate = lambda: False

def attempt():
    said = None
    weights = load(source, device="cpu", background=True, **options)
    try:
        weights.wait(100)
    except LoadError as error:
        said = [type(error).__name__, str(error)]
    here = {name: zlib.crc32(bytes(tensor.view(-1).tolist()))
            for name in sorted(weights._came) for tensor in [weights[name]]}
    return said, here, dict(weights.statistics)

def open_now():
    return len(os.listdir("/proc/self/fd"))

fault = os.environ.pop("FAULT")
import torch
torch.ones(1).sum()
before = None
found = []
for fault in [fault, ""] if again else [fault]:
    os.environ["FAULT"] = fault
    for _ in range(2):  # what is opened once and kept is opened the first time
        try:
            found.append(attempt())
        except LoadError as error:
            found.append(([type(error).__name__, str(error)], {}, {}))
        count, before = open_now(), before or open_now()
left = [each.name for each in threading.enumerate() if each.name.startswith("zerostart-")]
bites = ctypes.CDLL(None).fault_bites()
print(json.dumps([found, count - before, left, bites]))
"""


def crc(tensor: torch.Tensor) -> int:
    import zlib

    return zlib.crc32(bytes(tensor.view(-1).tolist()))


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        f"t{number}": torch.randint(0, 256, (MIB + 77,), dtype=torch.uint8, generator=generator)
        for number in range(6)
    }


@pytest.fixture
def path(disk_path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    (disk_path / "m").mkdir()
    save_file(tensors, disk_path / "m" / "a.safetensors")
    return disk_path / "m" / "a.safetensors"


def tell(
    faulty: Faulty, source: object, fault: str, below: Path, *, again: bool = False, **options: Any
) -> list[list[Any]]:
    """What came of each load; nothing may be left open, no thread alive, the fault unmet."""
    mode = "again" if again else "once"
    out = faulty.run(SCRIPT, source, json.dumps(options), mode, below=below, fault=fault)
    found, leaked, left, bites = json.loads(out)
    assert (leaked, left) == (0, [])
    assert bites, "the fault never came about"
    return list(found)


@pytest.mark.compiler
class TestDisk:
    @pytest.mark.parametrize("fault", ["short=5000", "eintr=3", "short=1048577 eintr=2"])
    @pytest.mark.parametrize(
        "options", [{"reader": "direct"}, {"reader": "mmap", "old_kernel": True}]
    )
    def test_short_and_interrupted_reads_are_gone_on_with(
        self,
        faulty: Faulty,
        path: Path,
        tensors: dict[str, torch.Tensor],
        fault: str,
        options: dict[str, Any],
    ) -> None:
        for said, here, _ in tell(faulty, path, fault, path.parent, **options):
            assert said is None
            assert here == {name: crc(tensor) for name, tensor in tensors.items()}

    @pytest.mark.parametrize(
        "options",
        [{"reader": "direct"}, {"reader": "mmap", "old_kernel": True}, {"reader": "mmap"}],
    )
    def test_a_disk_that_fails_is_one_line_and_what_came_stays(
        self,
        faulty: Faulty,
        path: Path,
        tensors: dict[str, torch.Tensor],
        options: dict[str, Any],
    ) -> None:
        fault = f"eio={3 * MIB}"
        if options == {"reader": "mmap"}:
            fault = "populate"
        for said, here, _ in tell(faulty, path, fault, path.parent, **options):
            assert said[0] == "LoadError"
            assert "could not be read at byte" in said[1]
            assert "Input/output error. Check the disk" in said[1]
            assert len(here) < len(tensors)
            assert all(here[name] == crc(tensors[name]) for name in here)

    def test_a_header_that_cannot_be_read(self, faulty: Faulty, path: Path) -> None:
        for said, here, _ in tell(faulty, path, "eio=0", path.parent):
            assert "could not be read at byte 0: Input/output error" in said[1]
            assert here == {}


@pytest.mark.compiler
class TestNetworkFileSystem:
    def test_a_mount_that_fails_is_an_error_and_the_copy_goes_on_later(
        self, faulty: Faulty, path: Path, tensors: dict[str, torch.Tensor]
    ) -> None:
        expected = {name: crc(tensor) for name, tensor in tensors.items()}
        first, _, third, fourth = tell(faulty, path, f"nfs eio={4 * MIB}", path.parent, again=True)
        assert "could not be read at byte" in first[0][1]
        assert third[0] is fourth[0] is None
        assert third[1] == fourth[1] == expected

    def test_short_reads_of_a_mount(
        self, faulty: Faulty, path: Path, tensors: dict[str, torch.Tensor]
    ) -> None:
        first, second = tell(faulty, path, "nfs short=70001 eintr=5", path.parent)
        for said, here, _ in (first, second):
            assert said is None
            assert here == {name: crc(tensor) for name, tensor in tensors.items()}
        assert first[2]["downloaded_bytes"] == path.stat().st_size
        assert second[2]["why"] == "views of the file cost no memory"


@pytest.fixture
def hub(
    tensors: dict[str, torch.Tensor], disk_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGING")) or "proxy" in name.lower():
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(disk_path / "hf"))
    monkeypatch.setenv("ZS_CHUNK_MB", "1")
    with Hub({"model.safetensors": save(tensors)}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.mark.compiler
def test_a_disk_that_fills_up_during_a_download_and_is_made_room_on(
    faulty: Faulty, hub: Hub, disk_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    first, _, third, _ = tell(faulty, "org/tiny", f"enospc={3 * MIB}", disk_path / "hf", again=True)
    assert "cannot be written: No space left on device. Make room" in first[0][1]
    assert third[0] is None
    assert third[1] == {name: crc(tensor) for name, tensor in tensors.items()}
    assert third[2]["downloaded_bytes"] < len(hub.files["model.safetensors"])


@pytest.mark.parametrize("start", range(0, 7))
def test_a_download_is_cancelled_at_any_moment_and_then_goes_on(
    hub: Hub, tensors: dict[str, torch.Tensor], start: int
) -> None:
    settings = Settings.read(parallel_downloads=2)
    for at in range(start, start + 3):
        hub.behaviour.hold = threading.Event()
        hub.behaviour.hold_from = max(at, 1) * MIB
        weights = load("org/tiny", device="cpu", background=True, settings=settings)
        # A body that ends before the gate is not held: what is left may be all before it.
        if weights.reader == "remote":
            hub.reached.acquire(timeout=1)
            weights.cancel()
        hub.behaviour.hold.set()
        try:
            weights.wait(PATIENCE)
        except Cancelled:
            for name in weights._came:
                assert torch.equal(weights[name], tensors[name])
    hub.behaviour.hold = None
    whole = load("org/tiny", device="cpu", settings=settings)
    assert all(torch.equal(whole[name], tensors[name]) for name in tensors)
