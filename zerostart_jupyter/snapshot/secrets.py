"""Names of what looks like a secret and goes into a snapshot: told to the user, once a kernel."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

_LOOKS = re.compile(
    r"(?:^|_)(?:TOKENS?|SECRETS?|PASSWORDS?|PASSWD|PASSPHRASE|CREDENTIALS?|API_?KEYS?|"
    r"ACCESS_?KEYS?|PRIVATE_?KEYS?)(?:_|$)|(?:API|ACCESS|AUTH)_?(?:KEY|TOKEN)(?:_ID)?$",
    re.IGNORECASE,
)
_told: set[str] = set()


def found(names: Mapping[str, Any], environ: Iterable[str] = ()) -> list[str]:
    """Names of texts and of variables that look like secrets; nobody looks at what they hold."""
    texts = [name for name, value in names.items() if isinstance(value, str | bytes) and value]
    return sorted({name for name in (*texts, *environ) if _LOOKS.search(name)})


def once(*, process: bool) -> tuple[str, ...]:
    """Those in this kernel that were not told of before; a `process` takes its environment along.

    Sources: the notebook's names, os.environ.
    """
    main = sys.modules.get("__main__")
    names = {name: value for name, value in vars(main).items() if name[:1] != "_"} if main else {}
    fresh = [name for name in found(names, os.environ if process else ()) if name not in _told]
    _told.update(fresh)
    return tuple(fresh)
