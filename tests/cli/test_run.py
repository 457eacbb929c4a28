from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
assert "torch" not in sys.modules, "what is not asked for is not imported"
import transformers.modeling_utils
print(transformers.modeling_utils.safe_open.__module__)
"""


@pytest.mark.parametrize(
    ("options", "home"),
    [([], "builtins"), (["--accelerate"], "zerostart_jupyter.load.drop_in")],
)
def test_accelerate_is_for_what_the_script_imports(
    tmp_path: Path, options: list[str], home: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, "-m", "zerostart", "run", *options, script],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ZEROSTART_CACHE": str(tmp_path / "cache")},
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, home), ran.stderr
