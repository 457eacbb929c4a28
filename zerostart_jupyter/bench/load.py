"""Loading a synthetic checkpoint onto the CPU, beside safetensors' own two ways.

Subjects take turns in random order within a round, so that a disk that slows down slows all of
them. Cold: the files' pages are dropped first. A load counts as over when every page of every
tensor was touched: a mapping alone has read nothing.
"""

from __future__ import annotations

import gc
import json
import math
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from zerostart_jupyter.bench.report import Case, Report, machine, versions
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import disk, load

SHARDS = 4
SIZE = 2 << 30  # bytes, unless the machine is too small for it

Tensors = Mapping[str, torch.Tensor]


def measure(rounds: int, note: Callable[[str], None], *, size: int | None = None) -> Report:
    """Medians over `rounds` of ours and of each peer, cold and warm."""
    cache = Settings.read().cache
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-load-", dir=cache) as name:
        folder = Path(name)
        size = size or _fitting(folder)
        note(f"writing {size / (1 << 30):.2f} GiB in {SHARDS} shards")
        files = list(_checkpoint(folder, size))
        cold: dict[str, list[float]] = {}
        warm: dict[str, list[float]] = {}
        subjects: dict[str, Callable[[], Tensors]] = {
            "ours": lambda: load(folder, device="cpu"),
            "load_file": lambda: _load_file(files),
            "safe_open + clone": lambda: _clones(files),
        }
        late: list[float] = []
        for number in range(rounds):
            for subject in random.sample(list(subjects), len(subjects)):
                note(f"round {number + 1} of {rounds}: {subject}")
                _drop(files)
                cold.setdefault(subject, []).append(_timed(subjects[subject], _touch))
                warm.setdefault(subject, []).append(_timed(subjects[subject], _touch))
            _drop(files)
            late.append(_timed(lambda: load(folder, device="cpu", background=True), _one_late))
        speed = disk.probe(files)
    about = machine()
    if speed is not None:
        about["disk"] = f"{speed.gb_per_second:.2f} GB/s past the page cache"
    gigabytes = f"{size / 1e9:.1f} GB"
    cases = [
        Case(f"{gigabytes}, {when}", tuple(times["ours"]), peer, tuple(times[peer]), remark)
        for when, times, remark in (
            ("cold", cold, "every page touched"),
            ("in the page cache", warm, "every page touched"),
        )
        for peer in ("load_file", "safe_open + clone")
    ]
    cases.append(
        Case(
            f"{gigabytes}, cold, until one layer of the last shard is there",
            tuple(late),
            "load_file",
            tuple(cold["load_file"]),
            "background=True, the layer demanded; load_file has no part of a load",
        )
    )
    return Report(
        "Loading a checkpoint onto the CPU",
        tuple(cases),
        versions("zerostart-jupyter", "torch", "safetensors"),
        about,
    )


def _fitting(folder: Path) -> int:
    """A size that leaves room in memory for a copy, and on the disk."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return min(SIZE, memory // 4, shutil.disk_usage(folder).free // 2)


def _checkpoint(folder: Path, size: int) -> Iterator[Path]:
    """Shards shaped like a language model's: a few large matrices and a small norm a layer."""
    generator = torch.Generator().manual_seed(0)
    width = max(64, math.isqrt(size // SHARDS // 2 // 8 // 3))
    homes = {}
    for shard in range(1, SHARDS + 1):
        name = f"model-{shard:05d}-of-{SHARDS:05d}.safetensors"
        tensors = {}
        for layer in range(8):
            for part, shape in (
                ("norm", (width,)),
                ("attention", (width, width)),
                ("up", (width, width)),
                ("down", (width, width)),
            ):
                bits = torch.randint(-(1 << 15), 1 << 15, shape, generator=generator)
                tensors[f"{shard}.{layer}.{part}"] = bits.to(torch.int16).view(torch.bfloat16)
        save_file(tensors, folder / name)
        homes.update(dict.fromkeys(tensors, name))
        yield folder / name
    index = {"metadata": {}, "weight_map": homes}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _load_file(files: list[Path]) -> Tensors:
    found: dict[str, torch.Tensor] = {}
    for path in files:
        found.update(load_file(path))
    return found


def _clones(files: list[Path]) -> Tensors:
    found: dict[str, torch.Tensor] = {}
    for path in files:
        with safe_open(path, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 -- it is no mapping
                found[name] = opened.get_tensor(name).clone()
    return found


def _drop(files: list[Path]) -> None:
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())  # dirty pages stay where they are
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _touch(tensors: Tensors) -> None:
    for tensor in tensors.values():
        tensor.reshape(-1).view(torch.uint8)[::4096].max()


def _one_late(tensors: Tensors) -> None:
    layer = f"{SHARDS}.0."
    _touch({name: tensors[name] for name in tensors if name.startswith(layer)})


def _timed(make: Callable[[], Tensors], use: Callable[[Tensors], object]) -> float:
    began = time.perf_counter()
    tensors = make()
    use(tensors)
    took = time.perf_counter() - began
    wait = getattr(tensors, "wait", None)
    if wait is not None:
        wait()
    del tensors, wait
    gc.collect()  # a page that is still mapped cannot be dropped
    return took
