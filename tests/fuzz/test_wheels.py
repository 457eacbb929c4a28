"""Mutated wheels, in bytes and in structure: refused, or what zipfile reads. `make fuzz` goes on
from here for as long as one likes."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.fuzz.oracle import check
from tests.install.hostile import CODE, DATA, FILES, INFO, NAME, VERSION, changed, whole, wide_end
from tests.install.wheels import Entry, members, pack

BASES = [
    whole(),
    whole({"zs_bad/é.txt": b"1", f"{DATA}/scripts/zs": b"#!python\n", f"{DATA}/data/x": b"x"}),
    changed(CODE, described=True),
    changed(CODE, wide=True),
    wide_end(whole(entry_points="[console_scripts]\nzs = zs_bad:main\n")),
]
NUMBERS = st.sampled_from([0, 1, 2, 7, 30, 255, 256, 0xFFFF, 0xFFFFFFFE, 0xFFFFFFFF])
STEPS = st.sampled_from([1 << 20, 997, 61])
common = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def run(data: bytes, step: int) -> bool:
    with tempfile.TemporaryDirectory(prefix="zs-fuzz-") as folder:
        taken = check(data, Path(folder), step=step)
    event("taken" if taken else "refused")
    return taken


def overwritten(data: bytes, at: int, draw: st.DataObject) -> bytes:
    value = struct.pack("<I", draw.draw(NUMBERS))[: draw.draw(st.sampled_from([1, 2, 4]))]
    return data[:at] + value + data[at + len(value) :]


def inserted(data: bytes, at: int, draw: st.DataObject) -> bytes:
    return data[:at] + draw.draw(st.binary(min_size=1, max_size=30)) + data[at:]


def removed(data: bytes, at: int, draw: st.DataObject) -> bytes:
    return data[:at] + data[at + draw.draw(st.integers(1, 60)) :]


def repeated(data: bytes, at: int, draw: st.DataObject) -> bytes:
    size = draw.draw(st.integers(1, 200))
    to = draw.draw(st.integers(0, len(data)))
    return data[:to] + data[at : at + size] + data[to:]


def spliced(data: bytes, at: int, draw: st.DataObject) -> bytes:
    other = draw.draw(st.sampled_from(BASES))
    return data[:at] + other[draw.draw(st.integers(0, len(other))) :]


CHANGES: list[Callable[[bytes, int, st.DataObject], bytes]] = [
    *(overwritten, overwritten, overwritten),
    *(inserted, removed, repeated, spliced),
]


def records(data: bytes) -> list[int]:
    """Where bytes are that a zip reader acts on."""
    starts = [at for at in range(len(data)) if data.startswith(b"PK", at)]
    return [place for at in starts for place in range(at, min(at + 80, len(data)))]


@settings(common, max_examples=900)
@given(st.data())
def test_changed_bytes(data: st.DataObject) -> None:
    body = data.draw(st.sampled_from(BASES))
    for _ in range(data.draw(st.integers(1, 3))):
        change = data.draw(st.sampled_from(CHANGES))
        spots = records(body) or [0]
        body = change(body, data.draw(st.sampled_from(spots)), data)
    run(body, data.draw(STEPS))


NAMES = st.one_of(
    st.sampled_from(
        [
            *(
                "zs_bad",
                "zs_bad/",
                "ZS_BAD/a.py",
                "zs_bad/a.py",
                "..",
                "a/..",
                "/",
                "",
                "a\\b",
                "C:x",
            ),
            *(f"{DATA}/{part}/x" for part in ("purelib", "scripts", "data", "headers", "evil")),
            *(f"{DATA}/purelib/zs_bad/x", f"{DATA}/data/bin/x", f"{INFO}/INSTALLER", f"{INFO}/x"),
            *("zs.bad-1.0.dist-info/METADATA", f"{INFO}/RECORD", f"{INFO}/RECORD.jws"),
        ]
    ),
    st.text("aA./\\:é\u0301\0\n ", max_size=8),
)
EXTRAS = st.one_of(
    st.binary(max_size=24),
    st.builds(
        lambda kind, body: struct.pack("<2H", kind, len(body)) + body,
        st.sampled_from([1, 0x7075, 0xCAFE]),
        st.one_of(st.binary(max_size=24), st.builds(struct.pack, st.just("<2Q"), NUMBERS, NUMBERS)),
    ),
)
FIELDS = {
    "method": st.sampled_from([0, 8, 12, 93]),
    "mode": st.sampled_from([0, 0o100644, 0o100755, 0o040755, 0o120777, 0o104755]),
    "flags": st.sampled_from([0, 1, 6, 8, 0x800, 0x808, 0x2000]),
    "crc": NUMBERS,
    "size": NUMBERS,
    "packed": NUMBERS,
    "described": st.booleans(),
    "wide": st.booleans(),
    "extra": EXTRAS,
    "host": st.sampled_from([0, 3, 255]),
    "gap": st.binary(max_size=20),
}
some = st.lists(st.sampled_from(sorted(FIELDS)), max_size=2, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names})
)


@settings(common, max_examples=900)
@given(st.data())
def test_changed_members(data: st.DataObject) -> None:
    more = data.draw(st.dictionaries(NAMES, st.binary(max_size=40), max_size=2))
    entries = members(NAME, VERSION, {**FILES, **more})
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(entries) - 1))
        local = {name: value for name, value in data.draw(some).items() if name != "gap"}
        entries[at] = replace(entries[at], local=local, **data.draw(some))
    if data.draw(st.booleans()):
        entries = data.draw(st.permutations(entries))
    run(pack(entries), data.draw(STEPS))


LINES = st.text("aZ09.-_=:;,[]{}()<>~!\"'#%\\/ \t\r\n\0\x1b\u2028é", max_size=60)


@settings(common, max_examples=600)
@given(st.data())
def test_changed_texts(data: st.DataObject) -> None:
    files = {f"{INFO}/entry_points.txt": b"[console_scripts]\nzs = zs_bad:main\n"}
    entries: list[Entry] = members(NAME, VERSION, {**FILES, **files})
    at = data.draw(st.integers(2, len(entries) - 1))
    text = entries[at].content
    where = data.draw(st.integers(0, len(text)))
    added = data.draw(st.one_of(LINES.map(str.encode), st.binary(max_size=20)))
    body = text[:where] + added + text[where + data.draw(st.integers(0, 20)) :]
    entries[at] = replace(entries[at], content=body)
    run(pack(entries), 1 << 20)


def test_the_bases_are_taken(tmp_path: Path) -> None:
    assert all(check(body, tmp_path / str(at)) for at, body in enumerate(BASES))
