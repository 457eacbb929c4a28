"""A script in this interpreter, as Python itself would run it."""

from __future__ import annotations

import os
import sys
import types

from zerostart_jupyter.core.errors import ZerostartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


def script(path: str, words: Sequence[str]) -> int:
    """The exit status of a script, run as `__main__` with these arguments."""
    folder = os.path.dirname(os.path.realpath(path))
    with open(path, "rb") as file:
        source = file.read()
    return _main(source, path, words, folder, __file__=path)


def text(source: bytes, words: Sequence[str]) -> int:
    """The same for a script that came over standard input, as `python -` runs it."""
    return _main(source, "-", words, "")


def _main(source: bytes, name: str, words: Sequence[str], folder: str, **given: str) -> int:
    code = compile(source, given.get("__file__", "<stdin>"), "exec")
    # A module of its own that stays: threads, atexit functions and pickles refer to it.
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=__builtins__, __cached__=None, **given)
    sys.modules["__main__"] = main
    sys.argv = [name, *words]
    sys.path[0] = folder
    return status_of(lambda: exec(code, main.__dict__))


def status_of(work: Callable[[], Any]) -> int:
    """What the interpreter's exit status would be after this, with what it would print."""
    try:
        work()
    except SystemExit as leave:
        if leave.code is None or isinstance(leave.code, int):
            return leave.code or 0
        print(leave.code, file=sys.stderr)
        return 1
    except (ZerostartError, KeyboardInterrupt):
        raise
    except BaseException as error:
        ours = error.__traceback__
        frames = ours.tb_next.tb_next if ours and ours.tb_next else None
        import traceback

        traceback.print_exception(type(error), error, frames)
        return 1
    return 0
