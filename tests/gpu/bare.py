"""Runs the GPU tests of loading where nothing can be installed: `python tests/gpu/bare.py`.

Wants a Python with torch, and pytest and safetensors as wheels in a directory that is carried along
(WHEELS, `wheels` by default); says what is missing. With `--bench GIB` it then measures.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
CARRIED = ("pytest", "safetensors")
# The project's own configuration asks for plug-ins of pytest's.
OPTIONS = ("-q", "-rs", "-c", os.devnull, f"--rootdir={ROOT}", "--import-mode=importlib")


def main() -> int:
    """The exit status of pytest, or of the measurement after it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--wheels", type=Path, default=ROOT / "wheels")
    parser.add_argument("--bench", type=float, default=0.0, metavar="GIB")
    parser.add_argument("--tests", default="tests/gpu/test_load.py")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
        environ["ZEROSTART_CACHE"] = f"{folder}/cache"
        missing = [name for name in CARRIED if importlib.util.find_spec(name) is None]
        if missing:
            install = ["-m", "pip", "install", "--quiet", "--no-index", "--target", folder]
            wheels = ["--find-links", str(asked.wheels)]
            subprocess.run([sys.executable, *install, *wheels, *missing], check=True)
        tests = [sys.executable, "-m", "pytest", *OPTIONS, asked.tests]
        status = subprocess.run(tests, cwd=ROOT, env=environ).returncode
        if status == 0 and asked.bench:
            code = (
                "import sys, json; from zerostart_jupyter.bench import load; "
                "size = int(float(sys.argv[1]) * 2**30); "
                "report = load.measure(3, lambda text: None, size=size); "
                "print(report.markdown()); print(json.dumps(report.as_json()))"
            )
            measure = [sys.executable, "-c", code, str(asked.bench)]
            status = subprocess.run(measure, cwd=ROOT, env=environ).returncode
    return status


if __name__ == "__main__":
    sys.exit(main())
