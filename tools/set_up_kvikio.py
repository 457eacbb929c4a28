"""Puts kvikio beside the project for the tests of the cufile reader.

    .venv/bin/python tools/set_up_kvikio.py

An ordinary installation brings 2.7 GB of CUDA libraries. Against the tests' own libcuda it needs
no more than the wheels named here, 6 MB; they go to .tools/kvikio, apart from the environment, so
that all other tests run on a machine without kvikio.
"""

from __future__ import annotations

import os
import shutil

import pip_configuration
from steps import PYTHON, ROOT, VENV, Word, digest, main_guard, once, run, step

WHEELS = (
    "kvikio-cu13==26.10.*",
    "libkvikio-cu13==26.10.*",
    "rapids-logger==0.3.*",
    "cuda-pathfinder>=1.3,<2",
    "nvidia-cufile>=1.15,<2",
)
TARGET = ROOT / ".tools" / "kvikio"


def main() -> None:
    arguments, variables = pip_configuration.for_uv(pip_configuration.read(str(PYTHON)), os.environ)
    with once("kvikio", digest([], *WHEELS)) as needed:
        if not needed and (TARGET / "kvikio").is_dir():
            return
        with step("Fetching kvikio for the tests, without the CUDA libraries"):
            shutil.rmtree(TARGET, ignore_errors=True)
            uv: list[Word] = [VENV / "bin" / "uv", "pip", "install", "--quiet", "--python", PYTHON]
            uv += [*arguments, "--no-deps", "--target", TARGET, *WHEELS]
            run(uv, environ=variables)


if __name__ == "__main__":
    main_guard(main)
