"""A zip file's central directory, read strictly: every member is named, bounded and harmless.

Zip readers disagree about prepended bytes, gaps, duplicates and conflicting headers, and wheels
have been built to exploit it. Here the records must tile the file from its first byte to its
central directory, and the directory must end where the end record begins. 967 real wheels out of
967 do. Format: APPNOTE.TXT 6.3.10, the section is named where a rule needs it.
"""

from __future__ import annotations

import re
import stat
import struct
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from zerostart_jupyter.core.errors import WheelRejected

STORED, DEFLATED = 0, 8
TAIL = 256 << 10  # bytes of a wheel's end that hold its directory and dist-info nine times in ten

NEWEST = 63  # the version of the format, times ten

_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_CENTRAL = struct.Struct("<4s6H3I5H2I")

_DESCRIPTOR_FLAG = 0x8
_UTF8_FLAG = 0x800
_KNOWN_FLAGS = 0x6 | _DESCRIPTOR_FLAG | _UTF8_FLAG  # two bits of compression level besides
# an empty part, `.` or `..`; a backslash; a drive
_OUTSIDE = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|\\|^[^/]*:")
_BREAKS = ("Cc", "Cs", "Zl", "Zp")  # control characters and all that ends a line
_FULL = 0xFFFFFFFF
_NOTHING_DEFLATED = 2  # bytes
_ZIP64, _UNICODE_PATH = 1, 0x7075
_BOMB_BYTES = 100 << 20
_BOMB_RATIO = 200
_SHOWN = 300  # characters of a reason
MEMBERS = 500_000
_DIRECTORY_BYTES = 128 << 20
_NAME_BYTES, _DEPTH = 1024, 100
_SLACK = 0xFFFF + 24  # bytes of a record beside name and data: an extra field, a descriptor
_LOOSE = 64 << 10  # bytes that deflating may add, besides one in a hundred


def reject(wheel: str, reason: str) -> NoReturn:
    """Raise WheelRejected naming the wheel and the reason, on one line that is safe to print."""
    shown = reason if len(reason) <= _SHOWN else f"{reason[:_SHOWN]}…"
    if not shown.isprintable():
        shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in shown)
    raise WheelRejected(
        f"{wheel} was refused: {shown}.",
        remedy="Nothing of it was installed; report it to the index it came from.",
    )


@dataclass(frozen=True, slots=True)
class End:
    """Where the central directory lies: bytes `start` to `stop`, with `count` entries."""

    start: int
    stop: int
    count: int


@dataclass(slots=True)
class Member:
    """One member; its record (header, data, descriptor) is bytes `offset` to `end` of the file.

    `packed` and `size` are bytes before and after inflating; `mode` is the Unix mode or 0. Not
    to be changed once it is handed out; there are tens of thousands, and frozen ones cost more.
    """

    name: str
    raw: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    mode: int
    offset: int
    end: int = 0

    @property
    def directory(self) -> bool:
        """True for an entry that only names a directory."""
        return self.name.endswith("/")

    @property
    def executable(self) -> bool:
        """True if any execute bit is set."""
        return bool(self.mode & 0o111)

    @property
    def described(self) -> bool:
        """True if sizes follow the data (general purpose bit 3)."""
        return bool(self.flags & _DESCRIPTOR_FLAG)


def find_end(tail: bytes | memoryview, total: int, wheel: str) -> End:
    """The central directory's place, from the last bytes of a file of `total` bytes."""
    if total < _END.size or len(tail) < min(total, _END.size + _LOCATOR.size + _END64.size):
        reject(wheel, "it is too short to be a zip file")
    at = len(tail) - _END.size
    signature, disk, first_disk, here, count, size, start, comment = _END.unpack_from(tail, at)
    if signature != b"PK\5\6" or comment:
        reject(wheel, "it does not end with a zip end record: cut short, or junk after it")
    stop = total - _END.size
    locator_at = at - _LOCATOR.size
    if locator_at >= 0 and bytes(tail[locator_at : locator_at + 4]) == b"PK\6\7":
        return _end64(tail, total, (disk, first_disk, here, count, size, start), wheel)
    if 0xFFFF in (here, count) or 0xFFFFFFFF in (size, start):
        reject(wheel, "its zip64 end record is missing")
    if disk or first_disk or here != count:
        reject(wheel, "it is one part of a split zip file")
    return _end(start, size, stop, count, wheel)


def _end64(tail: bytes | memoryview, total: int, short: tuple[int, ...], wheel: str) -> End:
    locator_at = len(tail) - _END.size - _LOCATOR.size
    _, disk, offset, disks = _LOCATOR.unpack_from(tail, locator_at)
    at = locator_at - _END64.size
    stop = total - _END.size - _LOCATOR.size - _END64.size
    if disk or disks != 1 or offset != stop or at < 0:
        reject(wheel, "its zip64 end record is not where it should be")
    signature, length, _, _, disk, first_disk, here, count, size, start = _END64.unpack_from(
        tail, at
    )
    if signature != b"PK\6\6" or length != _END64.size - 12 or disk or first_disk or here != count:
        reject(wheel, "its zip64 end record is damaged")
    real = (disk, first_disk, here, count, size, start)
    limits = (*(0xFFFF,) * 4, _FULL, _FULL)
    for given, one, limit in zip(short, real, limits, strict=True):
        if given not in (one, limit):
            reject(wheel, "its two end records contradict each other")
    return _end(start, size, stop, count, wheel)


def _end(start: int, size: int, stop: int, count: int, wheel: str) -> End:
    if start + size != stop:
        reject(wheel, "its central directory is not where its end record says")
    if count * _CENTRAL.size > size:
        reject(wheel, "its central directory is shorter than its entries")
    if count > MEMBERS or size > _DIRECTORY_BYTES:
        reject(wheel, f"its central directory is too large: {count} entries, {size} bytes")
    return End(start, stop, count)


def inflated(packed: int, size: int) -> bool:
    """Whether packed bytes would become so many more that somebody means harm."""
    return size > _BOMB_BYTES and size > _BOMB_RATIO * packed


def padded(packed: int, size: int) -> bool:
    """Whether packed bytes are more than deflating leaves of so few, at its worst."""
    return packed > size + size // 100 + _LOOSE


def read_directory(data: bytes | memoryview, end: End, wheel: str) -> list[Member]:
    """All members in the order of their bytes; `data` is the central directory itself.

    Raises WheelRejected for anything that two zip readers might understand differently.
    """
    view = memoryview(data)
    found: list[Member] = []
    at = 0
    for _ in range(end.count):
        member, at = read_entry(view, at, wheel)
        found.append(member)
    if at != len(view):
        reject(wheel, "its central directory holds more than its entries")
    if trouble := clash((member.name, member.name) for member in found):
        reject(wheel, trouble)
    size, packed = sum(each.size for each in found), sum(each.packed for each in found)
    if inflated(packed, size):
        reject(wheel, f"it would inflate {packed} bytes to {size}")
    return _tile(found, end, wheel)


def read_entry(view: memoryview, at: int, wheel: str) -> tuple[Member, int]:
    """The member behind one entry of a directory, its `end` yet unknown, and where the next entry
    begins; WheelRejected if no member may be like that."""
    try:
        fields = _CENTRAL.unpack_from(view, at)
    except struct.error:
        reject(wheel, "its central directory is cut short")
    signature, _, needed, flags, method, _, _, crc, packed, size, name_n, extra_n, comment_n = (
        fields[:13]
    )
    disk, _, attributes, offset = fields[13:]
    name_at = at + _CENTRAL.size
    extra_at = name_at + name_n
    following = extra_at + extra_n + comment_n
    if signature != b"PK\1\2" or following > len(view):
        reject(wheel, "its central directory is damaged")
    raw = bytes(view[name_at:extra_at])
    name = _name(raw, flags, wheel)
    extra = view[extra_at : extra_at + extra_n]
    size, packed, offset = _wide(extra, (size, packed, offset), name, wheel)
    mode = attributes >> 16
    if needed & 0xFF > NEWEST:
        reject(wheel, f"{name!r} needs version {needed & 0xFF} of the zip format")
    if flags & ~_KNOWN_FLAGS:
        what = "is encrypted" if flags & 0x2041 else f"has unknown flags {flags:#x}"
        reject(wheel, f"{name!r} {what}")
    if method not in (STORED, DEFLATED):
        reject(wheel, f"{name!r} is compressed by method {method}, which wheels may not use")
    if disk:
        reject(wheel, f"{name!r} lies on another disk")
    if method == STORED and packed != size:
        reject(wheel, f"{name!r} is stored but has two sizes")
    if padded(packed, size):
        reject(wheel, f"{name!r} says that {size} bytes were deflated to {packed}")
    if inflated(packed, size):
        reject(wheel, f"{name!r} would inflate {packed} bytes to {size}")
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        reject(wheel, f"{name!r} is a symbolic link")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR) > name.endswith("/"):
        reject(wheel, f"{name!r} is not a regular file")
    if name.endswith("/") and (size or crc or packed > _NOTHING_DEFLATED):
        reject(wheel, f"{name!r} is a directory with content")
    return Member(name, raw, flags, method, crc, packed, size, mode, offset), following


def _name(raw: bytes, flags: int, wheel: str) -> str:
    try:
        name = raw.decode("utf-8" if flags & _UTF8_FLAG else "ascii")
    except UnicodeDecodeError:
        reject(wheel, f"{raw!r} is not a name in UTF-8")
    if _OUTSIDE.search(name.removesuffix("/")):
        reject(wheel, f"{name!r} leads outside the wheel")
    if len(raw) > 255 and (len(raw) > _NAME_BYTES or max(map(len, raw.split(b"/"))) > 255):
        reject(wheel, f"{name[:60]!r}… is too long a name")
    if name.count("/") > _DEPTH:
        reject(wheel, f"{name[:60]!r}… is below too many directories")
    if not name.isprintable() and any(unicodedata.category(each) in _BREAKS for each in name):
        reject(wheel, f"{name!r} holds control characters")
    return name


def check_local(extra: bytes, stated: tuple[int, int, int], member: Member, wheel: str) -> bool:
    """True if a local header with these extra fields states the checksum and sizes of `member`.

    `stated` is checksum, packed size, size; zero is no statement where a descriptor follows.
    """
    crc, packed, size = stated
    size, packed = _wide(memoryview(extra), (size, packed), member.name, wheel)
    true = (member.crc, member.packed, member.size)
    if member.described:
        return all(one in (0, other) for one, other in zip((crc, packed, size), true, strict=True))
    return (crc, packed, size) == true


def _wide(extra: memoryview, short: tuple[int, ...], name: str, wheel: str) -> tuple[int, ...]:
    # 4.5.3: the zip64 field holds only those values whose 32-bit place is full, in this order.
    missing = short.count(_FULL)
    if not missing and not extra:
        return short
    wide = memoryview(b"")
    seen: set[int] = set()
    at = 0
    while at < len(extra):
        if at + 4 > len(extra):
            reject(wheel, f"{name!r} has a damaged extra field")
        kind, length = struct.unpack_from("<2H", extra, at)
        body = extra[at + 4 : at + 4 + length]
        if len(body) < length:
            reject(wheel, f"{name!r} has a damaged extra field")
        if kind in seen and kind in (_ZIP64, _UNICODE_PATH):
            reject(wheel, f"{name!r} has an extra field twice")
        seen.add(kind)
        if kind == _ZIP64:
            wide = body
        elif kind == _UNICODE_PATH and bytes(body[5:]) != name.encode():
            reject(wheel, f"{name!r} has a second name")
        at += 4 + length
    # Some writers repeat what the header has room for: the truth said twice is no contradiction.
    repeats = not missing and bytes(wide) == struct.pack(f"<{len(short)}Q", *short)[: len(wide)]
    if len(wide) != 8 * missing and not repeats:
        reject(wheel, f"{name!r} has no zip64 sizes, or other ones besides")
    values = struct.iter_unpack("<Q", wide)
    return tuple(next(values)[0] if each == _FULL else each for each in short)


def folded(name: str) -> str:
    """What a name becomes on a file system that knows no case and one Unicode form."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", name).casefold()


def clash(names: Iterable[tuple[str, str]]) -> str | None:
    """Why these cannot all lie in one folder, or None; each is its place and what to call it."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for place, shown in names:
        key = folded(place.removesuffix("/"))
        if key in files:
            return f"{shown!r} is there " + (
                "twice" if files[key] == shown else f"and {files[key]!r}, as one file"
            )
        folder = place.endswith("/")
        if not folder:
            files[key] = shown
        parent = key if folder else key.rpartition("/")[0]
        while parent and parent not in folders:
            folders[parent] = shown
            parent = parent.rpartition("/")[0]
    for key in folders.keys() & files.keys():
        return f"{files[key]!r} is both a file and a directory, that of {folders[key]!r}"
    return None


def _tile(members: list[Member], end: End, wheel: str) -> list[Member]:
    # Each record must end where the next begins, or bytes could hide between them.
    ordered = sorted(members, key=lambda member: member.offset)
    if not ordered:
        reject(wheel, "it is empty")
    if ordered[0].offset:
        reject(wheel, "there are bytes before its first member")
    stops = [member.offset for member in ordered[1:]] + [end.start]
    for member, stop in zip(ordered, stops, strict=True):
        least = member.offset + 30 + len(member.raw) + member.packed
        if least > stop:
            reject(wheel, f"{member.name!r} overlaps what comes after it")
        if stop - least > _SLACK:
            reject(wheel, f"there are bytes between {member.name!r} and what comes after it")
        member.end = stop
    return ordered
