"""An ordinary user, made for the tests where they run as root, and kernels that it starts.

What the user cannot read because it lies in root's home (the interpreter, say) is mounted where it
can, in a mount namespace of the user's own.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient

from tests.patience import PATIENCE
from tests.snapshot.kernels import Cells

ROOT = Path(__file__).parents[2]
_DRIVER = Path(__file__).with_name("ordinary_manager.py")


class User:
    """An ordinary user with a home, a Python that has this package, and no capability.

    `home` holds everything it writes; `environment` is what its processes get.
    """

    def __init__(self, home: Path, name: str, prefix: Sequence[str]) -> None:
        self.home = home
        self.name = name
        self.python = sys.executable
        self._prefix = list(prefix)
        self.environment = {
            "HOME": str(home),
            "USER": name,
            "LOGNAME": name,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "ZEROSTART_CACHE": str(home / "cache"),
            "ZEROSTART_TEST": str(home),  # how leaked processes are found
            "JUPYTER_PLATFORM_DIRS": "1",
            "JUPYTER_DEFAULT_PROVISIONER_NAME": "zerostart",
        }
        for each in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            self.environment[each] = str(home / each.lower())

    def command(self, *argv: str) -> list[str]:
        """The command line that runs this one as the user."""
        return [*self._prefix, *argv]

    def give(self, source: Path, target: Path) -> None:
        """Copy a directory to a place of the user's."""
        shutil.copytree(source, target, symlinks=True)
        owner = self.home.stat()
        for each in [*target.parents[: len(target.relative_to(self.home).parts) - 1], target]:
            _own(each, owner)
        for each in target.rglob("*"):
            _own(each, owner)

    def forbidding_namespaces(self) -> User:
        """The same user where there may be no user namespaces: in one that has them forbidden."""
        within = ["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c"]
        within.append('echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"')
        dropping = ["setpriv", "--inh-caps=-all", "--ambient-caps=-all"]
        return User(self.home, self.name, [*self._prefix, *within, "sh", *dropping])

    def forget(self) -> None:
        """Remove what it wrote, but for its tools."""
        for each in self.home.iterdir():
            if each.name not in (".mounts", "cache"):
                shutil.rmtree(each) if each.is_dir() else each.unlink()
        for each in (self.home / "cache").glob("*"):
            if each.name != "tools":
                shutil.rmtree(each) if each.is_dir() else each.unlink()

    def run(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run Python as the user, with these arguments and variables on top."""
        return subprocess.run(
            self.command(self.python, *argv),
            env=self.environment | env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE,
            check=False,
        )

    @contextmanager
    def kernel(self, name: str = "python3", **env: str) -> Iterator[OrdinaryKernel]:
        """A kernel that this user's KernelManager started through our provisioner."""
        with _Manager(self, name, env) as manager, manager.client() as client:
            yield OrdinaryKernel(manager, client)


class OrdinaryKernel(Cells):
    """A kernel with a client of ours, and its owner in another process."""

    def __init__(self, manager: _Manager, client: BlockingKernelClient) -> None:
        super().__init__(client)
        self.manager = manager

    @property
    def pid(self) -> int:
        """The process that the manager owns."""
        return int(self.manager.ask("pid"))


class _Manager:
    """The user's KernelManager, which obeys over a pipe."""

    def __init__(self, user: User, name: str, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            user.command(user.python, str(_DRIVER), name),
            env=user.environment | env,
            cwd=user.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.connection_file = str(self._hear())

    def ask(self, method: str, **options: Any) -> Any:
        """Have it call a method of the KernelManager; what that returned."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([method, options]) + "\n")
        self._process.stdin.flush()
        return self._hear()

    @contextmanager
    def client(self) -> Iterator[BlockingKernelClient]:
        client = BlockingKernelClient(connection_file=self.connection_file)
        client.load_connection_file()
        client.start_channels()
        try:
            self.wait_for_ready(client)
            yield client
        finally:
            client.stop_channels()

    def wait_for_ready(self, client: BlockingKernelClient) -> None:
        """Wait until it answers; a client takes a kernel that is slow to start for a dead one."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                client.wait_for_ready(timeout=PATIENCE)
                return
            except RuntimeError:
                assert self.ask("is_alive"), "the kernel died"
                assert time.monotonic() < deadline, "the kernel does not answer"

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the user's KernelManager ended"
        return json.loads(line)

    def __enter__(self) -> _Manager:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # closes its stdin: it shuts the kernel down, and ends
            pass


@contextmanager
def made() -> Iterator[User]:
    """The user: a new one for root, removed at the end; otherwise who runs the tests."""
    if os.geteuid() != 0:
        with tempfile.TemporaryDirectory(prefix="zerostart-user-") as home:
            name = pwd.getpwuid(os.geteuid()).pw_name
            yield User(Path(home), name, [])
        return
    home = Path(tempfile.mkdtemp(prefix="zerostart-user-"))
    name = f"zerostart{os.getpid()}"
    _quietly("useradd", "--no-create-home", "--home-dir", str(home), "--user-group", name)
    try:
        home.chmod(0o755)
        user = pwd.getpwnam(name)
        os.chown(home, user.pw_uid, user.pw_gid)
        prefix = [*_mounting(home), "setpriv", "--reuid", name, "--regid", name, "--init-groups"]
        prefix += ["--inh-caps=-all", "--ambient-caps=-all"]
        yield User(home, name, prefix)
    finally:
        _quietly("userdel", name)
        shutil.rmtree(home)


def _mounting(home: Path) -> list[str]:
    """A command prefix that has the interpreter and this repository be where anybody can read.

    What is in a closed directory (root's home) is mounted into an empty one in its place.
    """
    closed: dict[Path, Path] = {}
    for needed in (Path(sys.base_prefix), ROOT, Path(sys.prefix)):
        first = next((up for up in [*needed.parents[::-1], needed] if not _open_to_all(up)), None)
        if first is not None:
            closed[needed] = first
    if not closed:
        return []
    lines = ["set -e"]
    for number, needed in enumerate(closed):
        lines.append(f"mkdir -p {home}/.mounts/{number}")
        lines.append(f"mount --bind {needed} {home}/.mounts/{number}")
    lines += [f"mount -t tmpfs -o mode=755 none {first}" for first in set(closed.values())]
    for number, needed in enumerate(closed):
        lines.append(f"mkdir -p {needed}")
        lines.append(f"mount --bind {home}/.mounts/{number} {needed}")
    return ["unshare", "--mount", "sh", "-c", "\n".join([*lines, 'exec "$@"']), "sh"]


def _open_to_all(path: Path) -> bool:
    return path.stat().st_mode & 0o005 == 0o005


def _own(path: Path, owner: os.stat_result) -> None:
    os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _quietly(*argv: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while subprocess.run(argv, check=False, capture_output=True).returncode:
        assert time.monotonic() < deadline, f"{argv[0]} failed"  # another one has the passwd file
        time.sleep(0.1)
