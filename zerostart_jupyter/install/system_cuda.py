"""Which nvidia wheels the system's own libraries could stand in for: the rules, and the look-up.

A wheel is stood in for only if the dynamic loader finds every library that it brings, under the
same soname and in the same or a newer version, told by the files' own names. What this cannot
show is that a package opens them through the loader and not by their place below `nvidia/`: so
nothing is left out unless ZS_SYSTEM_CUDA asks for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.install.lock import Lock

Version = tuple[int, ...]

# What each wheel brings; the major version of a soname is that of the wheel.
BRINGS: Mapping[str, tuple[str, ...]] = {
    "nvidia-cublas": ("libcublas", "libcublasLt", "libnvblas"),
    "nvidia-cuda-nvrtc": ("libnvrtc", "libnvrtc-builtins"),
    "nvidia-cuda-runtime": ("libcudart",),
    "nvidia-cufft": ("libcufft", "libcufftw"),
    "nvidia-curand": ("libcurand",),
    "nvidia-cusolver": ("libcusolver", "libcusolverMg"),
    "nvidia-cusparse": ("libcusparse",),
    "nvidia-nccl": ("libnccl",),
    "nvidia-nvjitlink": ("libnvJitLink",),
}
_WHEEL = re.compile(r"(?P<stem>nvidia-[a-z-]+?)(-cu\d+)?")
_LISTED = re.compile(r"\s*(?P<soname>\S+) \((?P<flags>[^)]*)\) => (?P<path>/.*)")
_FILE = re.compile(r"(?P<stem>lib[\w-]+)\.so\.(?P<version>\d+(\.\d+)*)")
_MACHINES = {"x86_64": "x86-64", "aarch64": "AArch64"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the system has what a wheel brings, and why, in a few words."""

    ok: bool
    reason: str


def judge(name: str, version: str, found: Mapping[str, Version]) -> Verdict:
    """Whether these libraries, by stem, satisfy whoever needs this distribution."""
    match = _WHEEL.fullmatch(name)
    stems = BRINGS.get(match["stem"], ()) if match else ()
    wanted = _numbers(version)
    if not stems or wanted is None:
        return Verdict(False, "what it brings is not known")
    for stem in stems:
        have = found.get(f"{stem}.so.{wanted[0]}")
        if have is None:
            return Verdict(False, f"there is no {stem}.so.{wanted[0]}")
        # A name that says less than the wheel's version proves less.
        if have < wanted or have[0] != wanted[0]:
            return Verdict(False, f"{stem} is {_dotted(have)} and not {version}")
    return Verdict(True, f"{', '.join(stems)} of the system are as new")


def libraries(places: Iterable[tuple[str, str]]) -> dict[str, Version]:
    """The version of each soname, from (soname, real file name) in the loader's order."""
    found: dict[str, Version] = {}
    for soname, file in places:
        match = _FILE.fullmatch(file)
        version = _numbers(match["version"]) if match else None
        major = soname.rpartition(".so.")[2].partition(".")[0]
        if match is None or version is None or not soname.startswith(f"{match['stem']}.so."):
            continue
        if major == str(version[0]):
            found.setdefault(f"{match['stem']}.so.{major}", version)
    return found


def parse(listing: str, machine: str) -> list[tuple[str, str]]:
    """(soname, path) of this machine's libraries in the words of `ldconfig -p`."""
    flag = _MACHINES.get(machine)
    lines = (_LISTED.fullmatch(line) for line in listing.splitlines())
    return [
        (line["soname"], line["path"])
        for line in lines
        if line and flag is not None and flag in re.split(r",\s*", line["flags"])
    ]


def on_this_machine() -> dict[str, Version]:
    """The libraries that the dynamic loader finds here: LD_LIBRARY_PATH, then its cache."""
    places = []
    for folder in filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)):
        places += [(path.name, str(path)) for path in sorted(Path(folder).glob("lib*.so.*"))]
    program = shutil.which("ldconfig", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is not None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):  # then nothing is proved
            said = subprocess.run(
                [program, "-p"], capture_output=True, text=True, timeout=30, check=True
            )
            places += parse(said.stdout, os.uname().machine)
    return libraries((name, os.path.basename(os.path.realpath(path))) for name, path in places)


def left(lock: Lock, settings: Settings) -> Lock:
    """What of a lock is to be installed: all of it, unless the settings ask for less."""
    if not settings.system_cuda or settings.no_system_cuda:
        return lock
    nvidia = [each for each in lock.packages if each.name.startswith("nvidia-")]
    found = on_this_machine() if nvidia else {}
    here = {each.name for each in nvidia if judge(each.name, each.version, found).ok}
    return Lock(tuple(each for each in lock.packages if each.name not in here), lock.volatile)


def capability(settings: Settings, found: Mapping[str, Version] | None = None) -> Capability:
    """What was found, and whether it is used."""
    found = on_this_machine() if found is None else found
    stems = {stem for each in BRINGS.values() for stem in each}
    have = [
        f"{soname.partition('.')[0]} {_dotted(version)}"
        for soname, version in sorted(found.items())
        if soname.partition(".so")[0] in stems
    ]
    if not have:
        return Capability("system CUDA", True, "none found: nvidia wheels are installed")
    if settings.system_cuda and not settings.no_system_cuda:
        return Capability("system CUDA", True, f"in use where it is as new: {', '.join(have)}")
    return Capability(
        "system CUDA", True, f"{', '.join(have)}; not in use: nvidia wheels are installed"
    )


def _numbers(text: str) -> Version | None:
    parts = text.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else None


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
