from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.snapshot.kernels import Kernel, kernel
from zerostart_jupyter import snapshot
from zerostart_jupyter.core.errors import SnapshotCorrupt
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.snapshot import mapped, restored, wire
from zerostart_jupyter.snapshot.backing import ROOM, Batch, of
from zerostart_jupyter.snapshot.catalog import Catalog, SnapshotInfo
from zerostart_jupyter.snapshot.images import files as listed
from zerostart_jupyter.snapshot.manifest import Manifest, digests

pytestmark = pytest.mark.criu

# Above 32 MiB malloc always maps: below, that depends on what was freed before.
ARRAYS = (
    "import hashlib, numpy\n"
    "a = numpy.random.default_rng(0).integers(0, 255, 40 << 20, 'u1')\n"
    "digest = lambda: hashlib.sha256(a).hexdigest()\n"
    "h = digest()"
)
MIB = 1 << 20


@pytest.fixture
def arrays(python: Kernel) -> Kernel:
    """A kernel with 40 MiB that nothing else has, saved as `one` and published."""
    python.run(ARRAYS)
    python.run("z.snapshot('one')")
    snapshot.publish("one")
    return python


def room(cache: Path) -> list[str]:
    return [entry.key for entry in Store(cache / "cache").entries(ROOM)]


def backing_file(name: str) -> Path:
    """The one behind the array."""
    (path,) = files_of(name, range(40 * MIB, 41 * MIB))
    return path


def files_of(name: str, lengths: range) -> list[Path]:
    memory = snapshot.show(name).manifest().memory
    return [Path(path) for path, (length, _) in memory.items() if length in lengths]


def test_arrays_are_mapped_and_clones_share_them(arrays: Kernel) -> None:
    with kernel("zerostart-one") as one, kernel("zerostart-one") as two:
        assert [each.run("digest() == h") for each in (one, two)] == ["True", "True"]
        for each in (one, two):
            maps = [m for m in _maps(each) if m.path == str(backing_file("one"))]
            assert sum(m.rss for m in maps) >= 40 * MIB
            assert sum(m.pss for m in maps) <= 21 * MIB
            assert sum(m.private_dirty for m in maps) == 0
        one.run("a[:] = 7")
        assert two.run("digest() == h") == "True"
        assert arrays.run("digest() == h") == "True"
        assert one.run("int(a.sum()) == 7 * a.size") == "True"
    with kernel("zerostart-one") as three:
        assert three.run("digest() == h") == "True"


def test_a_second_save_of_the_same_kernel_adds_no_array(arrays: Kernel, with_criu: Path) -> None:
    first = snapshot.show("one").bytes
    arrays.run("z.snapshot('two')")
    assert snapshot.show("two").bytes <= first - 36 * MIB
    assert backing_file("two") == backing_file("one")
    snapshot.delete("one")
    snapshot.publish("two")
    with kernel("zerostart-two") as clone:
        assert clone.run("digest() == h") == "True"
    snapshot.delete("two")
    assert room(with_criu) == []


def test_a_second_save_of_an_unchanged_kernel_adds_little(arrays: Kernel) -> None:
    arrays.run("z.snapshot('two')")
    first, second = snapshot.show("one"), snapshot.show("two")
    assert second.bytes <= 0.15 * first.bytes
    assert first.manifest().bytes <= 0.15 * first.bytes, "what a restore reads"
    snapshot.delete("one")
    snapshot.publish("two")
    with kernel("zerostart-two") as clone:
        assert clone.run("digest() == h, sorted(range(9))[3]") == "(True, 3)"


def test_a_kernel_goes_on_growing_and_shrinking_once_its_heap_is_mapped(arrays: Kernel) -> None:
    with kernel("zerostart-one") as one:
        one.run("rows = [[str(n)] * 3 for n in range(300_000)]; c = bytearray(100_000)")
        one.run("import gc, ctypes; gc.collect(); ctypes.CDLL(None).malloc_trim(0)")
        one.run("del rows; gc.collect(); ctypes.CDLL(None).malloc_trim(0)")
        assert one.run("any(bytearray(1 << 20)), any(bytearray(50_000)), any(c)") == (
            "(False, False, False)"
        )
        one.run("rows = {n: str(n) for n in range(300_000)}; z.snapshot('grown')")
        one.run("z.restore('grown')")
        assert one.run("all(rows[n] == str(n) for n in rows), digest() == h") == "(True, True)"


def test_a_save_of_a_restored_kernel_holds_what_it_changed(arrays: Kernel) -> None:
    with kernel("zerostart-one") as one:
        one.run("z.snapshot('same')")
        one.run("a[:4 << 20] += 1; h = digest()")
        one.run("z.snapshot('changed')")
        assert snapshot.show("changed").bytes - snapshot.show("same").bytes in range(
            3 * MIB, 8 * MIB
        )
    snapshot.delete("one")
    snapshot.delete("same")
    snapshot.publish("changed")
    with kernel("zerostart-changed") as two:
        assert two.run("digest() == h") == "True"
        two.run("z.snapshot('again')")
        two.run("z.restore('again')")
        assert two.run("digest() == h") == "True"


def test_files_outlive_their_snapshots_while_a_kernel_maps_them(
    arrays: Kernel, with_criu: Path
) -> None:
    with kernel("zerostart-one") as one:
        snapshot.delete("one")
        assert len(room(with_criu)) == 1
        assert one.run("digest() == h") == "True"
        one.run("z.snapshot('child')")
        snapshot.publish("child")
    arrays.run("z.snapshot('other'); z.delete('other')")
    with kernel("zerostart-child") as child:
        assert child.run("digest() == h") == "True"
        child.run("z.restore('child')")
        snapshot.delete("child")
        assert len(room(with_criu)) == 1
        child.run("z.snapshot('last')")
    snapshot.delete("last")
    assert room(with_criu) == []


def test_an_array_that_grows_finds_zeros(arrays: Kernel) -> None:
    with kernel("zerostart-one") as one:
        # Two neighbours in memory, as malloc lays them: what grows must not see the other.
        one.run("n = a.size; a.resize((n + (1 << 20),), refcheck=False)")
        assert one.run("hashlib.sha256(a[:n]).hexdigest() == h, int(a[n:].sum())") == "(True, 0)"


def test_neighbours_grow_apart(python: Kernel) -> None:
    # realloc() as C code calls it, which promises nothing of what is new: mremap(2) does.
    python.run(
        "import ctypes; c = ctypes.CDLL(None)\n"
        "for f in (c.malloc, c.realloc): f.restype = ctypes.c_void_p\n"
        "size = 33 << 20\n"
        "places = [c.malloc(ctypes.c_size_t(size)) for _ in range(3)]\n"
        "for n, p in enumerate(places): ctypes.memset(ctypes.c_void_p(p), 65 + n, size)"
    )
    python.run("z.snapshot('one')")
    assert len(files_of("one", range(33 * MIB, 34 * MIB))) == 3
    snapshot.publish("one")
    with kernel("zerostart-one") as one:
        one.run(
            "grown = [c.realloc(ctypes.c_void_p(p), ctypes.c_size_t(2 * size)) for p in places]"
        )
        found = one.run(
            "[(set(ctypes.string_at(p, size)), set(ctypes.string_at(p + size, size - 4096)))"
            " for p in grown]"
        )
        assert found == "[({65}, {0}), ({66}, {0}), ({67}, {0})]"


@pytest.mark.parametrize("where", [0, 20 * MIB, 41 * MIB])
def test_a_damaged_file_is_refused(arrays: Kernel, where: int) -> None:
    path = backing_file("one")
    with path.open("r+b") as stream:
        stream.seek(where)
        stream.write(b"damage")
    with pytest.raises(SnapshotCorrupt, match="memory"):
        snapshot.clone("one")
    assert "SnapshotCorrupt" in arrays.attempt("z.restore('one')").error
    assert arrays.run("digest() == h") == "True"


def test_a_disk_that_lost_a_bit_is_found_by_looking(arrays: Kernel, with_criu: Path) -> None:
    assert snapshot.verify("one").name == "one"
    path = backing_file("one")
    times = path.stat()
    with path.open("r+b") as stream:
        stream.seek(20 * MIB)
        stream.write(b"damage")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(SnapshotCorrupt, match="is not what was written"):
        snapshot.verify("one")


def test_nothing_is_mapped_where_nobody_wants_it(
    with_criu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZS_MAP_MB", "0")
    with kernel() as python:
        python.run("import zerostart_jupyter.snapshot as z\n" + ARRAYS)
        python.run("z.snapshot('one')")
        assert snapshot.show("one").manifest().memory == {}
        assert room(with_criu) == []


def test_a_mapped_restore_and_a_plain_one_have_the_same_memory(
    with_criu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZS_MAP_MB", "0")
    with kernel() as python:
        python.run("import zerostart_jupyter.snapshot as z\n" + ARRAYS)
        python.run("b = [bytes([n]) * (5 << 20) for n in range(4)]; c = numpy.zeros(9 << 20, 'u1')")
        python.run("import torch; t = torch.arange(5 << 20); u = torch.empty(16 << 20)")
        python.run("import pandas; p = pandas.DataFrame({'n': range(1 << 14)}); del b[1]")
        python.run("z.snapshot('plain')")
        # What is let go, grows (mremap) and is new, between two saves of one kernel.
        python.run("del b[0]; t[1 << 20] += 1; u.resize_(20 << 20); d = [[n] for n in range(9999)]")
        python.run("a.resize((44 << 20,), refcheck=False); q = p.assign(m=[str(n) for n in p.n])")
        python.run("z.snapshot('later')")
    monkeypatch.delenv("ZS_MAP_MB")
    first = _mapped_copy("plain", "mapped")
    second = _mapped_copy("later", "later-mapped", first)
    assert len(first.manifest().memory) >= 3
    kept = first.manifest().memory.keys() & second.manifest().memory.keys()
    assert len(kept) >= 2, "what did not change, and what changed a little"
    kill = os.kill

    def leave_stopped(pid: int, number: int) -> None:
        if (pid, number) != (-1, signal.SIGCONT):
            kill(pid, number)

    monkeypatch.setattr(os, "kill", leave_stopped)
    for plain, other in (("plain", "mapped"), ("later", "later-mapped")):
        one, two = map(_memory_of, (plain, other))
        assert sum(map(len, one.values())) > 100 * MIB
        assert one.keys() == two.keys()
        # The kernel notes in each thread's struct rseq on which processor it runs.
        assert all(_span(one[at], two[at]) <= 32 for at in one)


def _mapped_copy(name: str, as_name: str, *before: SnapshotInfo) -> SnapshotInfo:
    """The same images once more, with what can be mapped in files."""
    catalog = Catalog(Settings.read())
    found = catalog.get(name)
    about: dict[str, Any] = {"name": as_name, "tier": "process"}
    with catalog.publish(as_name, about) as directory:
        images = directory / "images"
        shutil.copytree(found.images, images, dirs_exist_ok=True)
        with Batch(catalog.store, as_name) as batch:
            mapped.out(
                images, batch, 4 * MIB, lambda: None, lambda: (each.images for each in before)
            )
        paths = {each.path for each in listed(images)}
        memory = {str(each.path): (each.length, each.digest) for each in of(catalog.store, paths)}
        body = {each: getattr(found.manifest(), each) for each in Manifest.__dataclass_fields__}
        body |= {"digests": digests(images), "memory": memory}
        Manifest(**body).write(directory)
        about["memory"] = sorted({Path(each).parent.name for each in memory})
        about["bytes"] = batch.bytes + Manifest(**body).bytes
    return catalog.get(as_name)


def _memory_of(name: str) -> dict[int, bytes]:
    """Every page of a restored kernel that does not run yet."""
    each = restored.prepare(name)
    try:
        answer = each.reader.wait()
        assert answer["kind"] == "restored", wire.revive(answer)
        (kernel_,) = psutil.Process(each.outer).children()[0].children()
        assert kernel_.status() == psutil.STATUS_STOPPED
        return _memory(kernel_.pid)
    finally:
        each.kill()


def _memory(pid: int) -> dict[int, bytes]:
    """Every byte a process can read, page by page from where each mapping begins."""
    found = {}
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            ends, mode, *_, last = line.split()
            if mode[0] == "r" and last not in ("[vvar]", "[vvar_vclock]", "[vsyscall]"):
                start, end = (int(each, 16) for each in ends.split("-"))
                for at in range(start, end, 1 << 16):
                    memory.seek(at)
                    block = memory.read(min(1 << 16, end - at))
                    if block.count(0) != len(block):
                        for page in range(0, len(block), 4096):
                            found[at + page] = block[page : page + 4096]
    return {at: page for at, page in found.items() if any(page)}


def _span(one: bytes, two: bytes) -> int:
    """Bytes from the first to the last that differs."""
    if one == two:
        return 0
    places = [at for at, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
    return places[-1] + 1 - places[0]


def _maps(kernel_: Kernel) -> list[psutil._ntuples.pmmap_grouped]:
    family = psutil.Process(kernel_.pid).children(recursive=True)
    (deepest,) = [each for each in family if not each.children()]
    return list(deepest.memory_maps())
