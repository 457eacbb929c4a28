"""Which unix sockets are connected to which, as sock_diag(7) tells."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_UDIAG_SHOW_PEER, _UDIAG_SHOW_ICONS = 0x4, 0x8
_UNIX_DIAG_PEER, _UNIX_DIAG_ICONS = 2, 3
_ALL_STATES = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST = struct.Struct("=BBHIIIII")  # struct unix_diag_req
_ANSWER = struct.Struct("=BBBBIII")  # struct unix_diag_msg
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr


def peers() -> dict[int, int]:
    """For each connected unix socket of this network namespace its inode and its peer's.

    The peer of a connection that nobody has accepted yet is the listening socket. Empty where the
    kernel has no unix_diag: then nothing is known, and nothing refused.
    """
    found: dict[int, int] = {}
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as link,
    ):
        show = _UDIAG_SHOW_PEER | _UDIAG_SHOW_ICONS
        body = _REQUEST.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, 0, show, 0, 0)
        length = _HEADER.size + len(body)
        flags = _NLM_F_REQUEST | _NLM_F_DUMP
        link.settimeout(5)
        link.send(_HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, flags, 1, 0) + body)
        done = False
        while not done:
            for kind, message in _messages(link.recv(1 << 18)):
                if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    done = True
                else:
                    found.update(_pairs(message))
    return found


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, offset)
        yield kind, data[offset + _HEADER.size : offset + length]
        offset += _aligned(max(length, _HEADER.size))


def _pairs(message: bytes) -> Iterator[tuple[int, int]]:
    inode = _ANSWER.unpack_from(message)[4]
    offset = _ANSWER.size
    while offset + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        values = struct.unpack_from(f"={(length - _ATTRIBUTE.size) // 4}I", message, offset + 4)
        if kind == _UNIX_DIAG_PEER and values[0]:
            yield inode, values[0]
        elif kind == _UNIX_DIAG_ICONS:  # of a listening socket: who waits to be accepted
            yield from ((waiting, inode) for waiting in values)
        offset += _aligned(max(length, _ATTRIBUTE.size))


def _aligned(length: int) -> int:
    return length + 3 & ~3
