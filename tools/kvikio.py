"""Put kvikio beside the project, for the tests of the cufile reader: `python tools/kvikio.py`.

An ordinary installation brings 2.7 GB of CUDA libraries. Against a fake libcuda the tests need
only the wheels named here, 6 MB in all; they go to `.tools/kvikio`, apart from the environment,
so that everything else is tested as a machine without kvikio sees it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import uv

WHEELS = (
    "kvikio-cu13==26.10.*",
    "libkvikio-cu13==26.10.*",
    "rapids-logger==0.3.*",
    "cuda-pathfinder>=1.3,<2",
    "nvidia-cufile>=1.15,<2",
)
TARGET = Path(__file__).resolve().parents[1] / ".tools" / "kvikio"
MARKER = TARGET / ".complete"


def main() -> int:
    wanted = "\n".join((sys.version.split()[0], *WHEELS))
    if MARKER.exists() and MARKER.read_text() == wanted:
        print("kvikio for the tests: already there")
        return 0
    print(f"kvikio for the tests: {len(WHEELS)} wheels into {TARGET}", flush=True)
    began = time.monotonic()
    shutil.rmtree(TARGET, ignore_errors=True)
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps"]
    subprocess.run(
        [*command, "--python", sys.executable, "--target", str(TARGET), *WHEELS], check=True
    )
    MARKER.write_text(wanted)
    size = sum(path.lstat().st_size for path in TARGET.rglob("*") if path.is_file())
    print(f"kvikio for the tests: {size / 1e6:.0f} MB in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
