"""A checkpoint from a hub: downloaded and then loaded, or loaded while it arrives."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file

from zerostart_jupyter.bench import checkpoints, hub
from zerostart_jupyter.bench.report import Case
from zerostart_jupyter.bench.rounds import Rounds, touch
from zerostart_jupyter.bench.shapes import Llama
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import load

SIZE = 256 << 20  # bytes at most
LINKS = {"50 MB/s a connection, 20 ms away": (50_000_000, 0.02), "no limit": (0, 0.0)}


def cases(folder: Path, size: int, rounds: int, note: Callable[[str], None]) -> list[Case]:
    """Until every byte is in a tensor, and until the first tensor of the file is.

    None where huggingface_hub is not installed.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        note("huggingface_hub is not installed: the cases of a hub are left out")
        return []
    shapes = Llama.of(min(size, SIZE)).shapes()
    made = checkpoints.write("8B", shapes, folder / "hub")
    found = []
    for link, (rate, wait) in LINKS.items():
        with hub.serving(made.folder, rate=rate, wait=wait) as address:
            turns = Rounds(rounds, lambda text, link=link: note(f"hub, {link}: {text}"))  # type: ignore[misc]
            taken = turns.run(
                {
                    "ours": lambda address=address: _ours(address, folder),  # type: ignore[misc]
                    "plain": lambda address=address: (_plain(address, folder),),  # type: ignore[misc]
                }
            )
        title = f"from a hub ({made.nbytes / 1e9:.2f} GB, {link})"
        plain = tuple(seconds for (seconds,) in taken["plain"])
        peer = "snapshot_download, then load_file"
        for number, until in enumerate(("", ", until the first tensor can be used")):
            found.append(
                Case(
                    title + until,
                    tuple(each[number] for each in taken["ours"]),
                    peer,
                    plain,
                    "an empty cache, every page touched",
                )
            )
    return found


def _ours(address: str, folder: Path) -> tuple[float, float]:
    with _empty(folder, address) as cache:
        settings = replace(Settings.read(), cache=cache)
        began = time.perf_counter()
        weights = load(hub.NAME, device="cpu", background=True, settings=settings)
        weights[next(iter(weights))]
        first = time.perf_counter() - began
        touch(weights.wait())
        return time.perf_counter() - began, first


def _plain(address: str, folder: Path) -> float:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    with _empty(folder, address) as cache:
        began = time.perf_counter()
        where = snapshot_download(hub.NAME, cache_dir=cache / "hub", endpoint=address)
        tensors = {}
        for path in sorted(Path(where).glob("*.safetensors")):
            tensors.update(load_file(path))
        touch(tensors)
        return time.perf_counter() - began


@contextlib.contextmanager
def _empty(folder: Path, address: str) -> Iterator[Path]:
    """A cache with nothing in it, and a hub that is this one, as the environment tells both."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        told = {"HF_HUB_CACHE": f"{name}/hub", "HF_ENDPOINT": address, "HF_TOKEN": ""}
        before = {key: os.environ.get(key) for key in told}
        os.environ.update(told)
        try:
            yield Path(name)
        finally:
            for key, value in before.items():
                if value is None:
                    del os.environ[key]
                else:
                    os.environ[key] = value
