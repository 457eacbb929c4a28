"""Where files that arrive are put: the hub's own cache, or the store's room for models.

The hub's layout, locks and names are huggingface_hub 2's: it accepts what lies here as its own,
waits while we fetch a blob, and we wait while it does.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.core.errors import CheckpointInvalid, LoadError
from zerostart_jupyter.core.flocks import Flock
from zerostart_jupyter.core.store import POLL, Lease, Store
from zerostart_jupyter.load import hub
from zerostart_jupyter.load.arriving import Place

ROOM = "models"
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,199}")
_TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This file is a cache directory tag created by huggingface_hub.\n"
    "# For information about cache directory tags, see:\n"
    "#\thttps://bford.info/cachedir/\n"
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that is an entry of the store; it cannot be removed while the lease is held."""

    path: Path
    lease: Lease


class Snapshot:
    """One commit of one repository in the hub's cache."""

    def __init__(self, repository: str, revision: str, commit: str) -> None:
        if not re.fullmatch(r"[0-9a-f]{6,64}", commit):
            raise CheckpointInvalid(
                f"The hub names {commit[:60]!r} as the commit of {repository}.",
                remedy="Check HF_ENDPOINT: it does not answer like a hub.",
            )
        self.folder = hub.folder(repository)
        self.commit = commit
        self._revision = revision

    def file(self, name: str) -> Path:
        """Where a file of the commit is, or will be: a link into the blobs."""
        return self.folder / "snapshots" / self.commit / name

    def remember(self) -> None:
        """Write down which commit the branch or tag is at."""
        if self._revision == self.commit:
            return
        ref = self.folder / "refs" / self._revision
        with contextlib.suppress(OSError):  # a cache that cannot be written to can still be read
            if ref.is_file() and ref.read_text() == self.commit:
                return
        with cache_errors(ref):
            ref.parent.mkdir(parents=True, exist_ok=True)
            part = ref.with_name(f".{ref.name}.{uuid.uuid4().hex[:8]}")
            part.write_text(self.commit)
            part.replace(ref)

    def place(self, name: str, etag: str, check: Callable[[], None]) -> Place | None:
        """Where to put a file, or None if its bytes are here by now. Waits for the blob's lock."""
        if not _NAME.fullmatch(etag):
            raise CheckpointInvalid(
                f"The hub names {etag[:60]!r} as the ETag of {name}.",
                remedy="Check HF_ENDPOINT: it does not answer like a hub.",
            )
        blob = self.folder / "blobs" / etag
        lock = hub.cache() / ".locks" / self.folder.name / f"{etag}.lock"
        with cache_errors(self.folder):
            for parent in (blob.parent, self.file(name).parent, lock.parent):
                parent.mkdir(parents=True, exist_ok=True)
            tag = hub.cache() / "CACHEDIR.TAG"
            if not tag.exists():
                tag.write_text(_TAG)
            while (held := Flock.on_file(lock)) is None:
                check()
                time.sleep(POLL)
        try:
            if self.file(name).exists() or blob.exists():
                with cache_errors(self.file(name)):
                    self._link(blob, self.file(name))
                held.release()
                return None
        except BaseException:
            held.release()
            raise
        partial = blob.with_name(f"{etag}.zerostart.incomplete")

        def publish() -> None:
            partial.replace(blob)
            self._link(blob, self.file(name))

        return Place(partial, blob, etag, publish, held.release)

    def _link(self, blob: Path, file: Path) -> None:
        if file.exists():
            return
        file.unlink(missing_ok=True)  # a link to a blob that was removed
        try:
            file.symlink_to(os.path.relpath(blob, file.parent))
        except FileExistsError:
            return
        except OSError:  # no links on this file system: huggingface_hub moves the blob, too
            blob.replace(file)


def in_store(
    store: Store,
    key: str,
    name: str,
    etag: str,
    about: Mapping[str, object],
    check: Callable[[], None],
) -> Place | Kept:
    """Where to put a file that is an entry of its own, or the file, if it is here by now."""
    final = store.path(ROOM, key) / name
    with contextlib.ExitStack() as held:
        held.enter_context(store.lock(f"{ROOM}-{key}", check=check))
        lease = store.lease(ROOM, key)
        if store.get(ROOM, key) is not None and final.exists():
            touch(final)
            return Kept(final, lease)
        held.callback(lease.close)
        held.callback(store.lease("partial", key).close)
        partial = store.path("partial", key) / "bytes"

        def publish() -> None:
            with store.publish(ROOM, key, about) as staging:
                partial.replace(staging / name)

        return Place(partial, final, etag, publish, held.pop_all().close)


def touch(file: Path) -> None:
    """Note that an entry of the store was used now: the time its file was last read."""
    with contextlib.suppress(OSError):
        status = file.stat()
        os.utime(file, ns=(time.time_ns(), status.st_mtime_ns))


@contextlib.contextmanager
def cache_errors(path: Path) -> Iterator[None]:
    """Turn what the system says while a cache is written."""
    try:
        yield
    except OSError as error:
        if isinstance(error, LoadError):
            raise
        raise LoadError(
            f"The cache {path} cannot be written: {error.strerror or error}.",
            remedy="Check its permissions, or move it with HF_HOME.",
        ) from error
