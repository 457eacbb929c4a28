from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts.device import OnDevice
from tests.gpu.bare import OPTIONS

ROOT = Path(__file__).parents[2]
# What a machine with a GPU and no network would lack.
ABSENT = (
    *("httpx", "IPython", "ipykernel", "jupyter_client", "jupyter_server", "ipywidgets", "isal"),
    *("installer", "uv", "packaging", "pynvml", "huggingface_hub", "transformers", "hypothesis"),
    *("kvikio", "fastsafetensors", "runai_model_streamer", "cryptography", "trustme"),
)


class TestOnCpu(OnDevice):
    device = "cpu"


@pytest.mark.parametrize(
    ("file", "options", "words"),
    [
        ("tests/gpu/test_load.py", ("--collect-only",), "tests collected"),
        ("tests/load/test_device.py", ("-k", "TestOnCpu and bit_for_bit"), "6 passed"),
    ],
)
def test_torch_safetensors_and_pytest_are_all_it_takes(
    file: str, options: tuple[str, ...], words: str
) -> None:
    code = f"""
import sys
import pytest  # which has a packaging of its own use
sys.modules.update(dict.fromkeys({ABSENT!r}))
sys.exit(pytest.main([*{OPTIONS!r}, {file!r}, *{options!r}]))
"""
    environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert words in done.stdout


def test_the_script_for_such_a_machine_runs() -> None:
    command = [
        sys.executable,
        "tests/gpu/bare.py",
        "--tests",
        "tests/load/test_device.py::TestOnCpu",
    ]
    environ = {**os.environ, "PYTEST_ADDOPTS": "-k register"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
