"""Brings in a CRIU that is new enough, without root: apt's packages, unpacked into the store.

On Debian they are the newest suite's, on Ubuntu whatever apt's own sources offer, a PPA's too.
They run under their own loader and libraries, so that nothing of the system is touched. Mirrors,
proxies and keys are those that the machine's own apt is configured with.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from zerostart_jupyter.core.errors import CriuMissing
from zerostart_jupyter.core.events import Operation, State, operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.snapshot import criu

ROOM = "tools"
SUITE = "sid"  # Debian's suite that always has the newest
_TIMEOUT = 600.0  # seconds for one run of apt
_ETC = Path("/etc")
_KEYRINGS = Path("/usr/share/keyrings")

Told = Callable[[str, float], None]  # a step that is done, and the seconds it took


def fetch(settings: Settings | None = None, told: Told = lambda step, seconds: None) -> criu.Criu:
    """The CRIU that is unpacked now; raises CriuMissing that says what to install by hand."""
    settings = settings or Settings.read()
    store = Store(settings.cache)
    release = _os_release()
    with operation("setup", "criu", unit="steps") as work, store.lock("setup-criu"):
        source = _source(release)
        with tempfile.TemporaryDirectory(prefix="zerostart-apt-") as folder:
            apt = _Apt(Path(folder), source)
            name = source.split()[-2] if source else "apt's own sources"
            with _step(work, told, f"read the list of packages of {name}"):
                apt.update()
            with _step(work, told, "download CRIU and the libraries it needs"):
                packages = apt.download("criu")
            with _step(work, told, f"unpack {len(packages)} packages"):
                return _unpack(store, packages)


def _unpack(store: Store, packages: Sequence[Path]) -> criu.Criu:
    own = next(path for path in packages if path.name.startswith("criu_"))
    key = f"{criu.TOOL}-" + re.sub(r"[^A-Za-z0-9._-]", "-", own.stem.removeprefix("criu_"))
    store.remove(ROOM, key)
    about = {"packages": [each.name for each in packages]}
    with store.publish(ROOM, key, about) as root:
        for each in packages:
            _run(["dpkg", "-x", str(each), str(root)])
        found = criu.probe(criu.unpacked(root) or [os.devnull])
        if found is None or not found.new_enough:
            why = "is older than 4.2" if found else "does not run here"
            raise CriuMissing(
                f"What {own.name.partition('_')[2]} holds {why}.", remedy=_by_hand(_os_release())
            )
    return criu.Criu(tuple(criu.unpacked(store.path(ROOM, key)) or ()), found.version)


class _Apt:
    """apt-get with one source, or with its own, and with all its state below one folder."""

    def __init__(self, folder: Path, source: str | None) -> None:
        for name in ("lists/partial", "cache/archives/partial", "state"):
            (folder / name).mkdir(parents=True)
        status = folder / "state/status"  # nothing is installed; its lock lies beside it
        status.touch()
        self._archives = folder / "cache/archives"
        self._update = ["update"]
        options: dict[str, object] = {}
        if source is not None:
            listed = folder / "sources.list"
            listed.write_text(source + "\n")
            options = {"Dir::Etc::SourceList": listed, "Dir::Etc::SourceParts": os.devnull}
            self._update.append("--error-on=any")  # of the machine's own some may be down
        options |= {
            "Dir::State::Lists": folder / "lists",
            "Dir::State::status": status,
            "Dir::Cache": folder / "cache",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": getpass.getuser(),  # apt's own user may not enter this folder
            "Acquire::Languages": "none",
        }
        words = (("-o", f"{name}={value}") for name, value in options.items())
        self._command = ["apt-get", "-q", *(word for pair in words for word in pair)]

    def update(self) -> None:
        _run([*self._command, *self._update])

    def download(self, package: str) -> list[Path]:
        _run([*self._command, "-y", "--download-only", "install", package])
        return sorted(self._archives.glob("*.deb"))


def _source(release: Mapping[str, str]) -> str | None:
    """One line of sources.list for Debian's newest, at the mirror this machine uses.

    None on Ubuntu and its children: the sources that apt has.
    """
    tools = [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]
    family = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    if not family & {"debian", "ubuntu"} or tools:
        raise CriuMissing(
            "CRIU 4.2 is unpacked on its own only on Debian and Ubuntu.", remedy=_by_hand(release)
        )
    if "ubuntu" in family:
        return None
    keyring = next((path for path in sorted(_KEYRINGS.glob("debian-archive-keyring.*"))), None)
    mirror = next(_mirrors(release.get("VERSION_CODENAME", "")), None)
    if keyring is None or mirror is None:
        missing = "keyring" if keyring is None else "mirror"
        raise CriuMissing(
            f"apt on this machine names no Debian {missing}.",
            remedy="Install the package debian-archive-keyring, and a Debian source for apt.",
        )
    return f"deb [signed-by={keyring}] {mirror} {SUITE} main"


def _mirrors(codename: str) -> Iterator[str]:
    """URIs of the sources for this release's main suite, one-line style and deb822 alike."""
    apt = _ETC / "apt"
    for path in (apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))):
        try:
            text = path.read_text()
        except OSError:
            continue
        if path.suffix == ".sources":
            for stanza in re.split(r"\n\s*\n", text):
                fields = dict(re.findall(r"^([\w-]+):\s*(.+)$", stanza, re.MULTILINE))
                suites = fields.get("Suites", "").split()
                if "deb" in fields.get("Types", "").split() and codename in suites:
                    yield from fields.get("URIs", "").split()
        else:
            for line in text.splitlines():
                found = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s", line + " ")
                if found and found[2] == codename:
                    yield found[1]


def _by_hand(release: Mapping[str, str]) -> str:
    family = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    if "ubuntu" in family:
        return "Run `sudo add-apt-repository ppa:criu/ppa`, and then this again."
    if family & {"fedora", "rhel"}:
        return "Run `sudo dnf install criu` and see that it is 4.2 or newer."
    if "arch" in family:
        return "Run `sudo pacman -S criu`."
    if "debian" in family:
        return "Install CRIU 4.2 or newer from Debian sid, and set ZS_CRIU to it."
    return "Install CRIU 4.2 or newer (https://criu.org/Installation), and set ZS_CRIU to it."


def _os_release() -> dict[str, str]:
    try:
        text = (_ETC / "os-release").read_text()
    except OSError:
        return {}
    return {name: value.strip("\"'") for name, value in re.findall(r"^(\w+)=(.*)$", text, re.M)}


@contextmanager
def _step(work: Operation, told: Told, name: str) -> Iterator[None]:
    work.check()
    work.update(name)
    began = time.monotonic()
    yield
    work.update(name, state=State.DONE)
    told(name, time.monotonic() - began)


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CriuMissing(f"{command[0]} did not work: {error}.", remedy="Try again.") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        reason = (said or done.stderr.strip().splitlines() or ["it did not say why"])[0]
        raise CriuMissing(
            f"{command[0]} failed: {reason.removeprefix('E: ')}.".replace("..", "."),
            remedy="Check the network and apt's configuration, and try again.",
        )
