"""A second `%zs_install` in a kernel adds to what the first one brought."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.install.conftest import publish
from tests.install.wheels import make
from tests.servers.index import Index

PATIENCE = 120.0
TOOL = "[console_scripts]\nzs-add-{0} = zs_add_{0}:main\n"
CODE = """
import importlib.metadata, json, shutil, subprocess, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()

def run(cell):
    result = shell.run_cell(cell)
    result.raise_error()
    return result.result

run("%load_ext zerostart")
url = sys.argv[1]
run(f"%zs_install zs-add-1 --index-url {url} --wait")
run(f"%zs_install zs-add-2 --index-url {url}")
names = ["zs_add_1", "zs_add_2", "zs_add_dep"]  # the first was not imported before the second came
code = f"print([__import__(name).V for name in {names}])"
print(json.dumps({
    "here": [run(f"import {name}; {name}.V") for name in names],
    "below": json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True).stdout),
    "versions": [importlib.metadata.version(name.replace("_", "-")) for name in names],
    "programs": [shutil.which(f"zs-add-{n}") is not None for n in (1, 2)],
    "twice": run(f"%zs_install zs-add-1 --index-url {url}").warm,
}))
"""


def test_a_second_install_adds_to_the_first(index: Index, tmp_path: Path) -> None:
    for number in "12":
        module = f"zs_add_{number}.py"
        publish(
            index,
            make(
                f"zs-add-{number}",
                files={module: f"V = {number}\ndef main(): pass\n".encode()},
                requires=["zs-add-dep"],
                entry_points=TOOL.format(number),
            ),
        )
    publish(index, make("zs-add-dep", "3.0", files={"zs_add_dep.py": b"V = 3\n"}))
    environ = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "ZEROSTART_CACHE": str(tmp_path / "cache"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE, index.url],
        capture_output=True,
        text=True,
        env=environ,
        cwd=tmp_path,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "here": [1, 2, 3],
        "below": [1, 2, 3],
        "versions": ["1.0", "1.0", "3.0"],
        "programs": [True, True],
        "twice": True,
    }
