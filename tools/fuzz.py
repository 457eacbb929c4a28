"""`make fuzz`: atheris against everything that reads a wheel; the corpus is kept.

    .venv/bin/python tools/fuzz.py [SECONDS]

In an environment of its own: what it builds must not come between the product and its tests. An
input that fails is left in .work/fuzz and named; run the harness on it to see it again.
"""

from __future__ import annotations

import os
import sys

import pip_configuration
from steps import PYTHON, ROOT, VENV, Word, digest, main_guard, once, run, step

FUZZER = ROOT / ".tools" / "fuzzer"
WORK = ROOT / ".work" / "fuzz"
NEEDS = ("atheris>=3", "isal>=1.8", "packaging>=26", "installer>=1.0")
LIMITS = ("-rss_limit_mb=1500", "-timeout=30", "-max_len=8192", "-print_final_stats=1")


def main() -> None:
    set_up()
    seconds = sys.argv[1] if len(sys.argv) > 1 else "300"
    corpus = WORK / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    command: list[Word] = [FUZZER / "bin" / "python", "-m", "tests.fuzz.harness", corpus]
    command += [f"-max_total_time={seconds}", f"-artifact_prefix={WORK}/", *LIMITS]
    with step(f"Fuzzing for {seconds} s; what is found lies in {WORK.relative_to(ROOT)}"):
        run(command, environ={"PYTHONPATH": str(ROOT)})


def set_up() -> None:
    arguments, variables = pip_configuration.for_uv(pip_configuration.read(str(PYTHON)), os.environ)
    with once("fuzzer", digest([], sys.version, *NEEDS)) as needed:
        if not needed and (FUZZER / "bin" / "python").exists():
            return
        with step("Installing atheris in an environment of its own"):
            uv: list[Word] = [VENV / "bin" / "uv"]
            run([*uv, "venv", "--quiet", "--clear", "--python", PYTHON, FUZZER], environ=variables)
            inside: list[Word] = ["--quiet", "--python", FUZZER / "bin" / "python"]
            run([*uv, "pip", "install", *inside, *arguments, *NEEDS], environ=variables)


if __name__ == "__main__":
    main_guard(main)
