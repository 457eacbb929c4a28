"""The index this machine is configured for, and uv's own result beside ours."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zerostart_jupyter.core.events import Hub
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.install import gather, install
from zerostart_jupyter.install.indexes import read_indexes
from zerostart_jupyter.install.resolve import find_uv

# .data, scripts, exec bits, extension modules, namespaces, one wheel of several segments
SPECS = ("six", "idna", "markdown-it-py", "jupyterlab-widgets", "ruff", "numpy", "google-api-core")
OWN = {"INSTALLER", "REQUESTED", "direct_url.json", "RECORD", "uv_cache.json", "uv_build.json"}


def content(site: Path) -> dict[str, str]:
    """Mode and digest of every file that a wheel brought."""
    found = {}
    for path in sorted(site.rglob("*")):
        name = path.relative_to(site)
        own = path.name in OWN and path.parent.suffix == ".dist-info"
        if path.is_file() and not own and name.parts[0] not in ("bin", "share", ".lock", "etc"):
            mode = bool(path.stat().st_mode & 0o111)
            found[str(name)] = f"{mode} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return found


@pytest.mark.network
def test_the_result_is_uvs_byte_for_byte(settings: Settings, tmp_path: Path) -> None:
    request = gather(SPECS)
    found = install(request=request, settings=settings, hub=Hub(), activate=False)
    pinned = [f"{name}=={version}" for name, version in found.distributions]
    indexes = read_indexes(request.index)
    command = [find_uv(), "pip", "install", "--quiet", "--target", str(tmp_path / "uv-target")]
    command += ["--no-deps", "--python", sys.executable, *indexes.arguments, *pinned]
    subprocess.run(command, check=True, timeout=240, env={**os.environ, **indexes.environment})
    ours, theirs = content(found.site_packages), content(tmp_path / "uv-target")
    assert len(ours) > 500
    assert ours == theirs
    programs = {path.name for path in found.bin.iterdir()}
    assert programs >= {path.name for path in (tmp_path / "uv-target" / "bin").iterdir()} - {
        "__pycache__"
    }
    said = subprocess.run([found.bin / "ruff", "--version"], capture_output=True, check=True)
    assert said.stdout.startswith(b"ruff ")
    again = install(request=request, settings=settings, hub=Hub(), activate=False)
    assert again.warm
