"""Rows of the dump matrix: sockets."""

from __future__ import annotations

from tests.snapshot.matrix.state import State

STATES = [
    State(
        "a TCP server",
        """
        import http.server
        class Answers(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200); self.end_headers(); self.wfile.write(b'here')
            def log_message(self, *_): pass
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Answers)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        """,
        """
        import urllib.request
        page = urllib.request.urlopen(f'http://127.0.0.1:{server.server_port}', timeout=30)
        page.read() == b'here'
        """,
        beside="is in use",
    ),
    State(
        "a TCP server on IPv6",
        "server6 = socket.create_server(('::1', 0), family=socket.AF_INET6)",
        """
        with socket.create_connection(server6.getsockname()[:2], timeout=30) as asks:
            accepted, _ = server6.accept()
            accepted.sendall(b'six'); accepted.close()
            got = asks.recv(3)
        got == b'six'
        """,
        beside="is in use",
    ),
    State(
        "a TCP connection to another program",
        "connected = socket.create_connection(('127.0.0.1', outside))",
        "connected.sendall(b'ping'); connected.recv(4) == b'ping'",
        restored="connected.settimeout(30); connected.recv(4) == b''",
        differs="closed; the snapshot names it",
    ),
    State(
        "a TCP connection to itself",
        """
        listens = socket.create_server(('127.0.0.1', 0))
        one_end = socket.create_connection(listens.getsockname())
        other_end, _ = listens.accept()
        """,
        "one_end.sendall(b'ping'); other_end.recv(4) == b'ping'",
        restored="one_end.settimeout(30); one_end.recv(4) == b''",
        differs="closed; the snapshot names it",
        beside="is in use",
    ),
    State(
        "a UDP socket",
        "udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(('127.0.0.1', 0))",
        """
        udp.settimeout(30)
        udp.sendto(b'ping', udp.getsockname()); udp.recv(4) == b'ping'
        """,
        beside="is in use",
    ),
    State(
        "a connected UDP socket (a resolver's)",
        """
        resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        resolver.connect(('127.0.0.1', 53))
        """,
        "resolver.getpeername() == ('127.0.0.1', 53)",
        beside="is in use",
    ),
    State(
        "a pair of unix sockets",
        "left, right = socket.socketpair(); left.sendall(b'under way')",
        """
        right.settimeout(30)
        right.recv(9) == b'under way' and left.sendall(b'under way') is None
        """,
    ),
    State(
        "a named unix socket",
        """
        named_server = socket.socket(socket.AF_UNIX)
        named_server.bind(str(here / 'named.sock')); named_server.listen()
        """,
        """
        with socket.socket(socket.AF_UNIX) as comes:
            comes.connect(str(here / 'named.sock'))
            accepted, _ = named_server.accept()
            accepted.sendall(b'unix'); accepted.close()
            came = comes.recv(4)
        came == b'unix'
        """,
    ),
    State(
        "an abstract unix socket",
        """
        abstract = socket.socket(socket.AF_UNIX)
        abstract.bind('\\0zs-matrix-' + os.urandom(4).hex()); abstract.listen()
        """,
        """
        with socket.socket(socket.AF_UNIX) as comes:
            comes.connect(abstract.getsockname())
            accepted, _ = abstract.accept()
            accepted.sendall(b'abst'); accepted.close()
            came = comes.recv(4)
        came == b'abst'
        """,
        beside="another program listens at",
    ),
    State(
        "a unix connection within the kernel",
        """
        inner = socket.socket(socket.AF_UNIX)
        inner.bind(str(here / 'inner.sock')); inner.listen()
        inner_one = socket.socket(socket.AF_UNIX); inner_one.connect(str(here / 'inner.sock'))
        inner_two, _ = inner.accept()
        """,
        "inner_one.sendall(b'in'); inner_two.settimeout(30); inner_two.recv(2) == b'in'",
    ),
    State(
        "a unix connection to another program",
        "bus = socket.socket(socket.AF_UNIX); bus.connect(outside_path)",
        refused="a unix socket to",
        undo="bus.close()",
    ),
    State(
        "unix datagrams to another program",
        """
        journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        journal.connect(outside_path + '-datagrams')
        """,
        refused="a unix socket to",
        undo="journal.close()",
    ),
    State(
        "half of a unix pair whose other half another program has",
        """
        kept, given = socket.socketpair()
        with socket.socket(socket.AF_UNIX) as way:
            way.connect(outside_path)
            socket.send_fds(way, [b'keep'], [given.fileno()])
            _ = way.recv(4)
        given.close()
        """,
        refused="a unix socket to",
        undo="kept.close()",
    ),
    State(
        "a pipe whose other end another program has",
        """
        half, handed = os.pipe()
        with socket.socket(socket.AF_UNIX) as way:
            way.connect(outside_path)
            socket.send_fds(way, [b'keep'], [handed])
            _ = way.recv(4)
        os.close(handed)
        """,
        "select.select([half], [], [], 0)[0] == []",
        restored="os.read(half, 1) == b''",
        differs="its other end is closed",
    ),
    State(
        "a netlink socket",
        "netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); netlink.bind((0, 0))",
        "netlink.getsockname()[1] == 0",
    ),
    State(
        "a packet socket",
        "packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))",
        "packets.fileno() >= 0",
        root=True,
    ),
    State(
        "a raw socket",
        "raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
        "raw.fileno() >= 0",
        root=True,
    ),
    State(
        "a socket of the virtual machine (vsock)",
        "vsock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
        refused="a socket of AF_VSOCK",
        undo="vsock.close()",
    ),
]
