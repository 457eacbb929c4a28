"""What people type: `import zerostart`, `%load_ext zerostart`, `python -m zerostart`.

Importing it costs nothing: every public name is resolved on first use. The names live here and
not in `zerostart_jupyter`, where the packages `install`, `load` and `snapshot` would hide the
functions of the same name as soon as they are imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zerostart_jupyter import __version__ as __version__
from zerostart_jupyter import load_ipython_extension as load_ipython_extension
from zerostart_jupyter import unload_ipython_extension as unload_ipython_extension

if TYPE_CHECKING:
    from zerostart_jupyter.core.errors import ZerostartError as ZerostartError
    from zerostart_jupyter.doctor import doctor as doctor
    from zerostart_jupyter.install import install as install
    from zerostart_jupyter.load import ModelCache as ModelCache
    from zerostart_jupyter.load import accelerate as accelerate
    from zerostart_jupyter.load import decelerate as decelerate
    from zerostart_jupyter.load import load as load
    from zerostart_jupyter.load import load_into as load_into
    from zerostart_jupyter.snapshot import restore as restore
    from zerostart_jupyter.snapshot import snapshot as snapshot
    from zerostart_jupyter.snapshot import snapshots as snapshots
    from zerostart_jupyter.snapshot import undo as undo

# public name -> the module that defines it
_HOMES = {
    "install": "zerostart_jupyter.install",
    "load": "zerostart_jupyter.load",
    "load_into": "zerostart_jupyter.load",
    "ModelCache": "zerostart_jupyter.load",
    "accelerate": "zerostart_jupyter.load",
    "decelerate": "zerostart_jupyter.load",
    "snapshot": "zerostart_jupyter.snapshot",
    "restore": "zerostart_jupyter.snapshot",
    "snapshots": "zerostart_jupyter.snapshot",
    "undo": "zerostart_jupyter.snapshot",
    "doctor": "zerostart_jupyter.doctor",
    "ZerostartError": "zerostart_jupyter.core.errors",
}

__all__ = ["__version__", "load_ipython_extension", "unload_ipython_extension", *_HOMES]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if __name__ == "__main__":
    from zerostart_jupyter.cli.main import main

    raise SystemExit(main())
