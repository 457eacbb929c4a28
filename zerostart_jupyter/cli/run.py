"""`zerostart run`: a script or a package's command at once, its packages streaming in behind it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zerostart_jupyter.cli import asked, output
from zerostart_jupyter.core.errors import AlreadyImported, RequirementError

if TYPE_CHECKING:
    from zerostart_jupyter.install import IndexOptions, Request

HELP = "run a script or a package's command while its packages stream in"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "-p", "--package", action="append", default=[], metavar="PKG", help="one more requirement"
    )
    asked.add_file_argument(parser)
    asked.add_index_arguments(parser)
    parser.add_argument(
        "--accelerate",
        action="store_true",
        help="let transformers and diffusers read weights through zerostart",
    )
    parser.add_argument(
        "target", metavar="SCRIPT|PKG", help="a .py file, - for one on stdin, or a package to run"
    )
    parser.add_argument("args", nargs=argparse.REMAINDER, metavar="-- ARGS", help="its arguments")


def run(args: argparse.Namespace) -> int:
    """The exit status of what was run.

    What is still on its way when it ends well is waited for: the next run is then warm.
    """
    from zerostart_jupyter import install as engine
    from zerostart_jupyter.install import again, running

    words = args.args[1:] if args.args[:1] == ["--"] else args.args
    script = Path(args.target)
    source = sys.stdin.buffer.read() if args.target == "-" else None
    options = asked.index_options(args)
    if source is not None:
        request = _for_script(script, args, options, source.decode("utf-8", "replace"))
    elif script.is_file():
        request = _for_script(script, args, options)
    elif script.suffix == ".py" or os.sep in args.target:
        raise RequirementError(f"There is no script {script}.", remedy="Check the path.")
    else:
        request = engine.gather([args.target, *args.package], files=args.requirement, index=options)
    with output.progress(args):
        try:
            found = None if request.empty else engine.install(request=request, wait=False)
        except AlreadyImported:
            # A process that finds the environment there imports nothing of ours: no conflict.
            engine.install(request=request, activate=False)
            if source is not None:
                _give_again(source)
            os.execv(sys.executable, [sys.executable, "-m", "zerostart", *sys.argv[1:]])
    if args.accelerate:
        from zerostart_jupyter.load import accelerate

        accelerate()
    if source is not None:
        status = running.text(source, words)
    elif script.is_file():
        if found is not None and not args.accelerate:
            again.note(request, args.target, args.requirement, words, found)
        status = running.script(args.target, words)
    else:
        from zerostart_jupyter.install import launch

        assert found is not None
        status = launch.command(args.target, words, found)
    if status == 0 and found is not None:
        with output.progress(args):
            found.wait()
    return status


def _for_script(
    script: Path, args: argparse.Namespace, index: IndexOptions, text: str | None = None
) -> Request:
    """What its own block says, else what lies around it, and what was named on top of that."""
    from dataclasses import replace

    from zerostart_jupyter.install.requirements import gather, script_request, text_request

    start = script if text is None else Path.cwd()
    own = text_request(text, "The script", index) if text else None
    if text is None:
        own = script_request(script, index)
    if own is None:
        try:
            own = gather(start=start, index=index)
        except RequirementError as nothing:
            if "Nothing was named" not in nothing.message:
                raise
            own = gather(text="", start=start, index=index)
    more = gather(args.package, files=args.requirement, text="", start=start, index=index)
    return replace(own, specs=(*own.specs, *more.specs), files=(*own.files, *more.files))


def _give_again(source: bytes) -> None:
    """Make what was read from standard input readable once more, for who takes our place."""
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.write(source)
        file.seek(0)
        os.dup2(file.fileno(), 0)
