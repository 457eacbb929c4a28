"""An environment before everything that was installed, in this process and in those it starts."""

from __future__ import annotations

import os
import sys

from zerostart_jupyter.install import path_files


def enter(site: str, programs: str, children: str, *, whole: bool) -> None:
    """Put its packages on `sys.path`, and for processes its programs on PATH and the directory of
    `children` on PYTHONPATH; `whole` if all of its files are there."""
    if site in sys.path:
        sys.path.remove(site)
    sys.path.insert(_first_site(), site)
    for name, paths in (("PYTHONPATH", [children, site]), ("PATH", [programs])):
        parts = [each for each in os.environ.get(name, "").split(os.pathsep) if each]
        os.environ[name] = os.pathsep.join([*paths, *(each for each in parts if each not in paths)])
    path_files.take(site, whole=whole)


def _first_site() -> int:
    # The standard library stays first, as it does for what pip installs.
    for at, path in enumerate(sys.path):
        if os.path.basename(path) in ("site-packages", "dist-packages"):
            return at
    return len(sys.path)
