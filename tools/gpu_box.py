"""A CUDA machine without a network: carry along what it lacks, and test there with one command.

    python tools/gpu_box.py pack [--python 3.12]     here: fills the folder .gpu-box (≤ 64 MiB)
    python3 tools/gpu_box.py set-up                  there, first thing in `make test-gpu`

There torch and its CUDA libraries must be; `.gpu-box` brings CRIU, unpacked, and the wheels of
whatever else that machine lacks. `python3` is the one that has torch.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from steps import PYTHON, ROOT, VENV, Failed, Word, main_guard, run, say, step

BOX = ROOT / ".gpu-box"
LIMIT = 64 << 20  # bytes of wheels and CRIU together
# Those that a machine with torch lacks most likely; what is there already is not installed.
PACKAGES = (
    *("cuda-core", "cuda-bindings", "cuda-pathfinder", "nvidia-ml-py", "safetensors", "psutil"),
    *("ipykernel", "ipython", "jupyter-client", "jupyter-core", "traitlets", "tornado", "pyzmq"),
    *("comm", "debugpy", "nest-asyncio", "matplotlib-inline", "decorator", "jedi", "parso"),
    *("stack-data", "executing", "asttokens", "pure-eval", "pexpect", "ptyprocess", "wcwidth"),
    *("prompt-toolkit", "pygments", "python-dateutil", "six", "platformdirs", "packaging"),
    *("ipython-pygments-lexers", "typing-extensions", "isal", "installer", "pytest"),
    *("pytest-timeout", "pluggy", "iniconfig", "hypothesis", "sortedcontainers", "cloudpickle"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["check", "pack", "set-up"])
    parser.add_argument("--python", default="3.12", help="the Python of that machine")
    given = parser.parse_args()
    if given.action == "pack":
        pack(given.python)
        return
    check()
    if given.action == "set-up":
        set_up()


def check() -> None:
    """Raise Failed where there is no GPU to test with; nothing is set up then."""
    try:
        ran = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    except OSError:
        raise Failed("There is no NVIDIA driver here (nvidia-smi is missing).") from None
    if ran.returncode or "GPU " not in ran.stdout:
        raise Failed(f"There is no NVIDIA GPU here: {(ran.stderr or ran.stdout).strip()}.")


def pack(python: str) -> None:
    """Fill the folder: wheels for that Python, and CRIU as `zerostart setup criu` unpacked it."""
    shutil.rmtree(BOX, ignore_errors=True)
    (BOX / "wheels").mkdir(parents=True)
    with step(f"Fetching wheels for Python {python}"):
        platforms = [f"manylinux{each}_x86_64" for each in ("2014", "_2_17", "_2_27", "_2_28")]
        command: list[Word] = [PYTHON, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--python-version", python, "--dest", BOX / "wheels"]
        for each in platforms:
            command += ["--platform", each]
        run([*command, *PACKAGES])
    with step("Adding CRIU"):
        sys.path.insert(0, str(ROOT))
        from zerostart_jupyter.core.settings import Settings
        from zerostart_jupyter.core.store import Store

        entries = Store(Settings.read().cache).entries("tools")
        unpacked = [each.path for each in entries if each.key.startswith("criu")]
        if not unpacked:
            raise Failed("There is no unpacked CRIU; run `zerostart setup criu`.")
        run(["tar", "-czf", BOX / "criu.tar.gz", "-C", unpacked[-1], "."])
    size = sum(path.stat().st_size for path in BOX.rglob("*") if path.is_file())
    say(f"  {size / (1 << 20):.0f} MiB in {BOX.name}")
    if size > LIMIT:
        raise Failed(f"{BOX.name} is larger than {LIMIT >> 20} MiB.")


def set_up() -> None:
    """An environment over the machine's own Python, filled from the folder alone."""
    if not BOX.exists():
        return  # a machine with a network: tools/setup.py does all of it
    if importlib.util.find_spec("torch") is None:
        raise Failed(f"{sys.executable} has no torch; run `make test-gpu PYTHON=...` with one.")
    with step("Making an environment over this machine's Python"):
        VENV.mkdir(exist_ok=True)
        (VENV / "bin").mkdir(exist_ok=True)
        if not PYTHON.exists():
            run([sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", VENV])
        site = next((VENV / "lib").glob("python3*/site-packages"))
        # A venv made of a venv sees the first one's base alone.
        paths = [str(ROOT), *(each for each in sys.path if each.endswith("-packages"))]
        (site / "gpu-box.pth").write_text("\n".join(paths) + "\n")
    with step("Installing the wheels that came along"):
        wheels = sorted((BOX / "wheels").glob("*.whl"))
        pip: list[Word] = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index"]
        run([*pip, "--no-deps", "--upgrade", "--target", site, *wheels])
    with step("Unpacking CRIU"):
        root = BOX / "criu"
        root.mkdir(exist_ok=True)
        run(["tar", "-xzf", BOX / "criu.tar.gz", "-C", root])
        command = criu_command(root)
        program = VENV / "bin" / "criu"
        program.write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
        program.chmod(0o755)


def criu_command(root: Path) -> list[str]:
    """How CRIU is run under its own loader."""
    sys.path.insert(0, str(ROOT))
    from zerostart_jupyter.snapshot.criu import unpacked

    found = unpacked(root)
    if found is None:
        raise Failed(f"There is no CRIU in {root}.")
    return [os.fspath(each) for each in found]


if __name__ == "__main__":
    main_guard(main)
