from __future__ import annotations

import pytest

from zerostart_jupyter.core.errors import (
    InstallError,
    NetworkError,
    RequirementError,
    ResolveError,
)
from zerostart_jupyter.install import gather, resolve

SAID = {
    "unknown": (
        "error: No solution found when resolving dependencies\n"
        "  cause: Because torhc was not found in the package registry and you require torhc, we "
        "can conclude that your requirements are unsatisfiable.\n",
        ResolveError,
        "No index has a package named torhc",
    ),
    "versions": (
        "error: No solution found when resolving dependencies\n"
        "  cause: Because there is no version of numpy==99 and you require numpy==99, we can\n"
        "         conclude that your requirements are unsatisfiable.\n",
        ResolveError,
        "there is no version of numpy==99",
    ),
    "offline": (
        "error: No solution found\n  cause: Because x was not found in the cache and you require "
        "x.\n\nhint: Packages were unavailable because the network was disabled.\n",
        ResolveError,
        "cannot be resolved offline",
    ),
    "network": (
        "error: Request failed after 3 retries in 4.9s\n  cause: Failed to fetch: "
        "https://me:secret@host.example/simple/six/\n  cause: Connection refused (os error 111)\n",
        NetworkError,
        "Connection refused",
    ),
    "syntax": (
        "error: Couldn't parse requirement in `-` at position 0\n  cause: no such comparison "
        "operator\n         six=>3\n            ^^\n",
        RequirementError,
        "no such comparison operator",
    ),
    "silence": ("", ResolveError, "Nothing satisfies"),
}


@pytest.mark.parametrize("what", SAID)
def test_uvs_words_become_one_line_with_a_remedy(what: str) -> None:
    text, kind, part = SAID[what]
    error = resolve.explain(text, gather(["six"]))
    assert type(error) is kind
    assert part in str(error)
    assert "\n" not in str(error)
    assert "secret" not in str(error)
    assert error.remedy


def test_a_missing_uv_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InstallError, match="uv") as caught:
        resolve.find_uv()
    assert "pip install uv" in caught.value.remedy
