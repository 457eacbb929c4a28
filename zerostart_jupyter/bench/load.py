"""Loading, beside the others that load safetensors.

Subjects take turns in random order within a round, so that a disk that slows down slows all of
them. Cold: the files' pages are dropped first; what a drive or a host keeps in a cache of its own
still counts as the disk. The disk alone, with nothing made of its bytes, takes its turn, too: what
it takes is the least that anybody can. A load counts as over when every page of every tensor was
touched: a mapping alone has read nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from zerostart_jupyter.bench import checkpoints, device, floors, models, remote
from zerostart_jupyter.bench.checkpoints import Checkpoint
from zerostart_jupyter.bench.loaders import Loader, ours, peers
from zerostart_jupyter.bench.picture import timeline
from zerostart_jupyter.bench.report import Case, Report, machine, versions
from zerostart_jupyter.bench.rounds import Rounds, anonymous, drop, timed, touch
from zerostart_jupyter.bench.shapes import Llama, experts, packed
from zerostart_jupyter.core.events import Event, Hub
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import disk, load

SIZE = 2 << 30  # bytes of a checkpoint, unless the machine is too small for it
COMPARED = (
    *("zerostart-jupyter", "torch", "safetensors", "fastsafetensors", "runai-model-streamer"),
    "transformers",
)


def measure(rounds: int, note: Callable[[str], None], *, size: int | None = None) -> Report:
    """Medians over `rounds` of ours and of each peer, for three shapes of checkpoints."""
    cache = Settings.read().cache
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-load-", dir=cache) as name:
        folder = Path(name)
        size = size or _fitting(folder)
        about = machine() | floors.memory()
        cases: list[Case] = []
        pictures: list[str] = []
        for kind, shapes in (
            ("8B", Llama.of(size).shapes()),
            ("30B mixture", experts(size)),
            ("120B in 4 bits", packed(size)),
        ):
            note(f"{kind}: writing {size / (1 << 30):.2f} GiB")
            checkpoint = checkpoints.write(kind, shapes, folder / kind.replace(" ", "-"))
            cases += _compared(checkpoint, rounds, note)
            if torch.cuda.is_available():
                found, told = device.cases(checkpoint, "cuda:0", rounds, note)
                cases += found
                about |= {f"{kind}, {name}": value for name, value in told.items()}
            if kind == "8B":
                cases += _handle(checkpoint, rounds, note)
                cases += models.cases(checkpoint, Llama.of(size), rounds, note)
                about |= _own_memory(checkpoint)
                pictures.append(_picture(checkpoint, about))
            shutil.rmtree(checkpoint.folder)
        cases += remote.cases(folder, size, rounds, note)
    return Report(
        "Loading a checkpoint",
        tuple(cases),
        versions(*COMPARED),
        about | {"load average": " ".join(f"{each:.1f}" for each in os.getloadavg())},
        tuple(pictures),
    )


def _compared(checkpoint: Checkpoint, rounds: int, note: Callable[[str], None]) -> list[Case]:
    subjects = {"ours": ours, **peers()}
    turns = Rounds(rounds, lambda text: note(f"{checkpoint.name}: {text}"))

    def cold_and_warm(loader: Loader) -> tuple[float, float]:
        drop(checkpoint.files)
        return timed(loader, checkpoint.files), timed(loader, checkpoint.files)

    def alone() -> tuple[float, float]:
        drop(checkpoint.files)
        return floors.bring(checkpoint.files), 0.0

    takers: dict[str, Callable[[], tuple[float, float]]] = {
        name: partial(cold_and_warm, loader) for name, loader in subjects.items()
    }
    taken = turns.run({"the disk alone": alone, **takers})
    disk = tuple(seconds for seconds, _ in taken["the disk alone"])
    return [
        Case(
            f"{checkpoint.title}, {when}",
            tuple(pair[index] for pair in taken["ours"]),
            peer,
            tuple(pair[index] for pair in taken[peer]),
            "every page touched",
            floor=disk if when == "cold" else (),
        )
        for index, when in ((0, "cold"), (1, "in the page cache"))
        for peer in subjects
        if peer != "ours"
    ]


def _handle(checkpoint: Checkpoint, rounds: int, note: Callable[[str], None]) -> list[Case]:
    """What a notebook sees: the handle, and a load while a cell runs Python."""

    def usable() -> float:
        drop(checkpoint.files)
        began = time.perf_counter()
        weights = load(checkpoint.folder, device="cpu", background=True)
        took = time.perf_counter() - began
        weights.wait()
        return took

    def behind(cell: Callable[[], object]) -> float:
        drop(checkpoint.files)
        began = time.perf_counter()
        weights = load(checkpoint.folder, device="cpu", background=True)
        while not weights.done:
            cell()
        weights.wait()
        return time.perf_counter() - began

    def whole() -> float:
        drop(checkpoint.files)
        return timed(peers()["load_file"], checkpoint.files)

    taken = Rounds(rounds, lambda text: note(f"handle: {text}")).run(
        {
            "usable": usable,
            "busy": lambda: behind(_python),
            "busy in C": lambda: behind(_c),
            "idle": lambda: behind(lambda: time.sleep(0.002)),
            "load_file": whole,
        }
    )
    return [
        Case(
            "8B, cold, until the handle can be used",
            tuple(taken["usable"]),
            "load_file",
            tuple(taken["load_file"]),
            "background=True; load_file has no part of a load",
        ),
        Case(
            "8B, cold, in the background while a cell runs pure Python",
            tuple(taken["busy"]),
            "ours, while the kernel waits",
            tuple(taken["idle"]),
            "the ratio is the share of the idle rate",
        ),
        Case(
            "8B, cold, in the background while a cell runs pure Python",
            tuple(taken["busy"]),
            "ours, while a cell computes without the GIL",
            tuple(taken["busy in C"]),
            "as busy a core: what is missing to 1 is the GIL's share",
        ),
    ]


def _python() -> int:
    return sum(number * number for number in range(20_000))


def _c() -> bytes:
    return hashlib.pbkdf2_hmac("sha256", b"zero", b"start", 5_000)


def _own_memory(checkpoint: Checkpoint) -> dict[str, str]:
    before = anonymous()
    with ours(checkpoint.files) as tensors:
        touch(tensors)
        grown = anonymous() - before
    return {"own memory of a load": f"{max(0, grown) / checkpoint.nbytes:.1%} of the checkpoint"}


def _picture(checkpoint: Checkpoint, about: dict[str, str]) -> str:
    """Draw one cold load; notes the disk's own speed beside the machine."""
    events: list[Event] = []
    hub = Hub(interval=0.005)
    hub.subscribe(events.extend)
    drop(checkpoint.files)  # before the load: what it has mapped cannot be dropped after it
    rate = checkpoint.nbytes / floors.bring(checkpoint.files)
    drop(checkpoint.files)
    weights = load(checkpoint.folder, device="cpu", hub=hub)
    about["disk"] = f"{rate / 1e9:.2f} GB/s into the page cache"
    past = disk.probe(checkpoint.files)
    if past is not None:
        about["disk"] += f" and {past.gb_per_second:.2f} past it"
    began = min(event.time for event in events)
    names = {event.item for event in events}  # "" is the whole, and sorts first
    lines = [
        (
            f"shard {number}" if name else f"all, by {weights.reader}",
            [
                (0.0, 0.0),
                *((event.time - began, event.done) for event in events if event.item == name),
            ],
        )
        for number, name in enumerate(sorted(names))
    ]
    title = f"One cold load of the {checkpoint.title}: bytes over time"
    return timeline(title, lines, rate)


def _fitting(folder: Path) -> int:
    """A size that leaves room in memory for a copy, and on the disk."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return min(SIZE, memory // 4, shutil.disk_usage(folder).free // 2)
