"""Writes what follows from the code: settings, errors, the dump matrix, the README's table.

    .venv/bin/python tools/write_docs.py

`tests/test_repository.py` fails while a page is not what this would write.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from places import DECIDED_BY, PLACES

from zerostart_jupyter.core import errors
from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.core.settings import table

ROOT = Path(__file__).resolve().parent.parent
_WHERE = re.compile(r"(<!-- where: .*? -->\n).*?(<!-- /where -->\n)", re.DOTALL)
NOTICE = "<!-- Written by `make docs` from {source}; change it there. -->"


def settings() -> str:
    """The page of settings: variable, default, what it does."""
    rows = "\n".join(
        f"| `{variable}` | {f'`{default}`' if default else '—'} | {doc} |"
        for variable, default, doc in table()
    )
    return f"""{NOTICE.format(source="zerostart_jupyter/core/settings.py")}
# Settings

An argument wins over `%config Zerostart.…`, that over the environment, that over the default.
The name under `%config` is that of the variable without its prefix, in small letters:
`ZS_CHUNK_MB` is `%config Zerostart.chunk_mb`.

| variable | default | what it does |
|---|---|---|
{rows}

Where packages come from is not set here. What you have set for uv or pip holds: index and extra
index URLs, find-links, credentials, proxies and certificates (`UV_*`, `PIP_*`, `pip.conf`,
`uv.toml`, `~/.netrc`, keyring, `SSL_CERT_FILE`).
"""


def exceptions() -> str:
    """The page of errors: the tree, as the module's docstring draws it."""
    head, _, rest = inspect.cleandoc(errors.__doc__ or "").partition("\n\n")
    tree, _, tail = rest.partition("\n\n")
    return f"""{NOTICE.format(source="zerostart_jupyter/core/errors.py")}
# Errors

{head} In a notebook one prints as one line and
the cell still fails, so that *Run All* stops; a command prints the same line to stderr and exits
with 1.

```
{tree}
```

{tail}
"""


def readme() -> str:
    """The README as it is, its table of what works where anew."""
    text = (ROOT / "README.md").read_text()
    return _WHERE.sub(lambda found: f"{found[1]}{where()}{found[2]}", text)


def where() -> str:
    """Markdown: what works in which place, as doctor would say there, and under it why not."""
    found = [place.finds() for place in PLACES]
    notes: list[str] = []
    lines = ["| | " + " | ".join(place.name for place in PLACES) + " |"]
    lines.append("|---" * (len(PLACES) + 1) + "|")
    for what, name in DECIDED_BY.items():
        cells = [_cell(each[name], notes) for each in found]
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    listed = "\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1))
    return "\n".join(lines) + f"\n\n{listed}\n"


def _cell(found: Capability, notes: list[str]) -> str:
    if found:
        return "yes"
    note = f"{found.reason} {found.remedy}"
    if note not in notes:
        notes.append(note)
    return f"no ({notes.index(note) + 1})"


def matrix() -> str:
    """The page of what a snapshot keeps: the rows that the dump matrix's tests prove."""
    sys.path.insert(0, str(ROOT))
    from tests.snapshot.matrix.table import page

    return f"{NOTICE.format(source='tests/snapshot/matrix')}\n{page()}"


PAGES = {
    "docs/settings.md": settings,
    "docs/errors.md": exceptions,
    "docs/snapshot-matrix.md": matrix,
    "README.md": readme,
}


def main() -> None:
    for name, page in PAGES.items():
        (ROOT / name).write_text(page())
        print(name)


if __name__ == "__main__":
    main()
