"""Rows of the dump matrix: files and what else has a descriptor."""

from __future__ import annotations

from tests.snapshot.matrix.state import State

STATES = [
    State(
        "a file that is read",
        """
        (here / 'read').write_text('one\\ntwo\\n')
        reads = open(here / 'read')
        _ = reads.readline()
        """,
        "reads.readline() == 'two\\n'",
    ),
    State(
        "a file that is appended to, and has grown since",
        "log = open(here / 'log', 'a'); _ = log.write('one\\n'); log.flush()",
        """
        _ = log.write('more\\n'); log.flush()
        (here / 'log').read_text().startswith('one\\nmore\\n')
        """,
    ),
    State(
        "a deleted file of 2 MiB",
        """
        deleted = open(here / 'deleted', 'w+b')
        deleted.write(b'd' * (2 << 20)); deleted.flush()
        (here / 'deleted').unlink()
        """,
        "deleted.seek(0); deleted.read().count(b'd') == 2 << 20",
    ),
    State(
        "a temporary file without a name",
        """
        import tempfile
        nameless = tempfile.TemporaryFile()
        nameless.write(b'n' * (2 << 20)); nameless.flush()
        """,
        "nameless.seek(0); nameless.read().count(b'n') == 2 << 20",
    ),
    State(
        "a file that was replaced by another of its name",
        """
        (here / 'replaced').write_text('old')
        replaced = open(here / 'replaced')
        (here / 'new').write_text('new!')
        (here / 'new').replace(here / 'replaced')
        """,
        "replaced.seek(0); replaced.read() == 'old' and (here / 'replaced').read_text() == 'new!'",
    ),
    State(
        "a file with a second name whose first was deleted",
        """
        (here / 'first').write_text('linked')
        os.link(here / 'first', here / 'second')
        linked = open(here / 'first')
        (here / 'first').unlink()
        """,
        refused="deleted, whose file has another name",
        undo="linked.close()",
    ),
    State(
        "an open directory",
        "(here / 'folder').mkdir(); folder = os.open(here / 'folder', os.O_RDONLY)",
        "os.listdir(folder) == []",
    ),
    State(
        "the descriptor of a path (O_PATH)",
        "(here / 'pathed').touch(); pathed = os.open(here / 'pathed', os.O_PATH)",
        "os.readlink(f'/proc/self/fd/{pathed}') == str(here / 'pathed')",
    ),
    State(
        "a named pipe",
        """
        os.mkfifo(here / 'fifo')
        fifo = os.open(here / 'fifo', os.O_RDWR)
        """,
        "os.write(fifo, b'in') == 2 and os.read(fifo, 9) == b'in'",
    ),
    State(
        "flock",
        "flocked = open(here / 'flocked', 'w'); fcntl.flock(flocked, fcntl.LOCK_EX)",
        """
        def is_flocked():
            with open(here / 'flocked') as other:
                try: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError: return True
        is_flocked()
        """,
        beside="is locked by another program",
    ),
    State(
        "a lock of a part of a file (fcntl)",
        "partly = open(here / 'partly', 'w'); fcntl.lockf(partly, fcntl.LOCK_EX, 10, 5)",
        """
        test = f'''import fcntl
        try: fcntl.lockf(open({str(here / "partly")!r}, 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
        except OSError: print('locked')'''
        subprocess.run([sys.executable, '-c', test], capture_output=True).stdout == b'locked\\n'
        """,
        beside="is locked by another program",
    ),
    State(
        "sqlite in a transaction",
        """
        import sqlite3
        database = sqlite3.connect(here / 'data.sqlite', isolation_level=None)
        database.execute('create table t(x)'); database.execute('insert into t values(1)')
        database.execute('begin immediate'); database.execute('insert into t values(2)')
        """,
        """
        rows = database.execute('select x from t').fetchall()
        rows == [(1,), (2,)] and database.in_transaction
        """,
        beside="is locked by another program",
    ),
    State(
        "sqlite between transactions, with a log (WAL)",
        """
        import sqlite3
        ahead = sqlite3.connect(here / 'ahead.sqlite')
        ahead.execute('pragma journal_mode=wal'); ahead.execute('create table t(x)')
        ahead.execute('insert into t values(1)'); ahead.commit()
        """,
        "ahead.execute('select x from t').fetchall() == [(1,)]",
    ),
    State("a device", "urandom = open('/dev/urandom', 'rb')", "len(urandom.read(9)) == 9"),
    State(
        "an open file of /proc",
        "own_status = open('/proc/self/status')",
        "own_status.seek(0); own_status.read().startswith('Name:')",
    ),
    State(
        "eventfd",
        "events = os.eventfd(5)",
        "os.eventfd_read(events) == 5 and not os.eventfd_write(events, 5)",
    ),
    State(
        "timerfd",
        """
        timer = called(libc.timerfd_create(1, 0))
        called(libc.timerfd_settime(timer, 0, struct.pack('4q', 0, 0, 0, 1_000_000), None))
        """,
        """
        called(libc.timerfd_settime(timer, 0, struct.pack('4q', 0, 0, 0, 1_000_000), None))
        os.read(timer, 8) == struct.pack('Q', 1)
        """,
    ),
    State(
        "signalfd",
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN + 3})
        signals = called(libc.signalfd(-1, struct.pack('Q', 1 << signal.SIGRTMIN + 2), 0))
        """,
        """
        signal.pthread_kill(threading.get_ident(), signal.SIGRTMIN + 3)
        struct.unpack_from('I', os.read(signals, 128))[0] == signal.SIGRTMIN + 3
        """,
    ),
    State(
        "inotify",
        """
        (here / 'watched').mkdir()
        watch = called(libc.inotify_init1(0))
        called(libc.inotify_add_watch(watch, str(here / 'watched').encode(), 0x100))
        """,
        "(here / 'watched' / os.urandom(4).hex()).touch(); len(os.read(watch, 4096)) == 32",
        rootless="inotify watches, which only root can dump",
        undo="os.close(watch)",
    ),
    State(
        "epoll",
        """
        wakes, wakes_up = os.pipe()
        polled = select.epoll()
        polled.register(wakes, select.EPOLLIN)
        """,
        "os.write(wakes_up, b'.'); polled.poll(30) == [(wakes, select.EPOLLIN)]",
    ),
    State(
        "pidfd of a child",
        """
        lives = subprocess.Popen(['cat'], stdin=subprocess.PIPE)
        pidfd = os.pidfd_open(lives.pid)
        """,
        """
        lives.stdin.close(); lives.wait(30)
        bool(select.select([pidfd], [], [], 30)[0])
        """,
    ),
    State(
        "pidfd of itself",
        "itself = os.pidfd_open(os.getpid())",
        "signal.pidfd_send_signal(itself, 0) is None",
    ),
    State(
        "pidfd of another program",
        "another = os.pidfd_open(1)",
        refused="a pidfd of another program",
        undo="os.close(another)",
    ),
    State(
        "io_uring",
        "ring = called(libc.syscall(425, 8, (ctypes.c_char * 120)()))",
        refused="an io_uring",
        undo="os.close(ring)",
    ),
    State(
        "userfaultfd",
        "faults = called(libc.syscall({'x86_64': 323, 'aarch64': 282}[os.uname().machine], 1))",
        refused="a userfaultfd",
        undo="os.close(faults)",
        root=True,
    ),
    State(
        "fanotify",
        "fanotify = called(libc.fanotify_init(0, 0))",
        refused="a fanotify watch",
        undo="os.close(fanotify)",
        root=True,
    ),
    State(
        "a perf event",
        """
        attributes = struct.pack('IIQQQQQ', 1, 112, 0, 0, 0, 0, 1).ljust(112, b'\\0')
        number = {'x86_64': 298, 'aarch64': 241}[os.uname().machine]
        perf = called(libc.syscall(number, attributes, 0, -1, -1, 0))
        """,
        refused="a perf event",
        undo="os.close(perf)",
        root=True,
    ),
    State(
        "a BPF map",
        """
        number = {'x86_64': 321, 'aarch64': 280}[os.uname().machine]
        array_of_one = struct.pack('5I', 2, 4, 4, 1, 0).ljust(72, b'\\0')
        bpf = called(libc.syscall(number, 0, array_of_one, 72))
        """,
        refused="a BPF map",
        undo="os.close(bpf)",
        root=True,
    ),
    State(
        "a POSIX message queue",
        """
        messages = called(libc.mq_open(b'/zs-matrix', 0o102, 0o600, None))
        called(libc.mq_unlink(b'/zs-matrix'))
        """,
        refused="on no mount that can be seen",
        undo="os.close(messages)",
    ),
    State(
        "a FUSE device",
        "fuse = os.open('/dev/fuse', os.O_RDWR)",
        refused="a FUSE filesystem",
        undo="os.close(fuse)",
        root=True,
    ),
]
