"""A load under way: threads take blocks from the plan, the reader reads, the handle is filled."""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence

import torch

from zerostart_jupyter.core.errors import Cancelled, LoadError, ZerostartError
from zerostart_jupyter.core.events import Hub, Operation, State, operation
from zerostart_jupyter.core.settings import MIB
from zerostart_jupyter.load import fresh, tensors
from zerostart_jupyter.load.checkpoint import Checkpoint, Entry, unreadable
from zerostart_jupyter.load.later import Later
from zerostart_jupyter.load.plan import BETWEEN, Block, Plan
from zerostart_jupyter.load.quantised import convertible
from zerostart_jupyter.load.readers import select
from zerostart_jupyter.load.readers.contract import Reader, Statistics
from zerostart_jupyter.load.readers.spread import SpreadReader
from zerostart_jupyter.load.weights import Arrival, Weights
from zerostart_jupyter.load.words import first_line

STAGING = 512 * MIB  # bytes in flight at most, and so the most that staging takes
# Bytes of a mapping that are read before somebody looks whether a tensor is waited for, or the
# load was cancelled.
STEP = 32 * MIB


class Reading:
    """One load under way: a thread that conducts, threads that read, a handle that is filled.

    `readers` names the reader of each device. `prepared` tensors are made while their bytes are
    read, and not when they are asked for; an `awaited` load has nobody beside it who runs Python.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        readers: Mapping[str, str],
        device: str | Mapping[str, str],
        dtype: torch.dtype | None,
        block: int,
        threads: int,
        hub: Hub | None,
        about: Statistics | None = None,
        prepared: bool = False,
        awaited: bool = False,
        order: Sequence[str] = (),
    ) -> None:
        self._checkpoint = checkpoint
        self._ways = readers
        self._about = about or {}
        self._device = device
        self._dtype = dtype
        self._converted = _converted(checkpoint, dtype)
        self._hub = hub
        mapped = set(readers.values()) == {"mmap"}
        arriving = any(shard.arriving for shard in checkpoint.shards)
        self._step = STEP if mapped and not arriving else block
        self._plan = Plan(
            checkpoint.entries.values(),
            block=block,
            budget=None if mapped else STAGING,  # mmap stages nothing
            order=order,
            apart=None if isinstance(device, str) else self._place,
            step=self._step,
        )
        threads = min(threads, len(self._plan.blocks))
        made = {
            place: select.make(
                name,
                checkpoint.shards,
                device=place,
                block=block,
                stages=max(1, min(threads, STAGING // block)),
                awaited=awaited,
            )
            for place, name in readers.items()
        }
        self._reader: Reader = next(iter(made.values()))
        if len(made) > 1:
            self._reader = SpreadReader(checkpoint.shards, made, self._place)
        self._threads = [
            threading.Thread(target=self._work, name=f"zerostart-read-{number}", daemon=True)
            for number in range(threads)
        ]
        self._conductor = threading.Thread(target=self._conduct, name="zerostart-load", daemon=True)
        self._lock = threading.Condition()
        self._making = threading.Lock()
        self._stopped = threading.Event()
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._operation: Operation | None = None
        self._done: Counter[int] = Counter()  # bytes, by shard
        self._done_in_all = 0
        self._totals: Counter[int] = Counter()
        for entry in checkpoint.entries.values():
            self._totals[entry.shard] += entry.nbytes
        self.weights = Weights(
            checkpoint,
            device=", ".join(readers),
            dtype=None if dtype is None else str(dtype).removeprefix("torch."),
            reader=self._reader.name,
        )
        self._prepared = prepared
        self._later: Later | None = None
        if self._reader.ahead:
            whole = filter(self._as_it_is, checkpoint.entries.values())
            self._later = self.weights._later = Later(self._reader, checkpoint.shards, whole)
        self.weights._demand = self._lift
        self.weights._stop = self.stop

    def start(self) -> None:
        """Begin to read."""
        _RUNNING.add(self)
        try:
            self._conductor.start()
        except RuntimeError as error:
            self._end(_no_threads(error))

    def abandon(self) -> None:
        """Stop, and return when every thread has let go of the files."""
        self.stop()
        self._over.wait()

    def stop(self) -> None:
        """Let the threads end after the block each is at."""
        self._stopped.set()
        self._reader.stop()
        with self._lock:
            self._lock.notify_all()

    def orphan(self) -> None:
        """In a forked child no thread of ours lives: say so instead of waiting for ever."""
        self.weights._changed = threading.Condition()
        if self._later is not None:
            self._later.renew_lock()
        self.weights._when_done.clear()  # they would wake the parent's event loop
        if not self.weights.done:
            self.weights._finish(
                LoadError(
                    f"{self.weights.title} was still being loaded when this process was forked.",
                    remedy="Load it again here, or wait for the load before forking.",
                )
            )

    def _conduct(self) -> None:
        error: BaseException | None = None
        try:
            with operation("load", self.weights.title, hub=self._hub) as self._operation:
                self._operation.on_cancel(self.stop)
                self._read_all()
        except BaseException as raised:
            error = raised
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self.weights.statistics = {**self._about, **self._reader.statistics()}
        if self._later is not None:
            self._later.settle(self.weights._came)
        else:
            self._reader.close()
        self._checkpoint.close()
        _RUNNING.discard(self)
        self._operation = None  # it knows us: in a circle, the tensors would wait for the collector
        self.weights._finish(error)
        self._over.set()

    def _read_all(self) -> None:
        for name in self._plan.empty:
            entry = self._checkpoint.entries[name]
            shard = self._checkpoint.shards[entry.shard]
            nothing = tensors.empty(entry, shard, self._place(name))
            self.weights._deliver([(name, self._finished(nothing, entry), None)])
        for number in range(len(self._checkpoint.shards)):
            self._report(number)
        if self._checkpoint.ahead is not None:
            self._checkpoint.ahead.stop()  # from here on our own threads read
        self._run_threads()
        if self._error is not None:
            raise self._error
        if self._stopped.is_set() and self._done_in_all < sum(self._totals.values()):
            raise Cancelled(
                f"The load of {self.weights.title} was cancelled.",
                remedy="Run it again to load it.",
            )
        self._reader.finish()

    def _run_threads(self) -> None:
        started: list[threading.Thread] = []
        for thread in self._threads:
            try:
                thread.start()
            except RuntimeError as error:  # fewer are slower, and enough
                if not started:
                    raise _no_threads(error) from error
                break
            started.append(thread)
        try:
            if self._later is not None and self._prepared:
                self._later.prepare(self._stopped.is_set)
        except BaseException:
            self.stop()
            raise
        finally:
            for thread in started:
                thread.join()

    def _as_it_is(self, entry: Entry) -> bool:
        """Whether the tensor will be the file's bytes, all of them, where they are mapped."""
        return entry.nbytes > 0 and entry.window is None and not self._copied(entry)

    def _copied(self, entry: Entry) -> bool:
        """Whether bytes that are mapped will be those of the tensor only once they are copied."""
        return self._ways[place := self._place(entry.name)] == "mmap" and not (
            place == "cpu" and entry.name not in self._converted and fresh.viewable(entry)
        )

    def _work(self) -> None:
        while (block := self._next()) is not None:
            self._attempt(block)

    def _attempt(self, block: Block) -> None:
        try:
            self._bring(block)
        except BaseException as error:
            with self._lock:
                if not self._stopped.is_set():  # else it is the ending that made it fail
                    self._error = self._error or _turned(error, block, self._checkpoint)
            self.stop()

    def _next(self) -> Block | None:
        with self._lock:
            while not self._stopped.is_set() and not self._plan.exhausted:
                block = self._plan.take()
                if block is not None:
                    return block
                self._lock.wait()  # the budget is spent until somebody finishes
        return None

    def _between(self) -> Block | None:
        with self._lock:
            return self._plan.between()

    def _bring(self, block: Block) -> None:
        shard = self._checkpoint.shards[block.shard]
        for step in block.steps(self._step):
            if self._stopped.is_set():
                return
            self._reader.read(step)
            while block.number != BETWEEN and (urgent := self._between()) is not None:
                self._attempt(urgent)
        shard.verify()
        with self._lock:
            whole = self._plan.finish(block)
            if block.number != BETWEEN:
                self._done[block.shard] += block.payload
                self._done_in_all += block.payload
            self._lock.notify_all()
        if whole:
            later: Container[str] = self._later or ()
            now = [entry for entry in whole if entry.name not in later]
            # Each call into torch gives the GIL away: threads that make views at once spend ten
            # times as long on waiting for it as on the views.
            with self._making:
                views = [None if self._copied(entry) else self._view(entry) for entry in now]
            self.weights._deliver(
                list(map(self._arrival, now, views)),
                [entry.name for entry in whole if entry.name in later],
            )
        self._report(block.shard)

    def _view(self, entry: Entry) -> torch.Tensor:
        shard = self._checkpoint.shards[entry.shard]
        return tensors.view(entry, shard, self._reader.storage(entry))

    def _arrival(self, entry: Entry, as_read: torch.Tensor | None) -> Arrival:
        shard = self._checkpoint.shards[entry.shard]
        if as_read is None:
            dtype = self._dtype if entry.name in self._converted else None
            some = fresh.AT_ONCE if self._prepared else fresh.BESIDE_A_CELL
            tensor = fresh.read(entry, shard, self._place(entry.name), dtype, at_once=some)
        else:
            tensor = self._finished(as_read, entry)
        if entry.name in self._converted or tensor.nbytes != entry.nbytes:
            return entry.name, tensor, None
        origin = tensors.reference(entry, shard)
        tensors.remember(entry.name, tensor, origin)
        return entry.name, tensor, origin

    def _finished(self, tensor: torch.Tensor, entry: Entry) -> torch.Tensor:
        dtype = self._dtype if entry.name in self._converted else None
        return tensors.finished(tensor, self._place(entry.name), dtype)

    def _place(self, name: str) -> str:
        return self._device if isinstance(self._device, str) else self._device[name]

    def _report(self, number: int) -> None:
        work = self._operation
        if work is None:
            return
        with self._lock:
            done, total = self._done[number], self._totals[number]
            state = State.RUNNING if done < total else State.DONE
            # Under the lock, so that a later count is not overtaken by an earlier one.
            work.update(self._checkpoint.shards[number].path.name, done, total, state=state)
            work.update("", self._done_in_all, self.weights.bytes)

    def _lift(self, names: Iterable[str]) -> None:
        with self._lock:
            self._plan.lift(names)


def _converted(checkpoint: Checkpoint, dtype: torch.dtype | None) -> frozenset[str]:
    """Names of the tensors that will have another type than in their file."""
    if dtype is None:
        return frozenset()
    entries, shards = checkpoint.entries, checkpoint.shards
    return frozenset(
        name
        for name in convertible(entries.values())
        if tensors.dtype_of(entries[name], shards[entries[name].shard]) != dtype
    )


def _no_threads(error: RuntimeError) -> LoadError:
    return LoadError(
        f"No thread could be started to read with: {first_line(error)}.",
        remedy="End some threads or processes, or raise the limit (ulimit -u).",
    )


def _turned(error: BaseException, block: Block, checkpoint: Checkpoint) -> BaseException:
    """Foreign exceptions become ours where they enter."""
    if isinstance(error, ZerostartError):
        return error
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return LoadError(
            f"{checkpoint.title} does not fit: {first_line(error)}.",
            remedy="Free memory, choose a smaller dtype, or load to another device.",
        )
    if isinstance(error, OSError):
        turned = unreadable(checkpoint.shards[block.shard], block.start, error)
        turned.__cause__ = error
        return turned
    return error


_RUNNING: weakref.WeakSet[Reading] = weakref.WeakSet()


def _after_fork() -> None:
    for run in list(_RUNNING):
        run.orphan()


os.register_at_fork(after_in_child=_after_fork)
