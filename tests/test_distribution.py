"""What users download: built in a clean copy, with an isolated build, on a machine without Node."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pip._internal.models.index import PyPI

from tests.core.test_connections_tls import PROXIES, Tunnel, running
from tools import pip_configuration

ROOT = Path(__file__).resolve().parents[1]
MB = 1_000_000
PANEL = "data/share/jupyter/labextensions/zerostart-jupyter"
TOOLS = ("sh", "bash", "env", "uname", "cat", "dirname", "readlink", "sed")  # a build may use them

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git has of the working tree."""
    folder = tmp_path_factory.mktemp("source")
    packed = subprocess.run(
        ["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def without_node(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which no Node is to be found."""
    folder = tmp_path_factory.mktemp("tools")
    for name in TOOLS:
        program = shutil.which(name)
        assert program, name
        (folder / name).symlink_to(program)
    return {**os.environ, "PATH": str(folder)}


def build(folder: Path, to: Path, environ: dict[str, str]) -> Path:
    """A wheel of what lies in this folder."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(to)]
    subprocess.run([*command, str(folder)], check=True, env=environ)
    [wheel] = to.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(
    source: Path, without_node: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return build(source, tmp_path_factory.mktemp("wheel"), without_node)


class Refusing(Tunnel):
    """A proxy that lets nobody through but to the hosts that are allowed."""

    allowed: set[str]
    refused: list[str]

    def do_CONNECT(self) -> None:
        if self.path.rpartition(":")[0] in self.allowed:
            super().do_CONNECT()
        else:
            self.refuse()

    def refuse(self) -> None:
        self.refused.append(self.path)
        self.send_error(403)

    do_GET = do_HEAD = do_POST = do_PUT = refuse


def hosts() -> set[str]:
    """Whom pip asks on this machine: the places it is configured for, else its own index."""
    pip = pip_configuration.read()
    urls = [pip.get("index-url", PyPI.simple_url), f"https://{PyPI.file_storage_domain}"]
    for option in ("extra-index-url", "find-links"):
        urls += pip.get(option, "").split()
    return {host for url in urls if (host := urlsplit(url).hostname)}


@pytest.fixture(scope="module")
def proxy() -> type[Refusing]:
    """What the install's proxy was asked for."""
    kept = {"allowed": hosts(), "asked": [], "refused": []}
    return type("Proxy", (Refusing,), kept)


@pytest.fixture(scope="module")
def installed(wheel: Path, proxy: type[Refusing], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel and what it needs, by way of the proxy alone."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    with running(proxy, None) as port:
        url = f"http://127.0.0.1:{port}"
        names = ("PIP_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        kept = {name: value for name, value in os.environ.items() if name.lower() not in PROXIES}
        through = kept | dict.fromkeys(names, url)
        subprocess.run([*pip, str(wheel)], check=True, cwd=folder, env=through)
    return folder


def ask(installed: Path, home: Path, *words: str) -> str:
    """What a program of the fresh environment says, in a home of its own."""
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "HOME": str(home),
        "JUPYTER_PLATFORM_DIRS": "1",
        "PATH": f"{installed / 'bin'}:{os.environ['PATH']}",
        "ZEROSTART_CACHE": str(home / "cache"),
    }
    ran = subprocess.run(
        [str(installed / "bin" / words[0]), *words[1:]],
        cwd=home,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout + ran.stderr)  # without its colours


def test_the_wheel_is_small_and_has_both_faces(wheel: Path) -> None:
    assert wheel.stat().st_size < 1 * MB
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    assert "zerostart.py" in names
    assert "zerostart_jupyter/jupyter/server/schema/openapi.yaml" in names
    assert any(f"{PANEL}/static/remoteEntry." in name for name in names)
    assert any(name.endswith("jupyter_server_config.d/zerostart_jupyter.json") for name in names)
    assert not [name for name in names if name.startswith("zerostart_jupyter/labextension")]


def test_the_source_distribution_is_small_and_builds_the_same_without_building_the_panel(
    source: Path, wheel: Path, without_node: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "source"
    shutil.copytree(source, folder)
    with_panel(folder, wheel)
    command = [sys.executable, "-m", "build", "--sdist", "--outdir", str(tmp_path)]
    subprocess.run([*command, str(folder)], check=True, capture_output=True, env=without_node)
    [packed] = tmp_path.glob("*.tar.gz")
    assert packed.stat().st_size < 2 * MB
    with tarfile.open(packed) as archive:
        names = archive.getnames()
        archive.extractall(tmp_path, filter="data")
    assert not [name for name in names if "node_modules" in name or "/.yarn/" in name]
    assert any(name.endswith("zerostart_jupyter/labextension/package.json") for name in names)
    unpacked = tmp_path / packed.name.removesuffix(".tar.gz")
    again = build(unpacked, tmp_path / "again", without_node)
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert sorted(first.namelist()) == sorted(second.namelist())


def with_panel(folder: Path, wheel: Path) -> None:
    """Lay the panel where a build puts it, out of a wheel that was built."""
    with zipfile.ZipFile(wheel) as opened:
        for name in opened.namelist():
            _, panel, rest = name.partition(f"{PANEL}/")
            if panel and rest != "install.json":
                target = folder / "zerostart_jupyter" / "labextension" / rest
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(opened.read(name))


@pytest.mark.usefixtures("installed")
def test_an_install_asks_the_index_and_nobody_else(proxy: type[Refusing]) -> None:
    assert proxy.refused == []
    assert proxy.asked


def test_a_wheel_brings_the_panel_and_the_server_extension_enabled(
    installed: Path, tmp_path: Path
) -> None:
    listed = ask(installed, tmp_path, "jupyter", "labextension", "list")
    (panel,) = [line for line in listed.splitlines() if "zerostart-jupyter" in line]
    assert "enabled" in panel
    assert "OK" in panel
    listed = ask(installed, tmp_path, "jupyter", "server", "extension", "list")
    (server,) = [line for line in listed.splitlines() if "zerostart_jupyter" in line][-1:]
    assert "OK" in server
    assert "zerostart_jupyter enabled" in listed


def test_a_notebook_loads_the_extension_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = (
        "import zerostart_jupyter\n%load_ext zerostart\n"
        "print(zerostart_jupyter.__file__)\nprint(get_ipython().find_line_magic('zs_install'))"
    )
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    notebook = {"cells": [{**cell, "source": code}], "metadata": {}}
    (tmp_path / "one.ipynb").write_text(
        json.dumps({**notebook, "nbformat": 4, "nbformat_minor": 4})
    )
    ask(installed, tmp_path, "jupyter", "execute", "--inplace", "one.ipynb")
    (output,) = json.loads((tmp_path / "one.ipynb").read_text())["cells"][0]["outputs"]
    where, magic = "".join(output["text"]).splitlines()
    assert Path(where).is_relative_to(installed)
    assert "ZerostartMagics.zs_install" in magic


def test_the_wheel_brings_the_command(installed: Path, tmp_path: Path) -> None:
    assert ask(installed, tmp_path, "zerostart", "--version").startswith("zerostart 0.")
    found = json.loads(ask(installed, tmp_path, "zerostart", "doctor", "--json"))
    assert {each["name"]: each["ok"] for each in found}["snapshot: portable"]
