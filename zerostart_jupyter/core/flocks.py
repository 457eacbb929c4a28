"""flock(2) on a file or directory, held by one process and by none of its forks.

A forked child shares its parent's open descriptions, and with them the lock: without care a
worker process would keep a lock that its parent, killed meanwhile, can no longer give back, and
would give back one that its parent still needs.
"""

from __future__ import annotations

import errno
import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

_held: set[Flock] = set()


class Flock:
    """A lock that is held now; `on_file` and `on_directory` make one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        _held.add(self)

    @classmethod
    def on_file(cls, path: Path | str, *, shared: bool = False) -> Flock | None:
        """The lock, or None if somebody else holds it; the file is made where it is missing.

        Raises OSError where the place cannot be used.
        """
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        try:
            while True:
                held = cls._attempt(path, os.O_RDWR | os.O_CREAT, shared)
                if held is None or held._is_of(path):
                    return held
                held.release()  # its last holder removed the file in between
        except OSError as error:
            if error.errno != errno.EROFS or not os.path.exists(path):
                raise
        return cls._attempt(path, os.O_RDONLY, shared)  # such a cache is good for what is in it

    @classmethod
    def on_directory(cls, path: Path) -> Flock | None:
        """The lock, or None if somebody else holds it; raises FileNotFoundError if it is gone."""
        return cls._attempt(path, os.O_RDONLY | os.O_DIRECTORY, False)

    @classmethod
    def _attempt(cls, path: Path | str, flags: int, shared: bool) -> Flock | None:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def _is_of(self, path: Path | str) -> bool:
        """Whether this is the file that others find at the path."""
        assert self._descriptor is not None
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(path))
        except FileNotFoundError:
            return False

    def retire(self, path: Path) -> None:
        """Give it back and remove its file; nobody else holds it, who held it alone."""
        path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Give it back, whoever has a copy; a second call, or one in a fork, does nothing."""
        if self._descriptor is not None:
            descriptor = self.detach()
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def touch(self) -> None:
        """Show others that the work it is held for goes on: its file gets the time of now."""
        if self._descriptor is not None:
            os.utime(self._descriptor)

    def detach(self) -> int:
        """The bare descriptor, which forks do share from now on; the caller closes it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            raise ValueError("the lock is no longer held")
        _held.discard(self)
        return descriptor


def _let_go() -> None:
    for lock in list(_held):
        os.close(lock.detach())


os.register_at_fork(after_in_child=_let_go)
