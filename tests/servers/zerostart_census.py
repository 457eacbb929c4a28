"""Loaded into a server under test: lists what the extension registered, and can close the gate.

Extensions are loaded in the order of their names, this one right before zerostart_jupyter, so
what is registered between our loading and our start is that extension's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupyter_server.auth.authorizer import Authorizer
from tornado.web import RequestHandler

HOME = Path(os.environ["HOME"])
CENSUS = "census.json"
CLOSED = "closed"

_before: list[Any] = []


class Gate(Authorizer):
    """Lets everybody do everything until there is a file `closed`."""

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        return not (HOME / CLOSED).exists()


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: Any) -> None:
    _before.extend(_rules(app.web_app.default_router))


async def _start_jupyter_server_extension(app: Any) -> None:
    added = [rule for rule in _rules(app.web_app.default_router) if rule not in _before]
    found = {rule.matcher.regex.pattern: _methods(rule.target) for rule in added}
    part = HOME / "census.part"
    part.write_text(json.dumps(found))
    part.rename(HOME / CENSUS)


def _rules(router: Any) -> Iterator[Any]:
    for rule in router.rules:
        if hasattr(rule.target, "rules"):
            yield from _rules(rule.target)
        else:
            yield rule


def _methods(handler: type[RequestHandler]) -> list[str]:
    unanswered = RequestHandler._unimplemented_method
    named = [method.lower() for method in handler.SUPPORTED_METHODS]
    return [method for method in named if getattr(handler, method) is not unanswered]
