"""Rows of the dump matrix: what runs, in the kernel and below it."""

from __future__ import annotations

from tests.snapshot.matrix.state import DELETED, State

STATES = [
    State(
        "a thread that waits for work",
        """
        import queue
        asked, answered = queue.Queue(), queue.Queue()
        def serve():
            while True: answered.put(asked.get() * 2)
        threading.Thread(target=serve, daemon=True).start()
        """,
        "asked.put(21); answered.get(timeout=30) == 42",
    ),
    State(
        "a thread that computes",
        """
        counted = 0
        def count():
            global counted
            while True: counted += 1; time.sleep(0.001)
        threading.Thread(target=count, daemon=True).start()
        """,
        """
        seen = counted
        deadline = time.monotonic() + 30
        while counted == seen and time.monotonic() < deadline: time.sleep(0.01)
        counted > seen
        """,
    ),
    State(
        "a pool of threads",
        """
        import concurrent.futures
        threads = concurrent.futures.ThreadPoolExecutor(8)
        assert list(threads.map(abs, range(-8, 0))) == list(range(8, 0, -1))
        """,
        "list(threads.map(abs, [-3, 4])) == [3, 4]",
    ),
    State(
        "a thread that waits for a lock",
        """
        lock, passed = threading.Lock(), threading.Event()
        lock.acquire()
        def wait_for_lock():
            with lock: passed.set()
        threading.Thread(target=wait_for_lock, daemon=True).start()
        """,
        """
        held = lock.locked() and not passed.is_set()
        lock.release()
        held and passed.wait(30)
        """,
    ),
    State(
        "an asyncio task",
        """
        ticks = 0
        async def tick():
            global ticks
            while True: ticks += 1; await asyncio.sleep(0.001)
        ticking = asyncio.create_task(tick())
        """,
        """
        then = ticks
        await asyncio.sleep(0.05)
        ticks > then and not ticking.done()
        """,
    ),
    State(
        "an asyncio task that waits for an event",
        """
        happened = asyncio.Event()
        waiting = asyncio.create_task(happened.wait())
        await asyncio.sleep(0)
        """,
        """
        pending = not waiting.done() or happened.is_set()
        happened.set()
        pending and await asyncio.wait_for(waiting, 30)
        """,
    ),
    State(
        "a generator half way",
        "half_way = (n * n for n in range(10)); rest = [next(half_way) for _ in range(3)]",
        "list(half_way) == [9, 16, 25, 36, 49, 64, 81]",
    ),
    State(
        "signal handlers and a mask",
        """
        caught = []
        signal.signal(signal.SIGUSR2, lambda *_: caught.append('usr2'))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
        """,
        """
        os.kill(os.getpid(), signal.SIGUSR2)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, set())
        caught[-1:] == ['usr2'] and signal.SIGWINCH in mask
        """,
    ),
    State(
        "an interval timer",
        """
        rang = []
        signal.signal(signal.SIGALRM, lambda *_: rang.append(1))
        signal.setitimer(signal.ITIMER_REAL, 1000, 1000)
        """,
        "0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1000 and not rang",
    ),
    State(
        "limits, niceness, umask",
        """
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (12345, 23456))
        os.umask(0o027)
        """,
        "resource.getrlimit(resource.RLIMIT_CORE) == (12345, 23456) and os.umask(0o027) == 0o027",
    ),
    State(
        "a subprocess with pipes",
        "cat = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)",
        """
        cat.stdin.write(b'ping\\n'); cat.stdin.flush()
        cat.stdout.readline() == b'ping\\n' and cat.poll() is None
        """,
    ),
    State(
        "bytes on their way in a pipe",
        "reading, writing = os.pipe(); _ = os.write(writing, b'on its way')",
        "os.read(reading, 100) == b'on its way' and os.write(writing, b'on its way') == 10",
    ),
    State(
        "a pool of forked processes",
        """
        import multiprocessing
        forks = multiprocessing.get_context('fork').Pool(2)
        assert forks.map(abs, [-1, 2]) == [1, 2]
        """,
        "forks.map(abs, [-5, 6, -7]) == [5, 6, 7]",
        rootless=DELETED,
        undo="forks.terminate(); forks.join(); del forks",
    ),
    State(
        "a pool of spawned processes",
        """
        import concurrent.futures, multiprocessing
        spawned = concurrent.futures.ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context('spawn'))
        assert list(spawned.map(abs, [-1])) == [1]
        """,
        refused="deleted, whose file has another name",
        undo="spawned.shutdown(); del spawned",
    ),
    State(
        "a queue between processes",
        """
        import multiprocessing
        fork = multiprocessing.get_context('fork')
        to_child, from_child = fork.Queue(), fork.Queue()
        def answer(asked, answered):
            while True: answered.put(asked.get() + 1)
        fork.Process(target=answer, args=(to_child, from_child), daemon=True).start()
        to_child.put(1)
        assert from_child.get(timeout=30) == 2
        """,
        "to_child.put(41); from_child.get(timeout=30) == 42",
        rootless=DELETED,
        undo="fork.active_children()[-1].kill(); del to_child, from_child",
    ),
    State(
        "a manager's process",
        """
        import multiprocessing
        manager = multiprocessing.get_context('fork').Manager()
        managed = manager.dict(a=1)
        """,
        "managed['b'] = 2; dict(managed) == {'a': 1, 'b': 2}",
    ),
    State(
        "workers of a DataLoader",
        """
        import torch
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(torch.arange(100.0)), batch_size=4, num_workers=2,
            persistent_workers=True)
        batches = iter(loader)
        assert next(batches)[0].tolist() == [0, 1, 2, 3]
        """,
        "sum(float(each.sum()) for each, in batches) == sum(range(4, 100))",
        rootless=DELETED,
        undo="batches._shutdown_workers(); del loader, batches",
    ),
    State(
        "a child that has ended and was not waited for",
        """
        ended = subprocess.Popen(['sh', '-c', 'exit 3'])
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        """,
        "ended.wait(30) == 3",
    ),
    State(
        "a child that is stopped",
        """
        stopped = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        os.kill(stopped.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
        """,
        """
        os.kill(stopped.pid, signal.SIGCONT)
        stopped.communicate(b'woken', timeout=30)[0] == b'woken'
        """,
    ),
    State(
        "a child in a session of its own",
        """
        leader = subprocess.Popen(
            ['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        """,
        """
        own = os.getsid(leader.pid) == leader.pid
        own and leader.communicate(b'here', timeout=30)[0] == b'here'
        """,
    ),
    State(
        "a child that another user runs",
        """
        nobody = subprocess.Popen(
            ['sh', '-c', 'read line; id -u'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            user=65534, cwd='/')
        """,
        "nobody.communicate(b'go\\n', timeout=30)[0] == b'65534\\n'",
        refused="another user's rights",
        undo="_ = nobody.communicate(b'go\\n', timeout=30)",
        needs=24,
        root=True,
        differs="refused where CAP_SYS_RESOURCE is withheld",
    ),
    State(
        "an interactive shell on a terminal of the kernel's own",
        """
        import pty
        main, side = os.openpty()
        shell = subprocess.Popen(['sh'], stdin=side, stdout=side, stderr=side,
                                 start_new_session=True, env={'PS1': ''})
        """,
        """
        os.write(main, b'echo $((40 + 2))\\n')
        said = b''
        while b'42' not in said: said += os.read(main, 100)
        shell.poll() is None
        """,
        rootless="a terminal of its own, which only root can restore",
        undo="shell.kill(); _ = shell.wait(); os.close(main); os.close(side)",
    ),
    State(
        "a child under a seccomp filter",
        """
        under_seccomp = subprocess.Popen([sys.executable, '-c', '''
        import ctypes, struct, sys
        libc = ctypes.CDLL(None)
        assert libc.prctl(38, 1, 0, 0, 0) == 0
        allow = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
        program = struct.pack('HxxxxxxP', 1, ctypes.addressof(allow))
        assert libc.prctl(22, 2, program, 0, 0) == 0
        print('ready', flush=True)
        sys.stdin.readline()
        print(*[line.split()[1] for line in open('/proc/self/status') if 'Seccomp:' in line])
        '''], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert under_seccomp.stdout.readline() == b'ready\\n'
        """,
        "under_seccomp.communicate(b'go\\n', timeout=30)[0] == b'2\\n'",
        rootless="a seccomp filter, which only root can dump",
        undo="_ = under_seccomp.communicate(b'go\\n', timeout=30)",
    ),
    State(
        "a child in another root directory",
        """
        (here / 'root').mkdir()
        jailed = subprocess.Popen([sys.executable, '-c', f'''
        import os, sys
        os.chroot({str(here / "root")!r}); os.chdir('/')
        print('ready', flush=True)
        sys.stdin.readline()
        print(os.listdir('/'))
        '''], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert jailed.stdout.readline() == b'ready\\n'
        """,
        "jailed.communicate(b'go\\n', timeout=30)[0] == b'[]\\n'",
        root=True,
    ),
    State(
        "a child in a mount namespace of its own",
        """
        elsewhere = subprocess.Popen(
            ['unshare', '-m', 'sh', '-c', 'echo ready; read line; echo there'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert elsewhere.stdout.readline() == b'ready\\n'
        """,
        refused="a mount namespace of its own",
        undo="_ = elsewhere.communicate(b'go\\n', timeout=30)",
        root=True,
    ),
    State(
        "a child in a network namespace of its own",
        """
        offline = subprocess.Popen(
            ['unshare', '-n', 'sh', '-c', 'echo ready; read line; echo there'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert offline.stdout.readline() == b'ready\\n'
        """,
        refused="a network namespace of its own",
        undo="_ = offline.communicate(b'go\\n', timeout=30)",
        root=True,
    ),
    State(
        "a child in a user and pid namespace of its own",
        """
        contained = subprocess.Popen(
            ['unshare', '-Urpf', '--mount-proc', 'sh', '-c', 'echo ready; read line; echo there'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert contained.stdout.readline() == b'ready\\n'
        """,
        refused="a user namespace of its own",
        undo="_ = contained.communicate(b'go\\n', timeout=30)",
    ),
    State(
        "a child in a host name namespace of its own",
        """
        named = subprocess.Popen(
            ['unshare', '-u', 'sh', '-c', 'echo ready; read line; echo there'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert named.stdout.readline() == b'ready\\n'
        """,
        refused="a host name namespace of its own",
        undo="_ = named.communicate(b'go\\n', timeout=30)",
        root=True,
    ),
    State(
        "a child that is traced",
        """
        traced = subprocess.Popen(['sleep', '1000'])
        called(libc.ptrace(0x4206, traced.pid, None, None))
        """,
        refused="a tracer",
        undo="libc.ptrace(17, traced.pid, None, None); traced.kill(); traced.wait()",
    ),
    State(
        "a kernel that is traced",
        """
        tracer = subprocess.Popen([sys.executable, '-c', '''if True:
            import ctypes, os
            ptrace = ctypes.CDLL(None).ptrace
            assert ptrace(0x4206, os.getppid(), None, None) == 0
            print('ready', flush=True)
            while True:
                pid, status = os.waitpid(-1, 0)
                if os.WIFSTOPPED(status):
                    ptrace(7, pid, None, ctypes.c_void_p(os.WSTOPSIG(status)))
        '''], stdout=subprocess.PIPE)
        assert tracer.stdout.readline() == b'ready\\n'
        """,
        refused="a tracer",
        undo="tracer.kill(); _ = tracer.wait()",
    ),
    State(
        "a kernel with a debugger attached",
        refused="a debugger that is attached",
        debugged=True,
        undo="True",
        apart="a debugger looks at every cell",
    ),
    State(
        "widgets with callbacks",
        """
        import ipywidgets
        slider, moved = ipywidgets.IntSlider(value=3, max=100), []
        slider.observe(lambda change: moved.append(change['new']), 'value')
        """,
        """
        before = slider.value
        update = {'method': 'update', 'state': {'value': before + 1}, 'buffer_paths': []}
        slider.comm.handle_msg({'content': {'data': update}, 'buffers': []})
        moved[-1] == slider.value == before + 1
        """,
    ),
    State(
        "a kernel under a seccomp filter",
        """
        called(libc.prctl(38, 1, 0, 0, 0))
        allow = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
        called(libc.prctl(22, 2, struct.pack('HxxxxxxP', 1, ctypes.addressof(allow)), 0, 0))
        """,
        refused="A seccomp filter is active",
        apart="a filter is not taken back",
    ),
    State(
        "a kernel whose working directory is deleted",
        """
        (here / 'working').mkdir()
        os.chdir(here / 'working')
        (here / 'working').rmdir()
        """,
        "os.readlink('/proc/self/cwd').startswith(str(here / 'working'))",
        apart="the working directory is the whole kernel's",
    ),
]
