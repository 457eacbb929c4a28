"""Accept and reject as safetensors does, class by class and at random."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from tests.load.files import describe, file_bytes
from zerostart_jupyter.load import header
from zerostart_jupyter.load.dtypes import DTYPES

DATA = b"abcd"
PLAIN = describe("F32", [1], 0, 4)


def one(data: bytes = DATA, **changed: Any) -> bytes:
    return file_bytes({"a": {**PLAIN, **changed}}, data)


def raw(text: bytes | str, data: bytes = DATA) -> bytes:
    return file_bytes(text if isinstance(text, bytes) else text.encode(), data)


def two(first: tuple[int, int], second: tuple[int, int], data: bytes) -> bytes:
    tensors = {
        name: describe("U8", [stop - start], start, stop)
        for name, (start, stop) in (("a", first), ("b", second))
    }
    return file_bytes(tensors, data)


def nested(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels - 1):
        found = [found]
    return found


_INFO = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'

CORPUS = {
    # The file as a whole
    "a plain tensor": one(),
    "no tensors": file_bytes({}),
    "an empty file": b"",
    "seven bytes": b"1234567",
    "a header cut short": one()[:20],
    "a header longer than the file": file_bytes({}, length=1000),
    "a header over 100 MB": struct.pack("<Q", 100_000_001) + b"{}",
    "a header of 2^63 bytes": struct.pack("<Q", 1 << 63) + b"{}",
    "data cut short": one(b"abc"),
    "bytes after the last tensor": one(b"abcde"),
    # The text of the header
    "spaces before the header": raw(" \n" + json.dumps({"a": PLAIN})),
    "spaces after the header": raw(json.dumps({"a": PLAIN}) + "  \t\r\n"),
    "zero bytes after the header": raw(json.dumps({"a": PLAIN}).encode() + b"\0"),
    "a byte order mark": raw(b"\xef\xbb\xbf" + json.dumps({"a": PLAIN}).encode()),
    "a form feed": raw(b"\x0c{}", b""),
    "a list for a header": raw("[]", b""),
    "null for a header": raw("null", b""),
    "no JSON": raw("hello", b""),
    "a comma too many": raw('{"a":' + _INFO + ",}"),
    "bytes that are not UTF-8": raw(b'{"\xff":' + _INFO.encode() + b"}"),
    "half a surrogate pair": raw('{"\\ud800":' + _INFO + "}"),
    "a whole surrogate pair": raw('{"\\ud83d\\ude00":' + _INFO + "}"),
    "a control character in a name": raw('{"a\nb":' + _INFO + "}"),
    "an escaped NUL in a name": raw('{"a\\u0000":' + _INFO + "}"),
    "an empty name": raw('{"":' + _INFO + "}"),
    "a tensor twice": raw('{"a":' + _INFO + ',"a":' + _INFO + "}"),
    "a tensor twice, first as null": raw('{"a":null,"a":' + _INFO + "}"),
    "a tensor twice, first of no type": raw(
        '{"a":{"dtype":"X","shape":[1],"data_offsets":[0,4]},"a":' + _INFO + "}"
    ),
    "a tensor twice, first elsewhere": raw(
        '{"a":{"dtype":"F32","shape":[9],"data_offsets":[2,4]},"a":' + _INFO + "}"
    ),
    "a field twice": raw('{"a":{"dtype":"F32",' + _INFO[1:] + "}"),
    "an extra field": one(x=1),
    "an extra field twice": raw('{"a":{"x":1,"x":2,' + _INFO[1:] + "}"),
    "an extra field that is NaN": raw('{"a":{"x":NaN,' + _INFO[1:] + "}"),
    "an extra field beyond a double": raw('{"a":{"x":1e999,' + _INFO[1:] + "}"),
    "an extra field with half a pair": raw('{"a":{"x":"\\udc00",' + _INFO[1:] + "}"),
    "an extra field beyond a double, without an exponent": raw(
        '{"a":{"x":1' + "0" * 309 + "," + _INFO[1:] + "}"
    ),
    "an extra field just beyond a double, to serde": raw(
        '{"a":{"x":17976931348623157' + "0" * 292 + "," + _INFO[1:] + "}"
    ),
    "an extra field that is a double, but not to serde": raw(
        '{"a":{"x":1.7976931348623158e308,' + _INFO[1:] + "}"
    ),
    "an extra field of 309 digits": raw('{"a":{"x":-1' + "0" * 308 + "," + _INFO[1:] + "}"),
    "an extra field beyond a double that comes again": raw(
        '{"a":{"x":[1' + "0" * 309 + '],"x":2,' + _INFO[1:] + "}"
    ),
    "an extra field of the last depth": one(x=nested(125)),
    "an extra field that is too deep": one(x=nested(126)),
    "an extra field of objects that is too deep": raw(
        '{"a":{"x":' + '{"y":' * 126 + "1" + "}" * 126 + "," + _INFO[1:] + "}"
    ),
    "an extra field far too deep": raw(
        '{"a":{"x":' + "[" * 100_000 + "]" * 100_000 + "," + _INFO[1:] + "}"
    ),
    "a field missing": file_bytes({"a": {"dtype": "F32", "shape": [1]}}, DATA),
    "a tensor that is null": raw('{"a":null}', b""),
    "a tensor that is a string": raw('{"a":"F32"}', b""),
    "a tensor that is a list": raw('{"a":["F32",[1],[0,4]]}'),
    "a tensor that is a short list": raw('{"a":["F32",[1]]}'),
    # Metadata
    "metadata": file_bytes({"__metadata__": {"format": "pt"}, "a": PLAIN}, DATA),
    "metadata that is null": file_bytes({"__metadata__": None, "a": PLAIN}, DATA),
    "metadata with a number": file_bytes({"__metadata__": {"a": 1}}),
    "metadata with an object": file_bytes({"__metadata__": {"a": {}}}),
    "metadata that is a list": file_bytes({"__metadata__": []}),
    "metadata twice": raw('{"__metadata__":{},"__metadata__":{}}', b""),
    "a key of the metadata twice": raw('{"__metadata__":{"a":"1","a":"2"}}', b""),
    # Types
    "an unknown dtype": one(dtype="I128"),
    "a dtype in small letters": one(dtype="f32"),
    "a dtype that is a number": one(dtype=3),
    "a dtype that is a map": one(dtype={"F32": None}),
    "a dtype that is a full map": one(dtype={"F32": 1}),
    "F4, even": file_bytes({"a": describe("F4", [2, 4], 0, 4)}, DATA),
    "F4, odd": file_bytes({"a": describe("F4", [3], 0, 2)}, b"ab"),
    "F4, odd and short": file_bytes({"a": describe("F4", [3], 0, 1)}, b"a"),
    "F4, no dimension": file_bytes({"a": describe("F4", [], 0, 1)}, b"a"),
    "F4, empty": file_bytes({"a": describe("F4", [0], 0, 0)}),
    "F6, whole bytes": file_bytes({"a": describe("F6_E2M3", [4], 0, 3)}, b"abc"),
    "F6, part of a byte": file_bytes({"a": describe("F6_E2M3", [3], 0, 3)}, b"abc"),
    # Shapes
    "no dimension": one(shape=[]),
    "no element": file_bytes({"a": describe("F32", [0, 3], 0, 0)}),
    "a size that does not fit": one(shape=[2]),
    "a shape that is a float": one(shape=[1.0]),
    "a shape that is true": one(shape=[True]),
    "a shape that is a string": one(shape="1"),
    "a shape of strings": one(shape=["1"]),
    "a negative shape": one(shape=[-1]),
    "minus zero": raw('{"a":{"dtype":"F32","shape":[1],"data_offsets":[-0,4]}}'),
    "minus zero in a name": raw('{"a-0":' + _INFO + "}"),
    "a leading zero": raw('{"a":{"dtype":"F32","shape":[01],"data_offsets":[0,4]}}'),
    "elements overflow": one(shape=[1 << 40, 1 << 40]),
    "elements overflow before a zero": file_bytes(
        {"a": describe("F32", [1 << 40, 1 << 40, 0], 0, 0)}
    ),
    "elements after a zero": file_bytes({"a": describe("F32", [0, 1 << 40, 1 << 40], 0, 0)}),
    "bits overflow": file_bytes({"a": describe("F32", [1 << 60], 0, 0)}),
    "an extent of 64 bits": file_bytes({"a": describe("F32", [(1 << 64) - 1, 0], 0, 0)}),
    "an extent of more": file_bytes({"a": describe("F32", [1 << 64, 0], 0, 0)}),
    "an extent of 5000 digits": raw(
        '{"a":{"dtype":"F32","shape":[' + "9" * 5000 + ',0],"data_offsets":[0,0]}}', b""
    ),
    # Offsets
    "a hole": two((0, 2), (3, 4), b"abcd"),
    "a hole at the front": two((1, 2), (2, 4), b"abcd"),
    "an overlap": two((0, 3), (2, 4), b"abcd"),
    "the same bytes": two((0, 4), (0, 4), b"abcd"),
    "names in another order than bytes": two((2, 4), (0, 2), b"abcd"),
    "an end before its start": one(data_offsets=[4, 0]),
    "negative offsets": one(data_offsets=[-4, 0]),
    "one offset": one(data_offsets=[0]),
    "three offsets": one(data_offsets=[0, 4, 4]),
    "an empty tensor between": file_bytes(
        {
            "a": describe("U8", [2], 0, 2),
            "b": describe("U8", [0], 2, 2),
            "c": describe("U8", [2], 2, 4),
        },
        DATA,
    ),
    "an empty tensor beyond the end": two((0, 4), (8, 8), b"abcd"),
    "a tensor of unaligned bytes": file_bytes(
        {"a": describe("U8", [1], 0, 1), "b": describe("F32", [1], 1, 5)}, b"xabcd"
    ),
}
for _name, _dtype in DTYPES.items():
    _count = 8 // math.gcd(8, _dtype.bits)
    _bytes = _count * _dtype.bits // 8
    CORPUS[f"dtype {_name}"] = file_bytes(
        {"a": describe(_name, [_count], 0, _bytes)}, b"\1" * _bytes
    )


def read(blob: bytes) -> tuple[int, header.Header]:
    begin = header.PREFIX + header.length(blob[: header.PREFIX], len(blob))
    return begin, header.parse(blob[header.PREFIX : begin], len(blob) - begin)


def ours(blob: bytes) -> list[tuple[str, str, tuple[int, ...], bytes]] | None:
    """What this package sees in a file, or None if it refuses it."""
    try:
        begin, found = read(blob)
    except header.Malformed:
        return None
    return sorted(
        (info.name, info.dtype, info.shape, blob[begin + info.start : begin + info.stop])
        for info in found.tensors
    )


def theirs(blob: bytes) -> list[tuple[str, str, tuple[int, ...], bytes]] | None:
    try:
        found = deserialize(blob)
    except SafetensorError:
        return None
    return sorted(
        (name, info["dtype"], tuple(info["shape"]), bytes(info["data"])) for name, info in found
    )


@pytest.mark.parametrize("case", CORPUS)
def test_the_corpus_is_judged_as_safetensors_does(case: str) -> None:
    assert ours(CORPUS[case]) == theirs(CORPUS[case])


def test_the_corpus_has_both_sorts() -> None:
    accepted = [case for case, blob in CORPUS.items() if theirs(blob) is not None]
    assert len(accepted) > 30
    assert len(CORPUS) - len(accepted) > 40


_big = st.sampled_from([1, -1, 9, 17976931348623157, (1 << 64) - 1]).flatmap(
    lambda start: st.integers(280, 312).map(lambda zeros: start * 10**zeros)
)
_numbers = st.integers() | _big | st.floats(allow_nan=True)


def _within(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return inner | st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner)


_leaves = st.none() | st.booleans() | _numbers | st.text(max_size=3)
_extra = _within(_within(_leaves)) | st.integers(120, 130).map(nested)
_offsets = st.integers(-1, 12) | st.sampled_from([1 << 63, 1 << 64])
_infos = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["U8", "F16", "F32", "F4", "F6_E3M2", "X"]),
        "shape": st.lists(st.integers(0, 6) | st.sampled_from([1 << 40, -1, 1.5]), max_size=3),
        "data_offsets": st.lists(_offsets, min_size=2, max_size=2),
    },
    optional={"extra": _extra},
)
_keys = st.sampled_from(["a", "b", "__metadata__"]) | st.text(max_size=3)
_headers = st.dictionaries(_keys, _infos | st.dictionaries(st.text(max_size=2), st.text()))


@st.composite
def nearly_valid(draw: st.DrawFn) -> bytes:
    """Tensors laid end to end, as they should be, but for one thing perhaps."""
    tensors: dict[str, Any] = {}
    at = 0
    extra = draw(st.just({}) | st.fixed_dictionaries({"extra": _extra}))
    for name in draw(st.lists(st.text(max_size=3), unique=True, max_size=4)):
        if name == "__metadata__":
            continue
        dtype = draw(st.sampled_from(list(DTYPES)))
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        size = math.prod(shape) * DTYPES[dtype].bits // 8
        tensors[name] = {**describe(dtype, shape, at, at + size), **extra}
        at += size
    text = bytearray(json.dumps(tensors, ensure_ascii=draw(st.booleans())).encode("utf-8"))
    if draw(st.booleans()):
        text[draw(st.integers(0, len(text) - 1))] = draw(st.integers(0, 255))
    data = bytes(max(0, at + draw(st.sampled_from([0, 0, 0, -1, 1]))))
    return file_bytes(bytes(text), data)


@settings(max_examples=400, deadline=None)
@given(st.builds(file_bytes, _headers, st.binary(max_size=12)) | nearly_valid())
def test_any_header_is_judged_as_safetensors_does(blob: bytes) -> None:
    assert ours(blob) == theirs(blob)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_judged_as_safetensors_does(blob: bytes) -> None:
    assert ours(blob) == theirs(blob)


def test_the_length_is_believed_only_where_so_many_bytes_are() -> None:
    # The claim is refused before a byte of it is read or allocated.
    for claim in (1000, header.LIMIT, header.LIMIT + 1, (1 << 64) - 1):
        with pytest.raises(header.Malformed, match=f"claims {claim} bytes"):
            header.length(struct.pack("<Q", claim), 100)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("an empty file", "0 bytes, fewer than the 8"),
        ("data cut short", "is truncated: 4 bytes of tensors are declared and 3 are there"),
        ("bytes after the last tensor", "bytes after its last tensor: 4 .* declared and 5"),
        ("an unknown dtype", "tensor 'a' has the unknown dtype 'I128'"),
        ("a hole", "tensor 'b' begins at 3, which leaves a hole before it"),
        ("an overlap", "tensor 'b' begins at 2, which leaves bytes of another tensor"),
        ("a size that does not fit", r"tensor 'a' has 4 bytes, but F32 \[2\] needs 8"),
        ("elements overflow", "a shape that overflows"),
        ("metadata with a number", "__metadata__ is not an object of strings"),
        ("F4, odd and short", "ends inside a byte"),
        ("negative offsets", r"has the offsets \[-4, 0\]"),
        ("no JSON", "its header is not JSON"),
    ],
)
def test_a_refusal_says_why(case: str, reason: str) -> None:
    with pytest.raises(header.Malformed, match=reason):
        read(CORPUS[case])


def test_every_type_is_one_that_safetensors_names(tmp_path: Path) -> None:
    with pytest.raises(SafetensorError) as refused:
        deserialize(one(dtype="X"))
    named = str(refused.value).partition("expected one of ")[2].partition(" at line")[0]
    assert {word.strip("`") for word in named.split(", ")} == set(DTYPES)
