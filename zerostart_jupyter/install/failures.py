"""What goes wrong below, in the words of this product."""

from __future__ import annotations

from zerostart_jupyter.core.errors import InstallError, StoreError, ZerostartError
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install.retries import Stopped


def as_error(error: BaseException, store: Store) -> ZerostartError:
    """A failure of the machine in the words of this product; its own errors stay as they are."""
    if isinstance(error, ZerostartError):
        return error
    if isinstance(error, OSError):
        return StoreError(
            f"{error.filename or store.root} cannot be written: {error.strerror or error}.",
            remedy="Make room with `zerostart cache prune`, or set ZEROSTART_CACHE elsewhere.",
        )
    if isinstance(error, Stopped):
        return InstallError("The install was stopped.", remedy="Run it again.")
    return InstallError(
        f"The install failed: {type(error).__name__}: {error}.", remedy="Please report it."
    )
