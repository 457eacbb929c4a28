"""Wheels made by the tests: good ones, and ones that break one rule each."""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

FILE, LINK = 0o100644, 0o120777


@dataclass(frozen=True)
class Entry:
    """One member as it will stand in the zip; None means what is true."""

    name: str
    content: bytes = b""
    method: int = 8
    mode: int = FILE
    raw: bytes | None = None
    flags: int | None = None
    crc: int | None = None
    size: int | None = None
    packed: int | None = None
    data: bytes | None = None
    described: bool = False
    local: Mapping[str, object] = field(default_factory=dict)
    extra: bytes = b""
    wide: bool = False
    host: int = 3  # of the system that packed it: Unix
    gap: bytes = b""  # between this member and the next


def pack(entries: Iterable[Entry], *, prefix: bytes = b"", suffix: bytes = b"") -> bytes:
    """A zip file with exactly these members."""
    body, directory, count = bytearray(prefix), bytearray(), 0
    for entry in entries:
        offset = len(body)
        body += _record(entry)
        body += entry.gap
        directory += _central(entry, offset)
        count += 1
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    return bytes(body + directory + end + suffix)


def _truth(entry: Entry) -> tuple[bytes, bytes, int, int, int, int]:
    data = entry.data
    if data is None:
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        data = entry.content
        if entry.method == 8:
            data = packer.compress(entry.content) + packer.flush()
    raw = entry.raw if entry.raw is not None else entry.name.encode()
    flags = entry.flags
    if flags is None:
        flags = (0 if raw.isascii() else 0x800) | (8 if entry.described else 0)
    crc = entry.crc if entry.crc is not None else zlib.crc32(entry.content)
    size = entry.size if entry.size is not None else len(entry.content)
    packed = entry.packed if entry.packed is not None else len(data)
    return data, raw, flags, crc, size, packed


def _record(entry: Entry) -> bytes:
    data = _truth(entry)[0]
    entry = replace(entry, **dict(entry.local))  # type: ignore[arg-type]
    changed, raw, flags, crc, size, packed = _truth(entry)
    if "data" in entry.local:
        data = changed
    stated = (0, 0, 0) if entry.described else (crc, packed, size)
    extra = entry.extra
    if entry.wide:
        extra += struct.pack("<2H2Q", 1, 16, size, packed)
        stated = (crc, 0xFFFFFFFF, 0xFFFFFFFF)
    head = struct.pack(
        "<4s5H3I2H", b"PK\3\4", 20, flags, entry.method, 0, 33, *stated, len(raw), len(extra)
    )
    tail = struct.pack("<4s3I", b"PK\7\x08", crc, packed, size) if entry.described else b""
    return head + raw + extra + data + tail


def _central(entry: Entry, offset: int) -> bytes:
    _, raw, flags, crc, size, packed = _truth(entry)
    extra = entry.extra
    stated = (crc, packed, size)
    if entry.wide:
        extra += struct.pack("<2H2Q", 1, 16, size, packed)
        stated = (crc, 0xFFFFFFFF, 0xFFFFFFFF)
    head = struct.pack(
        "<4s6H3I5H2I",
        b"PK\1\2",
        (entry.host << 8) | 20,
        20,
        flags,
        entry.method,
        0,
        33,
        *stated,
        len(raw),
        len(extra),
        0,
        0,
        0,
        entry.mode << 16,
        offset,
    )
    return head + raw + extra


@dataclass(frozen=True)
class Wheel:
    """A finished wheel."""

    name: str
    version: str
    filename: str
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def members(
    name: str,
    version: str,
    files: Mapping[str, bytes],
    *,
    requires: Iterable[str] = (),
    entry_points: str = "",
    executable: Iterable[str] = (),
    metadata: str = "",
    wheel: str = "",
    record: bytes | None = None,
) -> list[Entry]:
    """The members of a wheel that keeps every rule, the dist-info last."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    body = dict(files)
    body[f"{info}/METADATA"] = (
        metadata
        or f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {each}\n" for each in requires)
    ).encode()
    body[f"{info}/WHEEL"] = (
        wheel or "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    ).encode()
    if entry_points:
        body[f"{info}/entry_points.txt"] = entry_points.encode()
    if record is None:
        rows = [f"{path},{_hash(content)},{len(content)}\n" for path, content in body.items()]
        record = "".join([*rows, f"{info}/RECORD,,\n"]).encode()
    marked = set(executable)
    entries = [
        Entry(path, content, mode=0o100755 if path in marked else FILE)
        for path, content in body.items()
    ]
    return [*entries, Entry(f"{info}/RECORD", record)]


def make(
    name: str, version: str = "1.0", files: Mapping[str, bytes] | None = None, **options: object
) -> Wheel:
    """A wheel that keeps every rule."""
    module = name.replace("-", "_")
    body = files if files is not None else {f"{module}.py": f"NAME = {name!r}\n".encode()}
    return finish(name, version, pack(members(name, version, body, **options)))  # type: ignore[arg-type]


def finish(name: str, version: str, data: bytes) -> Wheel:
    """These bytes under a wheel's name."""
    return Wheel(name, version, f"{name.replace('-', '_')}-{version}-py3-none-any.whl", data)


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, the same every time."""
    block = hashlib.sha512(str(seed).encode()).digest()
    parts = []
    for at in range(0, size, 64):
        parts.append(hashlib.sha512(block + at.to_bytes(8, "little")).digest())
    return b"".join(parts)[:size]


def _hash(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"
