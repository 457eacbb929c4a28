"""`zerostart COMMAND …`: finds the command's module and turns errors into one line.

Exit codes: 0 done, 1 failed (one line on stderr that names the remedy), 2 usage. A script that
was run before is run before anything else is imported.
"""

from __future__ import annotations

import sys

from zerostart_jupyter.core.errors import ZerostartError
from zerostart_jupyter.install import replay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130  # 128 + SIGINT, what a shell expects of an interrupted command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = words[0] if words else ""
    try:
        if command == "run" and (status := replay.status(words)) is not None:
            return status
        from zerostart_jupyter.cli import commands

        args = commands.parser(words).parse_args(words)
        command = args.command
        return int(commands.module(command).run(args))
    except ZerostartError as error:
        print(f"zerostart {command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"zerostart {command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left: nothing more to say, not even at exit.
        sys.stdout = None
        return 1
