"""What of a session is not a name: inputs, prompt number, paths, extensions, random states."""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "session.json"
RANDOM = "!random"  # a frame that is no name: no identifier has a sign in it
_SITES = ("site-packages", "dist-packages")
_IPYTHONS = re.compile(r"__\w*__|_+|_i+|_i?\d+|_(oh|dh|ih|sh|exit_code)|In|Out")


def given(shell: Any) -> list[object]:
    """Objects that every session has: what points at them will point at the new session's."""
    history = shell.history_manager
    return [
        *(shell.user_ns, shell, history.input_hist_parsed, history.input_hist_raw),
        *(history.output_hist, history.dir_hist),
    ]


def names(shell: Any) -> dict[str, Any]:
    """What the user has named, in the order in which it came."""
    hidden, missing = shell.user_ns_hidden, object()
    return {
        name: value
        for name, value in list(shell.user_ns.items())
        if not _IPYTHONS.fullmatch(name) and value is not hidden.get(name, missing)
    }


def outputs(shell: Any) -> dict[str, Any]:
    """The results of cells, as frames."""
    return {f"Out[{number}]": value for number, value in shell.history_manager.output_hist.items()}


def describe(shell: Any, cache: Path, *, running: bool) -> dict[str, Any]:
    """All that JSON can hold. `environments` are those of the cache that packages came from.

    A cell that is `running` is the save itself: a restored session does not have it.
    """
    history = shell.history_manager
    inputs = len(history.input_hist_raw) - running
    matplotlib: Any = sys.modules.get("matplotlib")
    return {
        "count": inputs,
        "raw": list(history.input_hist_raw[:inputs]),
        "parsed": list(history.input_hist_parsed[:inputs]),
        "directory": _directory(),
        "path": [each for each in sys.path if isinstance(each, str)],
        "environments": environments(cache),
        "extensions": sorted(shell.extension_manager.loaded),
        "matplotlib": matplotlib.get_backend() if "matplotlib.pyplot" in sys.modules else None,
    }


def environments(cache: Path) -> list[str]:
    """The keys of the cache's environments that are on the path."""
    room = f"{cache / 'environments'}{os.sep}"
    return [
        each.removeprefix(room).partition(os.sep)[0]
        for each in sys.path
        if isinstance(each, str) and each.startswith(room)
    ]


def add_paths(session: Mapping[str, Any]) -> None:
    """Have imports find what they found, as far as it is here: before anything is unpickled."""
    known = [each for each in session["path"] if each and os.path.isdir(each)]
    sites = [at for at, each in enumerate(sys.path) if os.path.basename(each) in _SITES]
    first = sites[0] if sites else len(sys.path)
    # What an install had put before all others comes before all others again.
    early = [
        each for each in known if each not in sys.path and f"{os.sep}environments{os.sep}" in each
    ]
    sys.path[first:first] = early
    sys.path += [each for each in known if each not in sys.path]
    importlib.invalidate_caches()


def take_place(shell: Any, session: Mapping[str, Any]) -> None:
    """In a fresh kernel: the inputs so far, the prompt number, the folder, the extensions."""
    history = shell.history_manager
    history.input_hist_raw[:] = session["raw"]
    history.input_hist_parsed[:] = session["parsed"]
    shell.execution_count = int(session["count"])
    with contextlib.suppress(OSError, TypeError):
        os.chdir(session["directory"])
    for name in session["extensions"]:
        if name not in shell.extension_manager.loaded:
            with contextlib.suppress(ImportError):
                shell.extension_manager.load_extension(name)


def draw_with(session: Mapping[str, Any]) -> None:
    """Have matplotlib draw where it did, if that is possible here."""
    backend = session["matplotlib"]
    if backend:
        with contextlib.suppress(ImportError, ValueError):
            matplotlib = importlib.import_module("matplotlib")
            matplotlib.use(backend)


def random_states() -> dict[str, Any]:
    """The states of the generators that everybody shares."""
    found: dict[str, Any] = {"random": random.getstate()}
    numpy: Any = sys.modules.get("numpy.random")
    if numpy is not None:
        found["numpy"] = numpy.get_state()
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = torch.get_rng_state()
    return found


def set_random_states(states: Mapping[str, Any]) -> None:
    """Go on drawing where the saved session was."""
    random.setstate(states["random"])
    if "numpy" in states:
        sys.modules["numpy.random"].set_state(states["numpy"])
    if "torch" in states:
        sys.modules["torch"].set_rng_state(states["torch"])


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None
