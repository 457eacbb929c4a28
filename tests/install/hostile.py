"""What hostile wheels are made of: `zs-bad` 1.0, whole and recorded but for one thing."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tests.install.wheels import Entry, Wheel, finish, members, noise, pack

NAME, VERSION = "zs-bad", "1.0"
INFO, DATA = "zs_bad-1.0.dist-info", "zs_bad-1.0.data"
CODE = "zs_bad/__init__.py"
FILES = {CODE: b"NAME = 'zs-bad'\n" * 30, "zs_bad/data.bin": noise(900)}


@dataclass(frozen=True)
class Case:
    """A file, and why it is refused; an empty reason is a file that must be taken."""

    data: bytes
    reason: str = ""
    filename: str | None = None

    @property
    def wheel(self) -> Wheel:
        wheel = finish(NAME, VERSION, self.data)
        return wheel if self.filename is None else replace(wheel, filename=self.filename)


def whole(more: Mapping[str, bytes] | None = None, **options: object) -> bytes:
    """A wheel with these files besides, all of them recorded."""
    return pack(members(NAME, VERSION, {**FILES, **(more or {})}, **options))  # type: ignore[arg-type]


def changed(name: str, **fields: object) -> bytes:
    """The plain wheel with one member's record changed."""
    return pack(
        replace(each, **fields) if each.name == name else each  # type: ignore[arg-type]
        for each in members(NAME, VERSION, FILES)
    )


def with_record(record: str) -> bytes:
    return whole(record=record.encode())


def rows(*more: str, without: str = "") -> str:
    """The plain wheel's RECORD with lines added, or one file's line left out."""
    text = members(NAME, VERSION, FILES)[-1].content.decode()
    kept = [line for line in text.splitlines() if not without or not line.startswith(without)]
    return "\n".join([*kept, *more, ""])


def points(text: str) -> bytes:
    return whole(entry_points=text)


def script(name: str, call: str = "zs_bad:main") -> bytes:
    return points(f"[console_scripts]\n{name} = {call}\n")


def metadata(text: str) -> bytes:
    return whole(metadata=f"Metadata-Version: 2.1\n{text}")


def wheel_file(text: str) -> bytes:
    return whole(wheel=text)


def patched(data: bytes, signature: bytes, at: int, form: str, *values: int) -> bytes:
    """Other values in the last record of this signature."""
    body = bytearray(data)
    struct.pack_into(form, body, body.rindex(signature) + at, *values)
    return bytes(body)


def overlapping(count: int) -> bytes:
    """Fifield's bomb: every member's record holds all that follow, the last one the kernel.

    Here each is stored, so that the quoted headers are its content.
    """
    kernel = Entry("zs_bad/0", bytes(1 << 20))
    records = [pack([kernel])[: pack([kernel]).index(b"PK\1\2")]]
    for number in range(1, count):
        tail = b"".join(reversed(records))
        entry = Entry(f"zs_bad/{number}", tail, method=0)
        head = pack([entry])
        records.append(head[: head.index(tail)])
    body = b"".join(reversed(records))
    directory, offset = b"", 0
    for number, record in reversed(list(enumerate(records))):
        tail = body[offset + len(record) :]
        entry = kernel if number == 0 else Entry(f"zs_bad/{number}", tail, method=0)
        one = pack([entry])
        central = bytearray(one[one.rindex(b"PK\1\2") : one.rindex(b"PK\5\6")])
        struct.pack_into("<I", central, 42, offset)
        directory += central
        offset += len(record)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + end


def wide_end(data: bytes, *, count: int | None = None, start: int | None = None) -> bytes:
    """The same file with a zip64 end record, which may say another count or start."""
    at = len(data) - 22
    _, _, _, _, entries, size, offset, _ = struct.unpack_from("<4s4H2IH", data, at)
    entries = entries if count is None else count
    offset = offset if start is None else start
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, size, offset)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at, 1)
    short = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:at] + record + locator + short


def shuffled(data: bytes) -> bytes:
    """The same members, their directory in the opposite order."""
    start = struct.unpack_from("<I", data, len(data) - 6)[0]
    records, at = [], start
    while data[at : at + 4] == b"PK\1\2":
        lengths = struct.unpack_from("<3H", data, at + 28)
        records.append(data[at : at + 46 + sum(lengths)])
        at += 46 + sum(lengths)
    return data[:start] + b"".join(reversed(records)) + data[at:]


def two_ends() -> bytes:
    """A second, shorter end record behind the first: who reads from the end finds no member."""
    data = whole()
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, 0, len(data), 0)
    return data + end


def hidden_end() -> bytes:
    """An end record with another one in its comment."""
    data = whole()
    decoy = data[-22:]
    return data[:-2] + struct.pack("<H", len(decoy)) + decoy


def unicode_path(name: bytes) -> bytes:
    return struct.pack("<2HBI", 0x7075, 5 + len(name), 1, 0) + name


def zip64_sizes(*values: int) -> bytes:
    return struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values)
