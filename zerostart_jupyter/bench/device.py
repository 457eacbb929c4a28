"""Loading onto a GPU, beside what the bus and the disk would allow.

Nobody can be faster than the slower of the two ways a byte goes: from the disk into memory (cold
only), and from pinned memory to the device. Both are measured here, in the same process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

from zerostart_jupyter.bench import floors
from zerostart_jupyter.bench.checkpoints import Checkpoint
from zerostart_jupyter.bench.report import Case
from zerostart_jupyter.bench.rounds import Rounds, drop
from zerostart_jupyter.load import load
from zerostart_jupyter.load.weights import Weights

PIECE = 256 << 20  # bytes copied to measure the bus
COPIES = 8

Brings = Callable[[Sequence[Path]], AbstractContextManager[object]]


def cases(
    checkpoint: Checkpoint, device: str, rounds: int, note: Callable[[str], None]
) -> tuple[list[Case], dict[str, str]]:
    """Cold and warm beside each peer, and what else is to be known: bus, reader, GDS, memory."""
    bus = to_device(device)
    known, ours = _ours(checkpoint, device)
    subjects = {"ours": ours, **peers(device)}
    turns = Rounds(rounds, lambda text: note(f"{checkpoint.name}, {device}: {text}"))
    taken = turns.run(
        {name: partial(_pair, brings, checkpoint, device) for name, brings in subjects.items()}
    )
    disk = []
    for _ in range(rounds):
        drop(checkpoint.files)
        disk.append(floors.bring(checkpoint.files))
    crossing = checkpoint.nbytes / bus
    about = {
        "pinned memory to the device": f"{bus / 1e9:.1f} GB/s",
        "peak on the device": _peak(checkpoint, device),
        **known,
    }
    found = [
        Case(
            f"{checkpoint.title}, to {device}, {when}",
            tuple(pair[index] for pair in taken["ours"]),
            peer,
            tuple(pair[index] for pair in taken[peer]),
            f"by {known['reader']}",
            floor=tuple(max(crossing, seconds) for seconds in disk) if index == 0 else (crossing,),
        )
        for index, when in ((0, "cold"), (1, "in the page cache"))
        for peer in subjects
        if peer != "ours"
    ]
    return found, about


def to_device(device: str) -> float:
    """Bytes a second from pinned memory to the device, by copies that follow one another."""
    on_gpu = device.startswith("cuda")
    source = torch.ones(PIECE, dtype=torch.uint8, pin_memory=on_gpu)
    target = torch.empty(PIECE, dtype=torch.uint8, device=device)
    target.copy_(source)
    _synchronise(device)
    began = time.perf_counter()
    for _ in range(COPIES):
        target.copy_(source, non_blocking=True)
    _synchronise(device)
    return COPIES * PIECE / (time.perf_counter() - began)


def peers(device: str) -> dict[str, Brings]:
    """Those that are installed and bring a checkpoint to a device."""

    @contextlib.contextmanager
    def plain(files: Sequence[Path]) -> Iterator[object]:
        yield [load_file(path, device=device) for path in files]

    @contextlib.contextmanager
    def fast(files: Sequence[Path]) -> Iterator[object]:
        from fastsafetensors import SafeTensorsFileLoader, SingleGroup

        loader = SafeTensorsFileLoader(SingleGroup(), device, nogds=True)
        try:
            loader.add_filenames({0: [str(path) for path in files]})
            buffer = loader.copy_files_to_device()
            try:
                yield [buffer.get_tensor(name) for name in loader.get_keys()]
            finally:
                buffer.close()
        finally:
            loader.close()

    found: dict[str, Brings] = {"load_file": plain}
    if importlib.util.find_spec("fastsafetensors"):
        found["fastsafetensors"] = fast
    return found


def _ours(checkpoint: Checkpoint, device: str) -> tuple[dict[str, str], Brings]:
    drop(checkpoint.files)  # so that a trial of the readers has something to read
    once = load(checkpoint.folder, device=device)
    known = {"reader": once.reader, "why": str(once.statistics.get("why", ""))}
    if "gds" in once.statistics:
        known["gds"] = str(once.statistics["gds"])

    @contextlib.contextmanager
    def ours(files: Sequence[Path]) -> Iterator[Weights]:
        yield load(files[0].parent, device=device)

    return known, ours


def _pair(brings: Brings, checkpoint: Checkpoint, device: str) -> tuple[float, float]:
    drop(checkpoint.files)
    return tuple(_timed(brings, checkpoint.files, device) for _ in range(2))  # type: ignore[return-value]


def _timed(brings: Brings, files: Sequence[Path], device: str) -> float:
    began = time.perf_counter()
    with brings(files):
        _synchronise(device)
        return time.perf_counter() - began


def _peak(checkpoint: Checkpoint, device: str) -> str:
    if not device.startswith("cuda"):
        return "not counted"
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    weights = load(checkpoint.folder, device=device)
    over = torch.cuda.max_memory_allocated(device) - before - weights.bytes
    return f"{over / 1e6:.0f} MB over the weights"


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
