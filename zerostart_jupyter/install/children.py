"""What Python processes that a kernel starts are given, so that they see what it sees.

An environment has a directory that goes before it on PYTHONPATH, with a `sitecustomize` of ours:
it takes that directory off the path again, reads the environment's `.pth` files (`path_files`),
has imports wait for what is on its way (`inherited`), and hands on to the user's own
`sitecustomize`. An interpreter that is not the kernel's, or a virtual environment of its own, keeps
to its own packages.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zerostart_jupyter.core.liveness import Process
from zerostart_jupyter.install import inherited, path_files
from zerostart_jupyter.install.lock import digest

if TYPE_CHECKING:
    from zerostart_jupyter.install.gate import Pending

_FINDERS, _PATHS = "inherited.py", "path_files.py"
_BLANK = re.compile(r"\r?\n\r?\n")
# Any Python may come by: this has to be read by all of them.
_STUB = '''\
"""Written by zerostart: see zerostart_jupyter.install.children."""
import os
import sys


def _begin(folder):
    sys.path[:] = [path for path in sys.path if path != folder]
    root = os.path.dirname(os.path.dirname(os.path.dirname(folder)))
    base = getattr(sys, "base_prefix", "")
    if sys.version_info[:2] != {version!r} or base != {base!r} or (
        sys.prefix not in (base, root, {prefix!r})
    ):
        sys.path[:] = [path for path in sys.path if path != {site!r}]
    else:
        _use(folder, os.path.exists(os.path.join(root, "entry.json")), sys.prefix == root)


def _use(folder, whole, own):
    coming = not whole and os.path.exists(os.path.join(folder, {state!r}))
    if own and not coming:
        return  # these are its own site-packages
    if coming or (os.path.isdir({site!r}) and ".pth" in " ".join(os.listdir({site!r}))):
        take = _of(folder, {paths!r})["take"]
        take({site!r}, whole)
        if coming:
            begin = _of(folder, {finders!r})["begin"]
            begin(folder, lambda whole: take({site!r}, whole and not own))


def _of(folder, name):
    names = {{"__name__": "zerostart_" + name[:-3]}}
    file = os.path.join(folder, name)
    with open(file) as opened:
        exec(compile(opened.read(), file, "exec"), names)
    return names


def _go_on():
    ours = sys.modules.pop(__name__)
    try:
        import sitecustomize
    except ImportError as error:
        sys.modules[__name__] = ours
        if getattr(error, "name", "sitecustomize") != "sitecustomize":
            raise


_begin(os.path.dirname(os.path.abspath(__file__)))
_go_on()
'''


def folder(root: Path) -> Path:
    """The directory of an environment that goes before it on PYTHONPATH of this interpreter's
    children; kernels of several virtual environments may share the environment."""
    return root / ".zerostart" / "children" / digest([sys.prefix])


def prepare(root: Path, site: Path) -> Path:
    """The same, made if it is not there."""
    place = folder(root)
    stub = place / "sitecustomize.py"
    text = _STUB.format(
        version=tuple(sys.version_info[:2]),
        base=sys.base_prefix,
        prefix=sys.prefix,
        site=str(site),
        state=inherited.STATE,
        finders=_FINDERS,
        paths=_PATHS,
    )
    with contextlib.suppress(OSError):  # they then see what is there, and nothing waits
        if not _has(stub, text):
            place.mkdir(parents=True, exist_ok=True)
            for module in (inherited, path_files):
                source = Path(str(module.__file__))
                _write(place / source.name, source.read_text(encoding="utf-8"))
            _write(stub, text)
    return place


def tell(pending: Pending, lock: Path, place: Path | None = None) -> None:
    """Write down what is on its way, for the processes that start meanwhile, and for forks.

    `lock` is the file that whoever makes the environment holds a lock on; `place` is the folder
    for it, by default the one that processes which start will look into.
    """
    me = Process.current()
    body, texts = pending.told()
    markers = pending.root / ".zerostart" / "landed"
    body.update(pid=me.pid, born=me.born, lock=str(lock), markers=str(markers))
    place = place or folder(pending.root)
    known = {name: _short(files, pending.root) for name, files in texts.items()}
    with contextlib.suppress(OSError):  # a full disk ends the install elsewhere
        place.mkdir(parents=True, exist_ok=True)
        _write(place / inherited.TEXTS, json.dumps(known))
        _write(place / inherited.STATE, json.dumps(body))
        pending.told_in = place


def _short(files: dict[str, str], root: Path) -> dict[str, str]:
    """Without the README, which METADATA ends with."""
    head = _BLANK.split(files.get("METADATA", ""), maxsplit=1)[0]
    return {**files, "METADATA": f"{head}\n", "root": str(root)}


def _has(path: Path, text: str) -> bool:
    try:
        return path.read_text() == text
    except OSError:
        return False


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text)
    part.replace(path)
