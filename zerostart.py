"""The short name people type: `%load_ext zerostart`, `import zerostart`, `python -m zerostart`."""

from __future__ import annotations

from typing import Any

import zerostart_jupyter
from zerostart_jupyter import __all__ as __all__
from zerostart_jupyter import __version__ as __version__
from zerostart_jupyter import load_ipython_extension as load_ipython_extension
from zerostart_jupyter import unload_ipython_extension as unload_ipython_extension


def __getattr__(name: str) -> Any:
    # Not getattr: a package of the same name, once imported, would hide the function.
    return zerostart_jupyter.__getattr__(name)


if __name__ == "__main__":
    from zerostart_jupyter.cli.main import main

    raise SystemExit(main())
