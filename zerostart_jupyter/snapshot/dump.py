"""The helper that dumps a kernel: run as `python -m zerostart_jupyter.snapshot.dump`.

Its order comes on stdin, its readiness goes to stdout; from then on it speaks to the kernel
through the kernel's own pipes. Whatever happens, the kernel hears of it and goes on.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.events import Operation, State, operation
from zerostart_jupyter.core.liveness import Process
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.status import StatusFile
from zerostart_jupyter.core.store import Lease
from zerostart_jupyter.snapshot import (
    backing,
    checks,
    criu,
    estimate,
    images,
    kerndat,
    launch,
    manifest,
    mapped,
    occupied,
    ports,
    preflight,
    procfs,
    tiers,
    wire,
)
from zerostart_jupyter.snapshot.catalog import ROOM, Catalog
from zerostart_jupyter.snapshot.manifest import IMAGES, Manifest

# `--tcp-close` at both ends: a restored kernel finds its connections closed, not half-open.
OPTIONS = ("--tcp-close", "--file-locks", "--manage-cgroups=ignore", "--ghost-limit", "1G")
_EARLIER = 16  # snapshots that are looked at for memory that is in a file already
_RESUMED = 30.0  # seconds for the kernel to say that it has its sockets back


def main() -> int:
    """Detach from the kernel, dump it, publish."""
    stdin = wire.Reader(sys.stdin.fileno())
    order = stdin.wait()
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    _Dump(order, stdin).run()
    return 0


class _Dump:
    def __init__(self, order: Mapping[str, Any], stdin: wire.Reader) -> None:
        self._order = order
        self._stdin = stdin
        self._pid = int(order["pid"])
        self._last_pid = self._pid
        self._told_ready = False
        self._gpu: dict[str, Any] = {}
        self._ports: list[int] = []
        self._locks: list[occupied.Place] = []
        self._terminals = False
        self._mapped: set[str] = set()
        self._files: dict[str, os.stat_result] = {}  # that are not in the images, as they were then
        self._read: dict[Path, int] = {}  # what a restore reads or maps, and the bytes of each
        self._leases: list[Lease] = []  # on files that what we save refers to; until we end
        self._catalog = Catalog(Settings.read(cache=Path(order["cache"])))

    def run(self) -> None:
        order = self._order
        about = {"kernel": Path(order["status"]).name}
        status = StatusFile(Path(order["status"]), "dumper", about)
        try:
            with operation("snapshot", order["name"], unit="steps", id=order["operation"]) as work:
                signal.signal(signal.SIGTERM, lambda *_: work.cancel())
                saved = self._save(work)
            self._tell({"kind": "published", "saved": saved})
        except EOFError:  # the kernel changed its mind before it was frozen
            pass
        except BaseException as error:
            self._tell(wire.describe(error))
        else:
            self._make_restores_quick()
        finally:
            status.close()

    def _make_restores_quick(self) -> None:
        """What is worth doing once for all restores, now that nobody waits any more."""
        if self._read:
            largest = max(self._read, key=lambda path: self._read[path])
            estimate.learn_disk(self._catalog.store, largest, self._read[largest])
        with contextlib.suppress(OSError):
            kerndat.learn(self._catalog.store, self._order["criu"])
            launch.compile_modules()

    def _save(self, work: Operation) -> dict[str, Any]:
        order = self._order
        about = {
            "name": order["name"],
            "tier": "process",
            "notebook": order["notebook"],
            "gpu_bytes": 0,
            "parent": order["parent"],
            "kernel_seconds": order["kernel_seconds"],
            "reason": order["reason"],
            "kernelspec": order["kernelspec"],
            "encrypted": order["encrypted"],
            "environment": order["environment"],
        }
        with (
            self._catalog.reserve(order["name"], replace=order["replace"]),
            self._catalog.publish(order["id"], about) as directory,
        ):
            self._tell({"kind": "ready", "process": Process.current().as_json()})
            go = self._wait_for_go()
            self._gpu = go["gpu"]
            self._ports = ports.of(go["connection"])
            about["gpu_bytes"] = self._gpu.get("bytes", 0)
            with _step(work, "dumping"), _ports_held(go["connection"]):
                inherited = self._dump(directory / IMAGES, work.check)
            self._tell({"kind": "resume"})
            with _step(work, "indexing"):
                about |= self._index(directory, inherited, work.check)
            about |= self._times()
        entry = self._catalog.store.get(ROOM, order["id"])
        assert entry is not None
        return about | {"id": order["id"], "created": entry.created}

    def _wait_for_go(self) -> wire.Message:
        """Wait for the kernel to let go of its sockets, and then of our pipes."""
        go = self._stdin.wait()
        with contextlib.suppress(EOFError):
            self._stdin.wait()
        return go

    def _dump(self, directory: Path, check: Callable[[], None]) -> _Inherited:
        inherited = _Inherited.of(self._pid, self._order["inherited"])
        criu.run(
            criu.Criu(tuple(self._order["criu"]), self._order["criu_version"]),
            "dump",
            directory,
            [
                "--tree",
                str(self._pid),
                "--leave-running",
                *OPTIONS,
                *inherited.options(),
                *self._plugins(directory),
            ],
            log=directory / "dump.log",
            timeout=self._order["timeout"],
            check=check,
        )
        pids = procfs.tree(self._pid)
        self._locks = occupied.locks(pids)
        self._terminals = preflight.own_terminals(self._pid)
        self._last_pid = max(thread for pid in pids for thread in (*procfs.threads(pid), pid))
        # A kernel that ends once it is resumed would give back what it holds.
        self._mapped = {path for pid in pids for path in procfs.mapped(pid)}
        self._leases += backing.hold(self._catalog.store, self._mapped)
        # Once the kernel goes on, somebody may put others in their place.
        self._files = {path: os.stat(path) for path in self._weights}
        for path in self._mapped:
            with contextlib.suppress(OSError):
                self._files[path] = os.stat(path)
        return inherited

    @property
    def _weights(self) -> list[str]:
        return [str(path) for path in self._gpu.get("weights", [])]

    def _constant(self, file: images.ImageFile) -> bool:
        """Whether pages of it are not in the images: libraries, and weights that are mapped."""
        return file.library or (file.path in self._mapped and not file.writable)

    def _plugins(self, directory: Path) -> list[str]:
        """A folder without plugins: CRIU's own for CUDA would do over what is done already."""
        return ["--libdir", str(directory)] if self._gpu else []

    def _index(
        self, directory: Path, inherited: _Inherited, check: Callable[[], None]
    ) -> dict[str, Any]:
        found = directory / IMAGES
        images.loosen(found, inherited.paths)
        images.unbind(found, self._ports)
        check()
        store = self._catalog.store
        with backing.Batch(store, self._order["id"]) as batch:
            if self._order["map_bytes"]:
                mapped.out(found, batch, self._order["map_bytes"], check, self._before)
            self._leases += batch.keep.values()
        listed = images.files(found)
        memory = backing.of(store, [each.path for each in listed])
        others = {each.path: each for each in listed}
        for each in memory:
            others.pop(str(each.path))
        result = Manifest(
            id=self._order["id"],
            pid=self._pid,
            last_pid=self._last_pid,
            channel=self._order["channel"],
            criu=self._order["criu_version"],
            inherited=tuple(inherited.names),
            needed=manifest.needed(
                [
                    *((each.path, each.size, self._constant(each)) for each in others.values()),
                    *((path, self._files[path].st_size, True) for path in self._weights),
                ],
                self._files,
            ),
            digests=manifest.digests(found),
            noted=manifest.note(found),
            memory={str(each.path): (each.length, each.digest) for each in memory},
            sockets=tuple(inherited.connections),
            places=(*((*place, 0) for place in images.bound(found)), *self._locks),
            terminals=self._terminals,
            gpu=self._gpu,
            cpu=checks.cpu_features(),
            groups=tuple(os.getgroups()),
        )
        final = self._catalog.store.path(ROOM, self._order["id"]) / IMAGES
        self._read = {final / name: length for name, (length, _) in result.digests.items()}
        self._read |= {each.path: each.length for each in memory}
        check()
        return {
            "digest": result.write(directory),
            "bytes": result.bytes + batch.bytes,
            "read_bytes": result.bytes + sum(self._files[path].st_size for path in self._weights),
            "memory": sorted({each.path.parent.name for each in memory}),
        }

    def _before(self) -> Iterator[Path]:
        """The images of earlier snapshots, the newest first: some may be of the same process."""
        known = reversed(self._catalog.list())
        found = (each.images for each in known if each.tier == tiers.PROCESS)
        return itertools.islice(found, _EARLIER)

    def _times(self) -> dict[str, float]:
        """How long it took, as the kernel saw it."""
        opened = wire.reach(self._pid, self._order["channel"]["from"], os.O_RDONLY)
        try:
            said = wire.Reader(opened).wait(check=wire.until(time.monotonic() + _RESUMED))
        finally:
            os.close(opened)
        frozen = float(said["frozen_seconds"])
        return {"frozen_seconds": frozen, "seconds": time.monotonic() - float(said["began"])}

    def _tell(self, message: wire.Message) -> None:
        """Speak to the kernel where it listens now; if it is gone, nobody minds."""
        with contextlib.suppress(OSError):
            if self._told_ready:
                wire.tell(self._pid, self._order["channel"]["to"], message)
            else:
                wire.send(sys.stdout.fileno(), message)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, sys.stdout.fileno())
                os.close(nowhere)
                self._told_ready = message["kind"] == "ready"


class _Inherited:
    """What the kernel's launcher had given it, and what CRIU is told of it."""

    def __init__(self, paths: list[str], names: list[str], connections: list[str]) -> None:
        self.paths = paths
        self.names = names
        self.connections = connections

    @classmethod
    def of(cls, pid: int, numbers: list[int]) -> _Inherited:
        opened = {each.number: each for each in procfs.descriptors(pid)}
        paths, names = [], []
        for each in (opened[number] for number in numbers if number in opened):
            if each.target.startswith(("pipe:", "socket:")):
                names.append(each.target)
            elif not each.target.startswith("/dev/"):
                paths.append(each.target)
        for each in preflight.terminals(pid):
            with contextlib.suppress(OSError):
                status = os.stat(f"/proc/{each.pid}/fd/{each.number}")
                names.append(f"tty[{status.st_rdev:x}:{status.st_dev:x}]")
        return cls(paths, list(dict.fromkeys(names)), preflight.connections(pid))

    def options(self) -> list[str]:
        found = []
        for name in self.names:
            if name.startswith("tty["):
                found += ["--external", name]
            elif name.startswith("socket:["):
                found += ["--external", f"unix[{name[8:-1]}]"]
        return found


@contextlib.contextmanager
def _step(work: Operation, name: str) -> Iterator[None]:
    work.update(name)
    yield
    work.update(name, state=State.DONE)


@contextlib.contextmanager
def _ports_held(connection: Mapping[str, Any]) -> Iterator[None]:
    held = ports.hold(connection)
    try:
        yield
    finally:
        for each in held:
            each.close()


if __name__ == "__main__":
    raise SystemExit(main())
