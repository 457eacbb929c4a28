"""A machine with NVIDIA GPUs that is not there: what NVML and CUDA's checkpoints say of it.

Its state is a folder, so that a kernel, its clones, the helper and the test see the same GPUs.
`shims` puts modules in the place of `pynvml` and `cuda.core` that end up here: ours run unchanged.
Any step of the driver can be told to fail, to hang, or to take its process with it.
"""

from __future__ import annotations

import json
import mmap
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

MIB = 1 << 20
STEPS = ("state", "lock", "checkpoint", "restore", "unlock")
_kept: list[Any] = []  # mappings that must live as long as the process

_CUDA = "from tests.snapshot.gpu.simulated import Process\n"
_PROGRAM = """#!{python}
import argparse, sys
sys.path[:0] = {path!r}
from tests.snapshot.gpu.simulated import Process
parser = argparse.ArgumentParser()
parser.add_argument("--pid", type=int)
parser.add_argument("--action")
parser.add_argument("--get-state", action="store_true")
parser.add_argument("--timeout", type=int)
parser.add_argument("--device-map")
given = parser.parse_args()
try:
    process = Process(given.pid)
    if given.get_state:
        print(process.state)
    elif given.action == "restore":
        pairs = (given.device_map or "").split(",") if given.device_map else []
        bare = [pair.replace("GPU-", "").split("=") for pair in pairs]
        process.restore(gpu_mapping=dict(bare) or None)
    else:
        getattr(process, given.action)()
except RuntimeError as error:
    print(error, file=sys.stderr)
    raise SystemExit(1)
"""


def shims(folder: Path, machine: dict[str, Any]) -> None:
    """Make the machine in a folder, and beside it the modules `pynvml` and `cuda.core`."""
    (folder / "processes").mkdir(parents=True)
    (folder / "faults").mkdir()
    (folder / "machine.json").write_text(json.dumps(machine))
    (folder / "libcuda.so.1").write_bytes(bytes(4096))
    core = folder / "shims" / "cuda" / "core"
    core.mkdir(parents=True)
    (core / "__init__.py").write_text('__version__ = "1.2.2"\n')
    (core / "checkpoint.py").write_text(_CUDA)
    (folder / "shims" / "pynvml.py").write_text("from tests.snapshot.gpu.simulated_nvml import *\n")


def program(folder: Path, python: str, path: list[str]) -> Path:
    """The same as NVIDIA's program; returns its path."""
    made = folder / "cuda-checkpoint"
    made.write_text(_PROGRAM.format(python=python, path=path))
    made.chmod(0o700)
    return made


def root() -> Path:
    return Path(os.environ["SIMULATED_GPU"])


def machine() -> dict[str, Any]:
    body: dict[str, Any] = json.loads((root() / "machine.json").read_text())
    return body


def use(size: int, device: int = 0) -> None:
    """Have this process hold so many bytes of a GPU, as if it had called CUDA."""
    with (root() / "libcuda.so.1").open("rb") as library:
        _kept.append(mmap.mmap(library.fileno(), 0, access=mmap.ACCESS_READ))
    uuid = machine()["devices"][device]["uuid"]
    _write(os.getpid(), {"state": "running", "bytes": size, "device": uuid})


def mine() -> dict[str, Any]:
    """What the driver would say of this process."""
    return _read(os.getpid())


def of(pid: int) -> dict[str, Any]:
    """The same of another."""
    return _read(pid)


def fault(step: str, kind: str) -> None:
    """Have the next such call `fail`, `hang` or `die`; with `always-` before it, all of them."""
    (root() / "faults" / step).write_text(kind)


def calls() -> list[str]:
    """The steps that were asked for, in order; looking is none."""
    try:
        return (root() / "calls").read_text().split()
    except FileNotFoundError:
        return []


def used(uuid: str) -> int:
    """Bytes in use on one GPU, by processes that live."""
    return sum(each.usedGpuMemory for each in holders(uuid))


def holders(uuid: str) -> list[SimpleNamespace]:
    """The processes NVML lists of one GPU; one that became another program lost what it held."""
    found = []
    for path in (root() / "processes").iterdir():
        body = json.loads(path.read_text())
        pid = body["pid"]
        held = body["device"] == uuid and body["state"] in ("running", "locked")
        if held and _born(pid) == body["born"] and _maps_cuda(pid):
            found.append(SimpleNamespace(pid=pid, usedGpuMemory=body["bytes"]))
    return found


class Process:
    """What `cuda.core.checkpoint.Process` is."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    @property
    def state(self) -> str:
        _stumble("state")
        return str(_read(self._pid)["state"])

    def lock(self, timeout_ms: int = 0) -> None:
        assert timeout_ms >= 0
        self._go("lock", "running", "locked")

    def checkpoint(self) -> None:
        self._go("checkpoint", "locked", "checkpointed")

    def restore(self, gpu_mapping: dict[str, str] | None = None) -> None:
        found = _read(self._pid)
        device = found["device"].removeprefix("GPU-")
        device = "GPU-" + (gpu_mapping or {}).get(device, device)
        if device not in [each["uuid"] for each in machine()["devices"]]:
            raise RuntimeError("CUDA_ERROR_INVALID_DEVICE")
        self._go("restore", "checkpointed", "locked", device=device)

    def unlock(self) -> None:
        self._go("unlock", "locked", "running")

    def _go(self, step: str, before: str, after: str, **changes: str) -> None:
        with (root() / "calls").open("a") as log:
            log.write(step + "\n")
        _stumble(step)
        body = _read(self._pid)
        if body["state"] != before:
            raise RuntimeError(f"CUDA_ERROR_ILLEGAL_STATE: {step} while {body['state']}")
        body |= {"state": after, **changes}
        _write(self._pid, body)
        if after == "checkpointed":
            (root() / "image.json").write_text(json.dumps(body))


def _stumble(step: str) -> None:
    path = root() / "faults" / step
    try:
        kind = path.read_text()
    except FileNotFoundError:
        return
    if not kind.startswith("always-"):
        path.unlink()
    kind = kind.removeprefix("always-")
    if kind == "die":
        os._exit(9)
    if kind == "hang":
        time.sleep(600)
    raise RuntimeError(f"the driver does not want to {step}")


def _read(pid: int) -> dict[str, Any]:
    try:
        body: dict[str, Any] = json.loads(_place(pid).read_text())
    except FileNotFoundError:
        # One that came out of an image is where its original was when it was dumped.
        image = root() / "image.json"
        if not _maps_cuda(pid) or not image.exists():
            raise RuntimeError("CUDA_ERROR_NOT_INITIALIZED") from None
        body = json.loads(image.read_text())
    return body


def _write(pid: int, body: dict[str, Any]) -> None:
    path = _place(pid)
    staging = path.with_suffix(f".{os.getpid()}")
    staging.write_text(json.dumps(body | {"pid": pid, "born": _born(pid)}))
    staging.replace(path.with_suffix(".json"))


def _place(pid: int) -> Path:
    """By what a process is from inside and from outside of its namespace alike."""
    status = Path(f"/proc/{pid}/status").read_text()
    inside = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1]
    # Not by its birth: CRIU restores into a time namespace, where clocks count otherwise.
    namespace = os.readlink(f"/proc/{pid}/ns/pid").strip("pid:[]")
    return root() / "processes" / f"{inside}-{namespace}.json"


def _maps_cuda(pid: int) -> bool:
    try:
        return "libcuda.so.1" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


def _born(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
