"""Coverage-guided fuzzing of everything that reads a wheel, by atheris; `make fuzz` runs it.

An input is a zip file as it is; or, where its first byte says so, one whose end record is put
right before it is read, or the texts and header fields of a wheel that is sound otherwise: a
changed byte seldom gets past a checksum, and a changed length never past the end record.
"""

from __future__ import annotations

import os
import shutil
import struct
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["zerostart_jupyter", "packaging", "configparser"]):
    from tests.fuzz.oracle import check
    from tests.install.hostile import FILES, NAME, VERSION
    from tests.install.hostile_archives import ARCHIVES
    from tests.install.hostile_contents import CONTENTS, VALID
    from tests.install.wheels import members, pack

POINTS = "[console_scripts]\nzs = zs_bad:main\n"
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
SCRATCH = Path(tempfile.mkdtemp(prefix="zs-fuzz-", dir=MEMORY))


def composed(data: bytes) -> bytes:
    """A wheel some of whose texts and fields are these bytes."""
    draw = atheris.FuzzedDataProvider(data)
    entries = members(NAME, VERSION, FILES, entry_points=POINTS)
    at = draw.ConsumeIntInRange(0, len(entries) - 1)
    what = draw.ConsumeIntInRange(0, 4)
    one = entries[at]
    if what == 0:
        cut = draw.ConsumeIntInRange(0, len(one.content))
        gone = draw.ConsumeIntInRange(0, 40)
        more = draw.ConsumeBytes(200)
        one = replace(one, content=one.content[:cut] + more + one.content[cut + gone :])
    elif what == 1:
        one = replace(one, data=draw.ConsumeBytes(400))
    elif what == 2:
        one = replace(one, raw=draw.ConsumeBytes(60), flags=draw.PickValueInList([0, 0x800]))
    elif what == 3:
        one = replace(one, extra=draw.ConsumeBytes(60), wide=draw.ConsumeBool())
    else:
        one = replace(one, described=draw.ConsumeBool(), local={"extra": draw.ConsumeBytes(60)})
    entries[at] = one
    return pack(entries)


def repaired(data: bytes) -> bytes:
    """The same with an end record that says where its directory is."""
    start, end = data.find(b"PK\1\2"), data.rfind(b"PK\5\6")
    if not 0 <= start < end:
        return data
    count = data.count(b"PK\1\2", start, end)
    fields = (b"PK\5\6", 0, 0, count, count, end - start, start, 0)
    return data[:end] + struct.pack("<4s4H2IH", *fields)


MODES = {b"\0": composed, b"\1": repaired}


def one_input(data: bytes) -> None:
    make = MODES.get(data[:1])
    body = data if make is None else make(data[1:])
    if check(body, SCRATCH, step=1 << 20 if len(data) % 2 else 61):
        for path in (SCRATCH / "environment", *(SCRATCH / "cache" / "wheels").iterdir()):
            shutil.rmtree(path)
        for path in (SCRATCH / "cache" / "locks").iterdir():
            path.unlink()


def plant(corpus: Path) -> None:
    """The tables of the tests as the first inputs."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate((*VALID.values(), *ARCHIVES.values(), *CONTENTS.values())):
        (corpus / f"case-{number}").write_bytes(case.data)
        (corpus / f"text-{number}").write_bytes(b"\0" + case.data[:200])
        (corpus / f"mend-{number}").write_bytes(b"\1" + case.data)


if __name__ == "__main__":
    plant(Path(sys.argv[1]))
    atheris.Setup(sys.argv, one_input)
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
