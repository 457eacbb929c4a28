"""The exception tree. Every error says what happened, to what, and what to do next.

ZerostartError(message, remedy=...)
├── Cancelled                            the user stopped the work
├── SettingsError        (ValueError)    a setting or environment variable makes no sense
├── StoreError           (OSError)       the cache directory cannot be used
├── InstallError
│   ├── RequirementError (ValueError)    a requirement that cannot be read
│   ├── ResolveError     (LookupError)   no set of wheels satisfies the request
│   ├── NetworkError     (ConnectionError) an index or a file could not be reached
│   ├── DigestMismatch   (ValueError)    bytes that are not what the lock promised
│   ├── WheelRejected    (ValueError)    a wheel that breaks the format or is hostile
│   ├── AlreadyImported  (ImportError)   the running kernel holds another version
│   └── EnvironmentRefused (PermissionError) the kernel's own environment may not be changed
├── LoadError
│   ├── CheckpointNotFound (FileNotFoundError)
│   ├── CheckpointInvalid  (ValueError)  header, index or size do not agree
│   ├── CheckpointChanged  (OSError)     the file changed while we read it
│   ├── DownloadFailed     (ConnectionError) a hub or server could not be reached, or refused
│   ├── TensorMissing      (KeyError)
│   ├── LoadTimeout        (TimeoutError) it is still being loaded
│   ├── WeightsMismatch    (ValueError)  the module and the checkpoint do not fit
│   └── ReaderUnavailable  (RuntimeError) the asked-for reader cannot work here
└── SnapshotError
    ├── SnapshotNotFound (LookupError)
    ├── SnapshotExists   (FileExistsError)
    ├── SnapshotRefused  (RuntimeError)  preflight or a check named what does not fit
    ├── SnapshotCorrupt  (ValueError)    an image or manifest is not what was written
    ├── CriuMissing      (FileNotFoundError)
    ├── CriuFailed       (RuntimeError)  with the log's first error
    ├── GpuFailed        (RuntimeError)  the CUDA driver refused, failed or did not answer
    └── NotPermitted     (PermissionError)

Exceptions of other libraries are turned into these at the seam where they enter.
"""

from __future__ import annotations


class ZerostartError(Exception):
    """Something went wrong; `remedy` is the next step, in one sentence.

    IPython shows `_render_traceback_` instead of a traceback, so a failing magic prints one
    line while the cell still fails and Run All stops.
    """

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.remedy))

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def _rebuild(kind: type[ZerostartError], message: str, remedy: str) -> ZerostartError:
    return kind(message, remedy=remedy)


class Cancelled(ZerostartError):
    """The user stopped the work."""


class SettingsError(ZerostartError, ValueError):
    """A setting or environment variable makes no sense."""


class StoreError(ZerostartError, OSError):
    """The cache directory cannot be used."""


class InstallError(ZerostartError):
    """An install failed; the environment it was for is absent or whole."""


class RequirementError(InstallError, ValueError):
    """A requirement, or the file that holds it, cannot be read."""


class ResolveError(InstallError, LookupError):
    """No set of distributions satisfies the request."""


class NetworkError(InstallError, ConnectionError):
    """An index or a file could not be reached."""


class DigestMismatch(InstallError, ValueError):
    """The bytes are not the ones the lock promised."""


class WheelRejected(InstallError, ValueError):
    """A wheel breaks the format, or is hostile; nothing of it was published."""


class AlreadyImported(InstallError, ImportError):
    """The running kernel has imported another version of a distribution."""


class EnvironmentRefused(InstallError, PermissionError):
    """The kernel's own environment is not ours to change; nothing of it was."""


class LoadError(ZerostartError):
    """A checkpoint could not be loaded."""


class CheckpointNotFound(LoadError, FileNotFoundError):
    """There is no checkpoint at this place."""


class CheckpointInvalid(LoadError, ValueError):
    """Header, index and size of a checkpoint do not agree."""


class CheckpointChanged(LoadError, OSError):
    """A checkpoint's file changed while it was being read."""


class DownloadFailed(LoadError, ConnectionError):
    """A hub or a server could not be reached, or refused; what arrived is kept."""


class TensorMissing(LoadError, KeyError):
    """The checkpoint has no tensor of this name."""


class LoadTimeout(LoadError, TimeoutError):
    """The wait ended before the load did, which goes on."""


class WeightsMismatch(LoadError, ValueError):
    """A module's parameters and a checkpoint's tensors do not fit."""


class ReaderUnavailable(LoadError, RuntimeError):
    """The asked-for reader cannot work on this machine."""


class SnapshotError(ZerostartError):
    """A snapshot could not be saved or brought back; the running kernel is untouched."""


class SnapshotNotFound(SnapshotError, LookupError):
    """There is no snapshot of this name."""


class SnapshotExists(SnapshotError, FileExistsError):
    """A snapshot of this name is already there."""


class SnapshotRefused(SnapshotError, RuntimeError):
    """A check before the dump or the restore named what does not fit."""


class SnapshotCorrupt(SnapshotError, ValueError):
    """An image or a manifest is not what was written."""


class CriuMissing(SnapshotError, FileNotFoundError):
    """No CRIU that is new enough was found."""


class CriuFailed(SnapshotError, RuntimeError):
    """CRIU said no; the message holds the first error of its log."""


class GpuFailed(SnapshotError, RuntimeError):
    """The CUDA driver did not do what a snapshot needs; what it did was taken back."""


class NotPermitted(SnapshotError, PermissionError):
    """The kernel of this machine does not allow it to this user."""
