"""What failed is tried again: how often, after how long, and when that is of no use."""

from __future__ import annotations

import email.utils
import http.client
import random
import re
import ssl
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from zerostart_jupyter.core.connections import Response, whole_number
from zerostart_jupyter.core.errors import NetworkError

T = TypeVar("T")

TRIES = 6  # in a row without a single byte
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0  # seconds
_MOST_PATIENCE = 120.0  # seconds of a Retry-After that are honoured
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")  # http.client's words


class Stopped(Exception):
    """The work was ended while something waited."""


class Refused(Exception):
    """A server's answer that is no file; `pause` is for how many seconds it asked."""

    def __init__(self, asked: str, status: int, pause: float | None = None) -> None:
        super().__init__(f"the server answered {status} {http.client.responses.get(status, '')}")
        self.asked = asked
        self.status = status
        self.pause = pause


def refusal_of(asked: str, response: Response) -> Refused:
    """An answer that is no file, with the pause it asks for (RFC 9110, section 10.2.3)."""
    return Refused(asked, response.status, _retry_after(response))


def persist(
    attempt: Callable[[], T],
    progress: Callable[[], int],
    stop: threading.Event,
    forgive: Callable[[Refused], bool],
    failed: Callable[[object], NetworkError],
) -> T:
    """What `attempt` returns, in the end.

    It may fail TRIES times in a row in which `progress` has not grown; `forgive` says which
    refusals are worth another try that by their status are not. Raises what `failed` makes of
    the last reason, or Stopped.
    """
    tries = 0
    known = progress()
    while True:
        pause = None
        reason: object
        try:
            return attempt()
        except Refused as refusal:
            if refusal.status not in _AGAIN and not forgive(refusal):
                raise failed(refusal) from None
            reason, pause = refusal, refusal.pause
        except ssl.SSLCertVerificationError as problem:
            raise failed(problem) from problem
        except (OSError, http.client.HTTPException) as problem:
            if isinstance(problem, NetworkError):
                raise
            if found := _TUNNEL.match(str(problem)):
                reason = Refused("", int(found[1]))
                if int(found[1]) not in _AGAIN:
                    raise failed(reason) from None
            else:
                reason = str(problem) or type(problem).__name__
        if progress() > known:
            known, tries = progress(), 0
        tries += 1
        if tries >= TRIES:
            raise failed(reason)
        if stop.wait(_length(tries, pause)):
            raise Stopped


def _length(tries: int, wanted: float | None) -> float:
    """Seconds to wait before the next try."""
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * float(2 ** (tries - 1)))
    pause = longest * random.uniform(0.5, 1.0)
    return pause if wanted is None else max(pause, min(wanted, _MOST_PATIENCE))


def _retry_after(response: Response) -> float | None:
    text = response.headers.get("Retry-After") or ""
    seconds = whole_number(text)
    if seconds is not None:
        return float(seconds)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
