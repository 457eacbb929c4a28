"""A capability is true where it works, and says why not where it does not."""

from __future__ import annotations

from zerostart_jupyter.core.capability import Capability


def test_is_what_it_says() -> None:
    assert Capability("criu", True, "version 4.2")
    assert not Capability("criu", False, "not found", "Run `zerostart setup criu`.")


def test_as_json() -> None:
    assert Capability("criu", False, "not found", "Set it up.").as_json() == {
        "name": "criu",
        "ok": False,
        "reason": "not found",
        "remedy": "Set it up.",
    }
