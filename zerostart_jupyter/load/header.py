"""The header of one safetensors file: bytes in, a checked table out. Pure.

safetensors itself is the oracle: what it accepts is accepted here and the rest refused, on the
same grounds. Its parser is serde_json, whose habits explain the odd rules below.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple, NoReturn

from zerostart_jupyter.load.dtypes import DTYPES

PREFIX = 8  # bytes: the header's length, little endian
LIMIT = 100_000_000  # bytes of header at most

_U64 = (1 << 64) - 1
_METADATA = "__metadata__"
_FIELDS = ("dtype", "shape", "data_offsets")
_EXTENT = attrgetter("start", "stop")
_DEPTH = 127  # objects and lists within each other, the header's own object among them
_NUMBER = re.compile(r"-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?")
_TENS = 308  # the largest power of ten that is a double


class Malformed(ValueError):
    """The header breaks the format; the message says how, without naming the file."""


class TensorInfo(NamedTuple):
    """One tensor; `start` and `stop` are bytes from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Header:
    """Tensors in the order of their bytes, and the free-form strings beside them."""

    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, str]


def length(prefix: bytes, size: int) -> int:
    """Bytes of JSON after the prefix of a file of `size` bytes; raises Malformed.

    Nothing is read or allocated before this said that so many bytes can be there.
    """
    if len(prefix) < PREFIX:
        raise Malformed(f"it has {len(prefix)} bytes, fewer than the {PREFIX} of a header's length")
    count = int.from_bytes(prefix[:PREFIX], "little")
    if count > LIMIT:
        raise Malformed(f"its header claims {count} bytes, more than the {LIMIT} allowed")
    if PREFIX + count > size:
        raise Malformed(f"its header claims {count} bytes, but the file has {size}")
    return count


def parse(text: bytes, data: int) -> Header:
    """The table of a header that is followed by `data` bytes; raises Malformed."""
    body = _json(text)
    if not isinstance(body, dict):
        raise Malformed("its header is not a JSON object")
    if isinstance(body, _Repeating) and _METADATA in body.repeated:
        raise Malformed(f"its header has two {_METADATA}")
    metadata = _metadata(body.get(_METADATA))
    infos = {name: _tensor(name, value) for name, value in _pairs(body) if name != _METADATA}
    tensors = sorted(infos.values(), key=_EXTENT)
    end = 0
    for info in tensors:
        if info.start != end:
            gap = "a hole before it" if info.start > end else "bytes of another tensor"
            raise Malformed(f"tensor {info.name!r} begins at {info.start}, which leaves {gap}")
        if info.stop - info.start != _bytes(info):
            raise Malformed(
                f"tensor {info.name!r} has {info.stop - info.start} bytes, but {info.dtype} "
                f"{list(info.shape)} needs {_bytes(info)}"
            )
        end = info.stop
    if end != data:
        what = "is truncated" if end > data else "has bytes after its last tensor"
        raise Malformed(f"it {what}: {end} bytes of tensors are declared and {data} are there")
    return Header(tuple(tensors), metadata)


class _Repeating(dict[str, Any]):
    """A JSON object in which a key came twice: serde refuses some of those."""

    repeated: frozenset[str]
    pairs: list[tuple[str, Any]]  # all of them: what is not kept must be valid, too


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) == len(pairs):
        return plain
    seen: set[str] = set()
    twice: set[str] = set()
    for key, _ in pairs:
        (twice if key in seen else seen).add(key)
    found = _Repeating(plain)
    found.repeated = frozenset(twice)
    found.pairs = pairs
    return found


def _pairs(body: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    return body.pairs if isinstance(body, _Repeating) else body.items()


def _json(text: bytes) -> Any:
    try:
        decoded = text.decode("utf-8")
        body = json.loads(
            decoded,
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_float=_finite,
            # serde reads -0 as a float. The hook costs a call for each number, so only if need be.
            parse_int=_integer if "-0" in decoded else None,
        )
        if "\\u" in decoded:
            json.dumps(body, ensure_ascii=False).encode("utf-8")  # half a surrogate pair raises
    except (ValueError, RecursionError) as error:
        raise Malformed(f"its header is not JSON: {error}") from error
    return body


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    """What serde_json makes of a number: digits beyond 64 bits are dropped, then it is scaled."""
    matched = _NUMBER.fullmatch(text)
    assert matched is not None, "json has parsed it"
    whole, fraction, power = matched.groups(default="")
    significand, exponent = 0, int(power or 0)
    for at, digit in enumerate(whole):
        if significand * 10 + int(digit) > _U64:
            exponent += len(whole) - at
            break
        significand = significand * 10 + int(digit)
    for digit in fraction:
        if significand * 10 + int(digit) > _U64:
            break
        significand, exponent = significand * 10 + int(digit), exponent - 1
    if exponent < 0 or significand == 0:
        return float(text)
    number = significand * float(f"1e{exponent}") if exponent <= _TENS else math.inf
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is out of range")
    return number


def _judge(value: Any, depth: int) -> None:
    """Raise Malformed for what serde refuses of a field that nobody knows."""
    if type(value) is int and abs(value) > _U64:
        try:
            _finite(str(value))
        except ValueError as error:
            raise Malformed(f"its header is not JSON: {error}") from error
    elif isinstance(value, dict | list):
        if depth > _DEPTH:
            raise Malformed(f"its header nests deeper than {_DEPTH} levels")
        for each in value if isinstance(value, list) else (each for _, each in _pairs(value)):
            _judge(each, depth + 1)


def _integer(text: str) -> int | float:
    return -0.0 if text == "-0" else int(text)


def _metadata(value: Any) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise Malformed("its __metadata__ is not an object of strings")
    return dict(value)


def _tensor(name: str, value: Any) -> TensorInfo:
    if isinstance(value, list) and len(value) == len(_FIELDS):  # serde reads a struct from a list
        value = dict(zip(_FIELDS, value, strict=True))
    if not isinstance(value, dict):
        raise Malformed(f"tensor {name!r} is not described by an object")
    if isinstance(value, _Repeating) and not value.repeated.isdisjoint(_FIELDS):
        raise Malformed(f"tensor {name!r} has a field twice")
    for each in _FIELDS:
        if each not in value:
            raise Malformed(f"tensor {name!r} has no {each}")
    if len(value) > len(_FIELDS):
        _judge(value, 2)
    shape, offsets = value["shape"], value["data_offsets"]
    if not _naturals(shape):
        raise Malformed(f"tensor {name!r} has the shape {_short(shape)}")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[1] < offsets[0]:
        raise Malformed(f"tensor {name!r} has the offsets {_short(offsets)}")
    return TensorInfo(name, _dtype(name, value["dtype"]), tuple(shape), offsets[0], offsets[1])


def _dtype(name: str, value: Any) -> str:
    if isinstance(value, dict) and list(value.values()) == [None]:  # serde: a unit variant as a map
        value = next(iter(value))
    if not isinstance(value, str) or value not in DTYPES:
        raise Malformed(f"tensor {name!r} has the unknown dtype {_short(value)}")
    return value


def _naturals(value: Any) -> bool:
    if not isinstance(value, list):
        return False
    for each in value:  # noqa: SIM110 -- a generator takes twice as long, and there are many
        if type(each) is not int or not 0 <= each <= _U64:
            return False
    return True


def _bytes(info: TensorInfo) -> int:
    count = 1
    for extent in (*info.shape, DTYPES[info.dtype].bits):
        count *= extent
        if count > _U64:
            raise Malformed(f"tensor {info.name!r} has a shape that overflows: {list(info.shape)}")
    if count % 8:
        raise Malformed(f"tensor {info.name!r} ends inside a byte")
    return count // 8


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
