"""The dump matrix as a page: what `make docs` writes of the rows that the tests prove."""

from __future__ import annotations

from tests.snapshot.matrix import files, memory, running, sockets
from tests.snapshot.matrix.state import State

SECTIONS = {
    "What runs": running.STATES,
    "Memory": memory.STATES,
    "Files and other descriptors": files.STATES,
    "Sockets": sockets.STATES,
}
STATES = [state for section in SECTIONS.values() for state in section]


def page() -> str:
    """Markdown: one table a section."""
    tables = "\n\n".join(
        f"## {title}\n\n| state | by root | by an ordinary user |\n|---|---|---|\n"
        + "\n".join(map(_row, states))
        for title, states in SECTIONS.items()
    )
    return f"""# What a snapshot of a process keeps

Each row is a test (`tests/snapshot/matrix`): a kernel makes the state and is saved; the kernel that
goes on still has it, and the one that is restored has it too, compared by value. What cannot be
kept is refused before anything is frozen, by a line that names it, and the kernel goes on as well.

"Not beside" means that a kernel that still runs, or another program, keeps it from being restored a
second time at once: the restore is refused by a line that names it, nothing is harmed, and it
succeeds when the other has gone. What has a name in the file system, shared memory in `/dev/shm`
included, is found again by that name and is the same for a kernel and what was restored from it.

An ordinary user's kernel is one that our provisioner or launcher started, in namespaces of its own.

{tables}
"""


def _row(state: State) -> str:
    if state.refused and state.needs is None:
        said = _refusal(state.refused)
    elif state.differs:
        said = f"yes, but {state.differs}" if state.needs is None else f"yes; {state.differs}"
    else:
        said = "yes"
    said += "; not beside" if state.beside else ""
    ordinary = "only root can make it" if state.root else "the same"
    return f"| {state.name} | {said} | {_refusal(state.rootless) if state.rootless else ordinary} |"


def _refusal(words: str) -> str:
    return f"refused: “{words}”"
