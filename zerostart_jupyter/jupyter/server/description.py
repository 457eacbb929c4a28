"""What openapi.yaml says of a request, and whether one follows it.

Paths, ids and bodies are spelt out there and nowhere else: routes are made from its paths, and
every request is checked against it before a handler sees it.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any, cast

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

from zerostart_jupyter.core.errors import ZerostartError

MAXIMUM = 64 << 10  # bytes of a request's body that are still read
_SHOWN = 200  # characters of a message that quotes a request
METHODS = ("get", "post", "put", "patch", "delete")
_NEXT = "GET zerostart/api/openapi.json says what is expected."


class BadRequest(ZerostartError, ValueError):
    """A request that does not follow openapi.yaml."""


class NotFound(ZerostartError, LookupError):
    """A kernel or an operation that this server does not know."""


@functools.cache
def openapi() -> dict[str, Any]:
    """The description of this API."""
    text = files(__package__).joinpath("schema", "openapi.yaml").read_text()
    spec: dict[str, Any] = yaml.safe_load(text)
    return spec


def methods(path: str) -> list[str]:
    """The methods described for a path, in lower case."""
    return [method for method in METHODS if method in openapi()["paths"][path]]


def pattern(path: str) -> str:
    """The regular expression of a described path, with a group for each id."""
    return re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path.replace(".", r"\."))


def check_ids(ids: Mapping[str, str]) -> None:
    """Raise NotFound for an id that nothing can have."""
    for name, value in ids.items():
        described = openapi()["components"]["parameters"][name]
        if _problem(described["schema"], value) is not None:
            raise NotFound(
                f"{_shortened(repr(value))} is not the {name} of anything.",
                remedy=described["description"],
            )


def check_body(path: str, method: str, text: bytes) -> Any:
    """The JSON value of a request's body, None where none is expected; raises BadRequest."""
    described = openapi()["paths"][path][method].get("requestBody")
    if described is None:
        if text:
            raise BadRequest("This request takes no body.", remedy=_NEXT)
        return None
    if len(text) > MAXIMUM:
        raise BadRequest(f"The request's body is larger than {MAXIMUM} bytes.", remedy=_NEXT)
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"The request's body is not JSON: {_shortened(str(error))}."
        raise BadRequest(message, remedy=_NEXT) from error
    problem = _problem(described["content"]["application/json"]["schema"], body)
    if problem is not None:
        where = "/".join(map(str, problem.absolute_path)) or "body"
        raise BadRequest(
            f"The request's {where} is not valid: {_shortened(problem.message)}.",
            remedy=cast(Mapping[str, str], problem.schema).get("description", _NEXT),
        )
    return body


def _problem(schema: Mapping[str, Any], value: Any) -> ValidationError | None:
    rooted = {**schema, "components": openapi()["components"]}
    return next(iter(_Validator(rooted).iter_errors(value)), None)


def _matches(_: Any, wanted: str, value: Any, schema: Any) -> Iterator[ValidationError]:
    # ECMA 262's regular expressions: `$` is the very end, `\w` is ASCII. Python's are neither.
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", wanted), value, re.ASCII):
        yield ValidationError(f"{value!r} does not match {wanted!r}")


_Validator: Any = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {"pattern": _matches}
)


def _shortened(message: str) -> str:
    half = _SHOWN // 2
    return message if len(message) <= _SHOWN else f"{message[:half]} … {message[-half:]}"
