"""A `run` of a script again, with nothing changed since: its environment without asking.

Most runs are that, and what leads to the answer takes longer than Python's own start. So once an
answer was found, what it depended on is noted, and compared before anything is parsed: the words,
the interpreter, the variables, the script, each file that was read or looked for. Whatever differs
is a run like the first. A note holds digests only: settings may have passwords.

This is imported before everything else, and imports next to nothing.
"""

from __future__ import annotations

import os
import sys
import time

from zerostart_jupyter import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zerostart_jupyter.core.store import Store

ROOM = "locked"  # beside the answers
_NOTE = "replay"
_SCHEMA = "1"
_MARKER = "entry.json"
_PREFIXES = ("UV_", "PIP_", "ZS_", "ZEROSTART_")
_VARIABLES = (
    *("HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"),
    *("SSL_CERT_FILE", "SSL_CLIENT_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)

_began = time.time()
_path = tuple(sys.path[1:])  # before any environment is on it; the first is of who started us
_asked = ""  # the key under which `status()` last found nothing


def status(words: Sequence[str]) -> int | None:
    """The exit status of a script that was run with exactly these words before, run again; None
    if it is to be run like the first time."""
    try:
        found = _find(words)
    except OSError:  # the cache cannot be used: the first way says why
        return None
    if found is None:
        return None
    environment, site, children, script, count = found
    from zerostart_jupyter.install import entering, running

    entering.enter(site, os.path.join(environment, "bin"), children, whole=True)
    return running.script(script, words[len(words) - int(count) :])


def keep(
    store: Store,
    script: str,
    words: Sequence[str],
    environment: str,
    site: str,
    children: str,
    answer: str,
    lasts: tuple[float, float],
    named: Iterable[str],
    files: Iterable[str],
) -> None:
    """Note what the last run that `status()` found nothing for came to.

    `words` are the script's own; `answer` is the entry that says which wheels, valid from and
    until the seconds since the epoch that `lasts` has; `files` were read, or looked for in vain, as
    were those that were `named`, which may be links. Where one was changed since this process
    began, nobody knows which of the two the answer is for, and nothing is noted.
    """
    named = [os.path.abspath(each) for each in named]
    files = [*named, *map(os.path.abspath, files)]
    if not _asked or any(_changed(each) >= _began for each in files):
        return
    inputs = [f"r{each}" for each in named]
    inputs += [f"f{each}" for each in files]
    inputs += [f"s{each}" for each in (*_path, os.path.join(answer, _MARKER)) if each]
    digest = _digest(map(_state, inputs))
    created, until = lasts
    head = (_SCHEMA, created, until, digest, environment, site, children, script, len(words))
    if store.path(ROOM, _asked).exists():
        store.remove(ROOM, _asked)
    with store.publish(ROOM, _asked, {"replay": script}) as staging:
        text = "\0".join([*map(str, head), *inputs])
        (staging / _NOTE).write_bytes(os.fsencode(text))


def _find(words: Sequence[str]) -> tuple[str, str, str, str, str] | None:
    """The environment, its site-packages and directory for children, the script, and how many of
    the words are its own; the environment is held from now on."""
    global _asked
    _asked = _key(words)
    note = _read(os.path.join(_cache(), ROOM, _asked, _NOTE))
    if len(note) < 9 or note[0] != _SCHEMA:
        return None
    _, created, until, digest, environment, site, children, script, count, *inputs = note
    if not count.isdecimal():
        return None
    if not _number(created) <= time.time() < _number(until):
        return None  # as the answer itself: a clock may have been wrong
    from zerostart_jupyter.core.flocks import Flock

    name = f".environments-{os.path.basename(environment)}"
    held = Flock.on_file(os.path.join(_cache(), "locks", name), shared=True)
    if held is None:
        return None
    if _digest(map(_state, inputs)) != digest or not _is_there(environment, children):
        held.release()
        return None
    held.detach()  # for this process and its forks, until they end
    _touch(os.path.join(environment, ".zerostart", "used"))
    return environment, site, children, script, count


def _cache() -> str:
    """As `Settings` has it."""
    given = os.environ.get("ZEROSTART_CACHE") or "~/.cache/zerostart"
    return os.path.abspath(os.path.expanduser(given))


def _key(words: Sequence[str]) -> str:
    variables = [
        f"{name}={value}"
        for name, value in sorted(os.environ.items())
        if name.startswith(_PREFIXES) or name in _VARIABLES
    ]
    interpreter = (sys.version, sys.executable, sys.prefix, sys.base_prefix, *os.uname())
    groups = ([__version__], words, [os.getcwd()], interpreter, _path, variables)
    return _digest(os.fsencode(each) for group in groups for each in (str(len(group)), *group))


def _changed(path: str) -> float:
    """When a file was written, or put there; 0 if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return 0.0
    return max(status.st_mtime, status.st_ctime)


def _touch(path: str) -> None:
    try:
        os.utime(path)
    except OSError:
        return


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _read(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read()).split("\0")
    except OSError:
        return []


def _is_there(environment: str, children: str) -> bool:
    return os.path.exists(os.path.join(environment, _MARKER)) and os.path.exists(
        os.path.join(children, "sitecustomize.py")
    )


def _state(kind_and_path: str) -> bytes:
    """A file's content, where a link leads, or when a directory or an entry was changed."""
    kind, path = kind_and_path[:1], kind_and_path[1:]
    try:
        if kind == "r":
            return os.fsencode(os.path.realpath(path))
        if kind == "f":
            with open(path, "rb") as file:
                return b"1" + file.read()
        status = os.stat(path)
        return f"{status.st_ino} {status.st_mtime_ns}".encode()
    except OSError:
        return b""


def _digest(parts: Iterable[bytes]) -> str:
    try:
        from _blake2 import blake2b  # hashlib brings OpenSSL, which takes 2 ms
    except ImportError:
        from hashlib import blake2b
    found = blake2b(digest_size=16)
    for part in parts:
        found.update(b"%d:" % len(part))
        found.update(part)
    return str(found.hexdigest())
