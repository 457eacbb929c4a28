"""Folders of a project's source distribution, which need not be built for that.

    .venv/bin/python tools/fetch_sdist.py vllm==0.33.0 TARGET vllm/plugins/ ...

uv says where it is and what its sha256 is: pip would want to build it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pip_configuration
from steps import PYTHON, VENV, Failed, main_guard


def main() -> None:
    requirement, target, *folders = sys.argv[1:]
    about = locate(requirement)
    with tempfile.TemporaryFile() as file:
        sha256 = hashlib.sha256()
        with httpx.stream("GET", about["url"], follow_redirects=True, timeout=60) as answer:
            for block in answer.raise_for_status().iter_bytes():
                sha256.update(block)
                file.write(block)
        if sha256.hexdigest() != about["hashes"]["sha256"]:
            raise Failed(f"What came for {requirement} is not what the index promised.")
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            for member in archive:
                _, _, name = member.name.partition("/")
                if member.isfile() and name.endswith(".py") and name.startswith(tuple(folders)):
                    path = Path(target, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    content = archive.extractfile(member)
                    assert content is not None
                    path.write_bytes(content.read())


def locate(requirement: str) -> dict[str, Any]:
    """What a lock says of the source distribution."""
    configured = pip_configuration.read(str(PYTHON))
    arguments, variables = pip_configuration.for_uv(configured, os.environ)
    os.environ.update(variables)  # certificates and proxies hold for us, too
    command = [str(VENV / "bin" / "uv"), "pip", "compile", "--quiet", "--no-deps", *arguments]
    done = subprocess.run(
        [*command, "--format", "pylock.toml", "--python", str(PYTHON), "-"],
        input=requirement,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(f"uv does not find {requirement}.")
    (package,) = tomllib.loads(done.stdout)["packages"]
    return dict(package["sdist"])


if __name__ == "__main__":
    main_guard(main)
