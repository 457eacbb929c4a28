"""Rows of the dump matrix: memory of every kind."""

from __future__ import annotations

from tests.snapshot.matrix.state import DELETED, State

STATES = [
    State(
        "arrays large enough to be mapped",
        """
        import hashlib, numpy
        large = numpy.random.default_rng(0).integers(0, 255, 40 << 20, 'u1')
        digest = hashlib.sha256(large).hexdigest()
        """,
        "hashlib.sha256(large).hexdigest() == digest",
    ),
    State(
        "an allocation that grows (mremap)",
        """
        libc.malloc.restype = libc.realloc.restype = ctypes.c_void_p
        grows = libc.malloc(ctypes.c_size_t(34 << 20))
        _ = ctypes.memset(ctypes.c_void_p(grows), 65, 34 << 20)
        """,
        """
        grown = libc.realloc(ctypes.c_void_p(grows), ctypes.c_size_t(80 << 20))
        fresh = ctypes.string_at(grown + (34 << 20), (46 << 20) - 4096)
        set(ctypes.string_at(grown, 34 << 20)) == {65} and fresh.count(0) == len(fresh)
        """,
    ),
    State(
        "memory given back (madvise)",
        """
        hollow = mmap.mmap(-1, 48 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        hollow.write(b'x' * (48 << 20))
        hollow.madvise(mmap.MADV_DONTNEED, 8 << 20, 8 << 20)
        """,
        """
        hollow.madvise(mmap.MADV_DONTNEED, 24 << 20, 8 << 20)
        [hollow[at << 20] for at in (0, 8, 16, 24, 32)] == [120, 0, 120, 0, 120]
        """,
    ),
    State(
        "transparent huge pages",
        """
        huge = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        huge.madvise(mmap.MADV_HUGEPAGE)
        huge.write(b'h' * (16 << 20))
        """,
        "huge[:].count(b'h') == 16 << 20",
    ),
    State(
        "anonymous memory that processes share",
        "common = mmap.mmap(-1, 8 << 20); common[:4] = b'abcd'",
        """
        if not (child := os.fork()): common[4:8] = b'efgh'; os._exit(0)
        _ = os.waitpid(child, 0)
        common[:8] == b'abcdefgh'
        """,
    ),
    State(
        "a mapped file",
        """
        (here / 'mapped').write_bytes(b'm' * (4 << 20))
        mapping_file = open(here / 'mapped', 'r+b')
        mapping = mmap.mmap(mapping_file.fileno(), 0)
        """,
        "mapping[:4] = b'here'; (here / 'mapped').read_bytes()[:8] == b'heremmmm'",
    ),
    State(
        "numpy.memmap",
        """
        import numpy
        on_disk = numpy.memmap(here / 'memmap', dtype='i4', mode='w+', shape=(1 << 20,))
        on_disk[:] = 7
        """,
        "int(on_disk.sum()) == 7 << 20",
    ),
    State(
        "a file that is mapped privately and was changed",
        """
        (here / 'private').write_bytes(b'p' * (4 << 20))
        with open(here / 'private', 'rb') as changed_file:
            changed = mmap.mmap(changed_file.fileno(), 0, access=mmap.ACCESS_COPY)
        changed[100:104] = b'mine'
        """,
        "changed[98:106] == b'ppminepp' and (here / 'private').read_bytes()[98:106] == b'p' * 8",
    ),
    State(
        "a mapped file that is deleted",
        """
        (here / 'gone').write_bytes(b'g' * (3 << 20))
        gone_file = open(here / 'gone', 'r+b')
        gone = mmap.mmap(gone_file.fileno(), 0)
        (here / 'gone').unlink()
        """,
        "gone[:].count(b'g') == 3 << 20",
        rootless=DELETED,
        undo="gone.close(); gone_file.close()",
    ),
    State(
        "a library that is deleted (pip upgraded it)",
        """
        import _ctypes, shutil
        shutil.copy(_ctypes.__file__, here / 'library.so')
        library = ctypes.CDLL(str(here / 'library.so'))
        (here / 'library.so').unlink()
        """,
        "bool(library.PyInit__ctypes)",
        rootless=DELETED,
        undo="_ctypes.dlclose(library._handle); del library",
    ),
    State(
        "memfd",
        """
        memfd = os.memfd_create('matrix')
        os.ftruncate(memfd, 8 << 20)
        in_memfd = mmap.mmap(memfd, 8 << 20)
        in_memfd[:4] = b'abcd'
        """,
        "in_memfd[:4] == os.pread(memfd, 4, 0) == b'abcd'",
    ),
    State(
        "a sealed memfd",
        """
        sealed = os.memfd_create('sealed', os.MFD_ALLOW_SEALING)
        os.write(sealed, b'sealed')
        fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK)
        """,
        "os.pread(sealed, 9, 0) == b'sealed' and fcntl.fcntl(sealed, fcntl.F_GET_SEALS) == 10",
    ),
    State(
        "multiprocessing.shared_memory",
        """
        from multiprocessing import shared_memory
        shared = shared_memory.SharedMemory(create=True, size=8 << 20)
        shared.buf[:4] = b'abcd'
        """,
        """
        attached = shared_memory.SharedMemory(shared.name)
        bytes(attached.buf[:4]) == bytes(shared.buf[:4]) == b'abcd'
        """,
    ),
    State(
        "shared tensors",
        "import torch; tensor = torch.arange(1 << 21).share_memory_()",
        "tensor.is_shared() and int(tensor.sum()) == ((1 << 21) - 1 << 20)",
        rootless=DELETED,
        undo="del tensor",
    ),
    State(
        "semaphores between processes",
        "import multiprocessing; semaphore = multiprocessing.Semaphore(2); _ = semaphore.acquire()",
        "semaphore.get_value() == 1 and semaphore.acquire(timeout=30) and not semaphore.release()",
        rootless=DELETED,
        undo="del semaphore",
    ),
    State(
        "System V shared memory",
        """
        libc.shmat.restype = ctypes.c_void_p
        segment = called(libc.shmget(0, 1 << 20, 0o1600))
        segment_at = libc.shmat(segment, None, 0)
        called(libc.shmctl(segment, 0, None))
        _ = ctypes.memset(ctypes.c_void_p(segment_at), 83, 100)
        """,
        refused="System V shared memory",
        undo="called(libc.shmdt(ctypes.c_void_p(segment_at)))",
    ),
    State(
        "locked memory",
        """
        locked = mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        locked[:4] = b'lock'
        called(libc.mlock(ctypes.byref(ctypes.c_char.from_buffer(locked)), 1 << 16))
        """,
        """
        status = open('/proc/self/status').read()
        locked[:4] == b'lock' and int(status.split('VmLck:')[1].split()[0]) >= 64
        """,
    ),
    State(
        "memory of pyarrow's allocators",
        """
        import pyarrow
        pools = [pyarrow.system_memory_pool(), pyarrow.default_memory_pool()]
        columns = [pyarrow.array(range(3_000_000), memory_pool=pool) for pool in pools]
        """,
        """
        import pyarrow.compute
        more = [pyarrow.array(range(2_000_000), memory_pool=pool) for pool in pools]
        {pyarrow.compute.sum(each).as_py() for each in columns} == {4499998500000}
        """,
    ),
    State(
        "a torch model that has computed",
        """
        import torch
        model, ones = torch.nn.Linear(2048, 2048), torch.ones(64, 2048)
        with torch.no_grad(): expected = float(model(ones).sum())
        """,
        """
        with torch.no_grad(): now = float(model(ones).sum())
        now == expected
        """,
    ),
    State(
        "memory of jemalloc",
        """
        assert 'jemalloc' in open('/proc/self/maps').read()
        blocks = [bytes([n]) * (n * 50_000) for n in range(1, 60)]
        del blocks[::2]
        """,
        """
        blocks += [bytes([n]) * (n * 40_000) for n in range(1, 60)]
        all(each.count(each[0]) == len(each) for each in blocks)
        """,
        apart="its allocator is preloaded",
        environ={"LD_PRELOAD": "libjemalloc.so.2"},
    ),
]
