"""What every endpoint does alike: who may, what is well-formed, how an error is told."""

from __future__ import annotations

import functools
import http.client
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from zerostart_jupyter.core.errors import StoreError, ZerostartError
from zerostart_jupyter.jupyter.server.description import (
    BadRequest,
    check_body,
    check_ids,
    methods,
)

if TYPE_CHECKING:
    from zerostart_jupyter.jupyter.server.app import ZerostartServer

NAME = "zerostart_jupyter"

# Our errors are also the fitting builtin, and that says which status fits. What is left is a
# request that was understood, and a snapshot or a machine in no state to carry it out.
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (BadRequest, 400),
    (PermissionError, 403),
    (LookupError, 404),
    (StoreError, 503),
    (ZerostartError, 409),
)
_REMEDIES = {
    403: "Log in, send the server's token, or ask for the permission to use kernels.",
    405: "GET zerostart/api/openapi.json says which methods there are.",
}


class Endpoint(APIHandler):
    """Base of all handlers. Snapshots hold a kernel's memory: they are guarded like kernels."""

    auth_resource = "kernels"

    def initialize(self, described: str) -> None:
        """Take the path as openapi.yaml has it; called by tornado."""
        self.described = described
        self.body: Any = None  # of the request, once it was found valid

    @property
    def app(self) -> ZerostartServer:
        """The extension this handler belongs to."""
        app: ZerostartServer = self.settings[NAME]
        return app

    def refuse(self, status: int, message: str, remedy: str) -> None:
        """Answer with an error, as openapi.yaml describes it."""
        self.set_status(status)
        self.finish(json.dumps({"message": message, "remedy": remedy}))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Tell what tornado or Jupyter refused in our own form; called by tornado."""
        message = http.client.responses.get(status_code, "Unknown error")
        error = kwargs.get("exc_info", (None, None))[1]
        if isinstance(error, web.HTTPError) and error.log_message:
            message = error.log_message % error.args
        if status_code == 405:  # RFC 9110, 15.5.6
            allowed = [*methods(self.described), "options"]
            self.set_header("Allow", ", ".join(allowed).upper())
        self.refuse(status_code, message, _REMEDIES.get(status_code, "The server's log says more."))


class Busy(ZerostartError, RuntimeError):
    """Something of the same kind is under way."""


Method = Callable[..., Awaitable[Any]]


def endpoint(method: Method) -> Method:
    """Authenticate, authorise, check, run; what comes back is sent as JSON, None as 204."""

    @web.authenticated
    @authorized
    @functools.wraps(method)
    async def answer(self: Endpoint, **ids: str) -> None:
        try:
            check_ids(ids)
            self.body = check_body(self.described, method.__name__, self.request.body)
            result = await method(self, **ids)
        except ZerostartError as error:
            status = next(code for kind, code in _STATUS if isinstance(error, kind))
            self.refuse(status, error.message, error.remedy)
        except OSError as error:
            self.log.exception("zerostart: %s", self.request.path)
            reason = error.strerror or type(error).__name__
            self.refuse(503, f"The machine refused: {reason}.", "The server's log says more.")
        else:
            if result is None:
                self.set_status(204)
            self.finish(None if result is None else json.dumps(result))

    return cast(Method, answer)
