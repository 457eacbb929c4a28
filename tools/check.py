"""`make lint`, `make test`, `make test-all` and the rest: every gate, and pytest last.

    .venv/bin/python tools/check.py lint | test | all | gpu | vllm

A gate that fails does not keep the others from running; pytest runs when all have passed, and its
summary is the last thing printed. Tests that need what this machine lacks are deselected, each
group with its reason.
"""

from __future__ import annotations

import ctypes.util
import shutil
import subprocess
import sys

from abilities import no_snapshots
from setup import FRONTEND, browser_is_missing
from steps import PYTHON, ROOT, VENV, Failed, Word, main_guard, run, say, step, with_venv

BIN = VENV / "bin"
SOURCES = ["zerostart_jupyter", "zerostart.py", "tests", "tools"]
GATES: dict[str, list[Word]] = {
    "ruff check": [BIN / "ruff", "check", "--quiet", *SOURCES],
    "ruff format": [BIN / "ruff", "format", "--quiet", "--check", *SOURCES],
    "mypy --strict": [BIN / "mypy", "--no-error-summary"],
    "import-linter: who may import whom": [BIN / "lint-imports", "--no-cache"],
}
FRONTEND_GATES: dict[str, list[Word]] = {
    "tsc: the lab panel's types": ["jlpm", "tsc", "--noEmit"],
    "the lab panel's unit tests": ["jlpm", "test"],
}
CORE_COVERAGE: list[Word] = [
    *(PYTHON, "-m", "pytest", "-q", "tests/core", "--cov=zerostart_jupyter.core"),
    *("--cov-branch", "--cov-fail-under=100", "--cov-report=term-missing:skip-covered"),
]


def main() -> None:
    what = sys.argv[1] if len(sys.argv) == 2 else ""
    if what == "gpu":
        if shutil.which("nvidia-smi") is None:
            raise Failed("There is no NVIDIA driver here (nvidia-smi is missing).")
        sys.exit(pytest("gpu", {}))
    if what == "vllm":
        sys.exit(pytest("vllm", {}))
    if what not in ("lint", "test", "all"):
        raise Failed("Say what: lint, test, all, gpu or vllm.")
    gates(with_coverage=what != "lint")
    if what != "lint":
        wanted = "not gpu and not vllm"
        sys.exit(pytest(wanted if what == "all" else f"not slow and {wanted}", missing()))


def gates(*, with_coverage: bool) -> None:
    """Run every gate; raises Failed with the names of those that did not pass."""
    failed = []
    plan = [(name, command, ROOT) for name, command in GATES.items()]
    plan += [(name, command, FRONTEND) for name, command in FRONTEND_GATES.items()]
    if with_coverage:
        plan.append(("core: 100 % of lines and branches", CORE_COVERAGE, ROOT))
    for name, command, folder in plan:
        try:
            with step(name):
                run(command, folder=folder, quiet=True)
        except Failed as error:
            say(f"  ✗ {error}")
            failed.append(name)
    if failed:
        raise Failed(f"Not passed: {', '.join(failed)}.")


def missing() -> dict[str, str]:
    """Markers whose tests cannot run on this machine, with the reason."""
    found = {}
    if browser_is_missing():
        found["e2e"] = "no browser; `apt-get install chromium libatomic1`"
    reason = no_snapshots()
    if reason is not None:
        found["criu"] = reason
    if ctypes.util.find_library("jemalloc") is None:
        found["jemalloc"] = "no jemalloc; `apt-get install libjemalloc2`"
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        found["compiler"] = "no C compiler; `apt-get install gcc libc6-dev`"
    if not may_mount():
        found["fuse"] = "needs /dev/fuse and the right to make a user and a mount namespace"
    return found


def may_mount() -> bool:
    """Whether a test can mount a file system of its own, for itself alone."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "test", "-w", "/dev/fuse"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def pytest(markers: str, without: dict[str, str]) -> int:
    """Run the tests, saying what is left out and why; pytest's own exit code."""
    for marker, reason in without.items():
        say(f"! Left out: tests marked `{marker}`: {reason}")
        markers += f" and not {marker}"
    say(f"▸ pytest -m {markers!r}")
    command: list[Word] = [PYTHON, "-m", "pytest", "-m", markers]
    return subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, env=with_venv(), check=False
    ).returncode


if __name__ == "__main__":
    main_guard(main)
