"""The kernel's own status file, at the place its connection file names."""

from __future__ import annotations

from typing import Any

from zerostart_jupyter.core.status import StatusFile
from zerostart_jupyter.jupyter.where import connection_file, status_directory


class KernelStatus:
    """Keeps the `kernel` status file while the extension is loaded.

    `move` follows the kernel to another connection file, as after a restore; what was noted goes
    along, so that nobody reads in between that the kernel has no undo points.
    """

    def __init__(self) -> None:
        self._file: StatusFile | None = None
        self._noted: dict[str, Any] = {}

    def open(self) -> None:
        """Begin to write; does nothing in a terminal, which has no panel."""
        connection = connection_file()
        if connection is not None:
            about = {"kernel": connection.stem, "connection_file": str(connection)}
            directory = status_directory(connection)
            self._file = StatusFile(directory, "kernel", {**about, **self._noted})

    def note(self, name: str, value: Any) -> None:
        """Say one thing more about this kernel, where there is a file to say it in."""
        if self._file is not None:
            self._noted[name] = value
            self._file.note(name, value)

    def close(self) -> None:
        """Stop, and remove the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def move(self) -> None:
        """Begin anew where the present connection file says; the old file is the original's."""
        if self._file is not None:
            self._file.abandon()
        self.open()
