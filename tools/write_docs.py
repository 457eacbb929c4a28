"""Writes the pages of docs/ that follow from the code: settings, errors, the dump matrix.

    .venv/bin/python tools/write_docs.py

`tests/test_repository.py` fails while a page is not what this would write.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from zerostart_jupyter.core import errors
from zerostart_jupyter.core.settings import table

DOCS = Path(__file__).resolve().parent.parent / "docs"
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


def matrix() -> str:
    """The page of what a snapshot keeps: the rows that the dump matrix's tests prove."""
    sys.path.insert(0, str(DOCS.parent))
    from tests.snapshot.matrix.table import page

    return f"{NOTICE.format(source='tests/snapshot/matrix')}\n{page()}"


PAGES = {"settings.md": settings, "errors.md": exceptions, "snapshot-matrix.md": matrix}


def main() -> None:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
        print(f"docs/{name}")


if __name__ == "__main__":
    main()
