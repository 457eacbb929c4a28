"""What every endpoint does alike: who may, what is well-formed, how an error is told."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

import yaml
from jsonschema import Draft202012Validator
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from zerostart_jupyter.core.errors import ZerostartError

if TYPE_CHECKING:
    from zerostart_jupyter.jupyter.server.app import ZerostartServer

NAME = "zerostart_jupyter"

# Our errors are also the fitting builtin, and that says which status fits.
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (PermissionError, 403),
    (LookupError, 404),
    (FileExistsError, 409),
    (RuntimeError, 409),
)


class Endpoint(APIHandler):
    """Base of all handlers. Snapshots hold a kernel's memory: they are guarded like kernels."""

    auth_resource = "kernels"

    @property
    def app(self) -> ZerostartServer:
        """The extension this handler belongs to."""
        app: ZerostartServer = self.settings[NAME]
        return app

    def body(self, schema: str) -> dict[str, Any]:
        """The request's JSON body, valid under that schema of openapi.yaml; else 400."""
        try:
            body: dict[str, Any] = json.loads(self.request.body)
        except ValueError as error:
            raise BadRequest(f"The request's body is not JSON: {error}.") from error
        problem = next(iter(_validator(schema).iter_errors(body)), None)
        if problem is not None:
            where = "/".join(str(step) for step in problem.absolute_path) or "body"
            raise BadRequest(f"The request's {where} is not valid: {problem.message}.")
        return body


class BadRequest(ZerostartError, ValueError):
    """A request that does not follow openapi.yaml."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            remedy="zerostart_jupyter/jupyter/server/schema/openapi.yaml says what is expected.",
        )


class NotFound(ZerostartError, LookupError):
    """A kernel or an operation that this server does not know."""


class Busy(ZerostartError, RuntimeError):
    """Something of the same kind is under way."""


Method = Callable[..., Awaitable[Any]]


def endpoint(method: Method) -> Method:
    """Authenticate, authorise, run; what the method returns is sent as JSON, None as 204."""

    @web.authenticated
    @authorized
    @functools.wraps(method)
    async def answer(self: Endpoint, *args: str, **kwargs: str) -> None:
        try:
            result = await method(self, *args, **kwargs)
        except ZerostartError as error:
            self.set_status(next((code for kind, code in _STATUS if isinstance(error, kind)), 400))
            result = {"message": error.message, "remedy": error.remedy}
        if result is None:
            self.set_status(204)
            self.finish()
        else:
            self.finish(json.dumps(result))

    return cast(Method, answer)


@functools.cache
def openapi() -> dict[str, Any]:
    """The description of this API, which the request bodies are checked against."""
    text = files(__package__).joinpath("schema", "openapi.yaml").read_text()
    spec: dict[str, Any] = yaml.safe_load(text)
    return spec


@functools.cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(openapi()["components"]["schemas"][schema])
