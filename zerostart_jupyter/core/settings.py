"""All settings in one place: a field, its environment variable, its default, a doc line.

Precedence: argument > `%config Zerostart.…` > environment > default. Index settings are not
here: they are uv's and pip's own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import SettingsError

MIB = 1 << 20


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("must be at least 1")
    return number


def _natural(text: str) -> int:
    return 0 if int(text) == 0 else _positive(text)


def _flag(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in ("", "0", "false", "no", "off"):
        return False
    if lowered in ("1", "true", "yes", "on"):
        return True
    raise ValueError("must be 1 or 0")


def _number(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError("must be above 0 and finite")
    return number


def _amount(text: str) -> float:
    return 0.0 if float(text) == 0 else _number(text)


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()  # a notebook may change its directory
    except RuntimeError as error:  # ~nobody
        raise ValueError(str(error)) from error


def _setting(
    env: str,
    doc: str,
    parse: Callable[[str], Any],
    default: Callable[[], Any],
    shown: str | None = None,
) -> Any:
    """A field; `shown` is its default in words where that depends on the machine."""
    metadata = {"env": env, "doc": doc, "parse": parse, "shown": shown}
    return field(default_factory=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set. Make one with `Settings.read()`; `with_()` gives a changed copy."""

    cache: Path = _setting(
        "ZEROSTART_CACHE",
        "Where wheels, environments, models and snapshots are kept.",
        _path,
        lambda: Path("~/.cache/zerostart").expanduser(),
        shown="~/.cache/zerostart",
    )
    parallel_downloads: int = _setting(
        "ZS_PARALLEL_DOWNLOADS",
        "Connections open at once during an install, or while weights are fetched.",
        _positive,
        lambda: 16,
    )
    extract_threads: int = _setting(
        "ZS_EXTRACT_THREADS",
        "Threads that inflate and write wheels.",
        _positive,
        lambda: min(_cores(), 8),
        shown="min(cores, 8)",
    )
    chunk_mb: int = _setting(
        "ZS_CHUNK_MB", "Size of one byte segment of a download, in MiB.", _positive, lambda: 8
    )
    window_mb: int = _setting(
        "ZS_WINDOW_MB",
        "Bytes of segments held in memory at once during an install, in MiB.",
        _positive,
        lambda: 160,
    )
    http_timeout: float = _setting(
        "ZS_HTTP_TIMEOUT",
        "Seconds without a byte after which a connection is given up and retried.",
        _number,
        lambda: 30.0,
    )
    lock_hours: float = _setting(
        "ZS_LOCK_HOURS",
        "Hours for which the answer to a request is reused before it is resolved again.",
        _number,
        lambda: 24.0,
    )
    load_threads: int = _setting(
        "ZS_LOAD_THREADS",
        "Threads that read a checkpoint.",
        _positive,
        lambda: max(4, min(_cores(), 16)),
        shown="cores, 4 to 16",
    )
    model_cache_gb: float = _setting(
        "ZS_MODEL_CACHE_GB",
        "GiB of models kept: copies from network file systems, downloads, conversions; 0 for none.",
        _amount,
        lambda: 200.0,
    )
    criu: str = _setting(
        "ZS_CRIU",
        "The criu program to use instead of the one that would be found.",
        str,
        lambda: "",
    )
    criu_timeout: float = _setting(
        "ZS_CRIU_TIMEOUT", "Seconds after which a CRIU run is killed.", _number, lambda: 120.0
    )
    gpu_timeout: float = _setting(
        "ZS_GPU_TIMEOUT",
        "Seconds for the GPU's driver to lock, checkpoint or restore a process.",
        _number,
        lambda: 120.0,
    )
    map_mb: int = _setting(
        "ZS_MAP_MB",
        "Arrays of a kernel from this size on, in MiB, lie in files that restores map; 0: none.",
        _natural,
        lambda: 4,
    )
    undo_points: int = _setting(
        "ZS_UNDO_POINTS",
        "Cells that can be undone while undo points are kept.",
        _positive,
        lambda: 10,
    )
    undo_mb: int = _setting(
        "ZS_UNDO_MB",
        "Memory that undo points may hold beside the kernel's own, in MiB.",
        _positive,
        lambda: 4096,
    )
    system_cuda: bool = _setting(
        "ZS_SYSTEM_CUDA",
        "Leave out nvidia wheels of which the system has every library, as new or newer.",
        _flag,
        lambda: False,
        shown="0",
    )
    no_system_cuda: bool = _setting(
        "ZS_NO_SYSTEM_CUDA",
        "Never leave out nvidia wheels, whatever ZS_SYSTEM_CUDA says.",
        _flag,
        lambda: False,
        shown="0",
    )
    no_shared_cache: bool = _setting(
        "ZS_NO_SHARED_CACHE",
        "Copy files into environments instead of linking them to the store.",
        _flag,
        lambda: False,
        shown="0",
    )
    no_head_start: bool = _setting(
        "ZS_NO_HEAD_START",
        "Fetch no wheel before uv has answered: what is guessed until then may be in vain.",
        _flag,
        lambda: False,
        shown="0",
    )
    no_import_offers: bool = _setting(
        "ZS_NO_IMPORT_OFFERS",
        "Never offer to install what a cell failed to import.",
        _flag,
        lambda: False,
        shown="0",
    )

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """Settings from arguments, then the environment, then the defaults.

        Arguments that are None count as not given. Raises SettingsError for a variable that
        cannot be read, naming it.
        """
        environ = os.environ if environ is None else environ
        values = {name: value for name, value in given.items() if value is not None}
        for each in fields(cls):
            text = environ.get(each.metadata["env"])
            if each.name in values or text is None or text == "":
                continue
            try:
                values[each.name] = each.metadata["parse"](text)
            except ValueError as error:
                raise SettingsError(
                    f"{each.metadata['env']}={text!r} cannot be used: {error}.",
                    remedy=f"{each.metadata['doc']} Unset it for the default.",
                ) from error
        return cls(**values)

    def with_(self, **changes: Any) -> Settings:
        """A copy with these fields changed; None leaves a field as it is."""
        return replace(
            self, **{name: value for name, value in changes.items() if value is not None}
        )

    @property
    def chunk_bytes(self) -> int:
        """`chunk_mb` in bytes."""
        return self.chunk_mb * MIB

    @property
    def window_bytes(self) -> int:
        """`window_mb` in bytes."""
        return self.window_mb * MIB


def table() -> list[tuple[str, str, str]]:
    """(variable, default, doc) of every setting, for the docs and `--help`."""
    defaults = Settings()
    rows = []
    for each in fields(Settings):
        default = each.metadata["shown"] or str(getattr(defaults, each.name))
        rows.append((each.metadata["env"], default, each.metadata["doc"]))
    return rows


def describe(name: str) -> Field[Any]:
    """The dataclass field behind a setting's name; raises KeyError if there is none."""
    return {each.name: each for each in fields(Settings)}[name]
