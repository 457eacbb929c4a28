"""The page cache, asked directly: fill it for a mapping, look into it, read past it."""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os

PAGE = mmap.PAGESIZE

_POPULATE_READ = 22  # MADV_POPULATE_READ of madvise(2), Linux 5.14
_AHEAD = 512 << 10  # bytes; of more the kernel takes no more than the device takes at once
_EVEN = bytes(range(0, 256, 2))  # mincore defines the lowest bit of each byte alone
_FAILED = (None, ctypes.c_void_p(-1).value)
_REFUSALS = (errno.EINVAL, errno.EOPNOTSUPP)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_libc.mmap.restype = ctypes.c_void_p
_libc.readahead.argtypes = (ctypes.c_int, ctypes.c_long, ctypes.c_size_t)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def populate(address: int, count: int) -> None:
    """Read `count` bytes of a mapping into memory and map them; the GIL is free meanwhile.

    `address` is a page's. Raises OSError as madvise(2) says: EFAULT where the file has no such
    bytes any more or the disk failed, EINVAL where the kernel is too old.
    """
    while _libc.madvise(address, count, _POPULATE_READ) != 0:
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            raise OSError(code, os.strerror(code))


def bring(descriptor: int, start: int, count: int) -> None:
    """Read these bytes of a file into memory, in one call with the GIL free. `start` is a page's.

    Raises OSError where they cannot be mapped or read.
    """
    address = _libc.mmap(None, count, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, start)
    if address in _FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        populate(address, -(-count // PAGE) * PAGE)
    finally:
        _libc.munmap(address, count)


def cached(descriptor: int, at: int, page: int | None = None) -> bool:
    """Whether the byte at `at` of a file is in memory; `page` is where its page is mapped.

    Where a file system cannot say, mincore(2) does: it says yes of what belongs to others. Without
    a mapping to ask it of, the answer is then yes.
    """
    try:
        return os.preadv(descriptor, [bytearray(1)], at, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    except OSError:
        if page is None:
            return True
        found = ctypes.create_string_buffer(1)
        return _libc.mincore(page, PAGE, found) == 0 and bool(found.raw[0] & 1)


def read_ahead(descriptor: int, start: int, count: int) -> None:
    """Have the kernel begin to read these bytes of a file, however little it reads ahead itself.

    It is only a hint: nothing comes of it where that is not possible. See readahead(2).
    """
    for at in range(start, start + count, _AHEAD):
        _libc.readahead(descriptor, at, min(_AHEAD, start + count - at))


@functools.cache
def can_populate() -> bool:
    """Whether this kernel knows MADV_POPULATE_READ; asked once, with a page of our own."""
    with mmap.mmap(-1, PAGE) as page:
        anchor = ctypes.c_char.from_buffer(page)
        try:
            populate(ctypes.addressof(anchor), PAGE)
        except OSError:
            return False
        finally:
            del anchor  # the mapping cannot be closed while it is looked at
    return True


def resident(descriptor: int) -> float:
    """Share of a file, 0 to 1, that is in the page cache. See mincore(2)."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return 1.0
    address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address in _FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        pages = (size + PAGE - 1) // PAGE
        found = ctypes.create_string_buffer(pages)
        if _libc.mincore(address, size, found) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return len(found.raw.translate(None, _EVEN)) / pages
    finally:
        _libc.munmap(address, size)


def open_direct(descriptor: int) -> int | None:
    """A second descriptor of the same file with O_DIRECT, or None where that is refused."""
    try:
        # Through /proc, not the path: it is the same file, whatever the path names by now.
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    except OSError as error:
        if error.errno in _REFUSALS:
            return None
        raise


def preadv_direct(descriptor: int, room: memoryview, offset: int) -> int | None:
    """Bytes read past the page cache, or None where the file system refuses after all."""
    try:
        return os.preadv(descriptor, [room], offset)
    except OSError as error:
        if error.errno in _REFUSALS:
            return None
        raise
