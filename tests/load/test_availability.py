from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.load.fake_cuda.build import KVIKIO, compiled

ROOT = Path(__file__).parents[2]

_ASK = """
import json, sys
from zerostart_jupyter.load import capabilities
found = {each.name: each.as_json() for each in capabilities()}
heavy = sorted({"torch", "kvikio", "numpy", "safetensors"} & sys.modules.keys())
print(json.dumps([found, heavy]))
"""


def ask(
    code: str = _ASK, *, before: str = "", path: tuple[Path, ...] = (), isolated: bool = False
) -> Any:
    """What a process of its own says: this one may have loaded kvikio and a fake driver."""
    ran = subprocess.run(
        [sys.executable, *(["-S"] if isolated else []), "-c", before + code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"PYTHONPATH": ":".join(map(str, (ROOT, *path))), "PATH": "/usr/bin:/bin"},
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_nothing_heavy_is_imported_to_answer() -> None:
    found, heavy = ask()
    assert heavy == []
    assert list(found) == ["load.torch", "load.mmap", "load.direct", "load.cufile", "load.gds"]
    assert found["load.torch"]["ok"]
    assert found["load.mmap"]["ok"]
    assert found["load.direct"]["ok"]


def test_each_refusal_has_a_reason_and_a_remedy() -> None:
    found, _ = ask(isolated=True)  # no site-packages: neither torch nor kvikio
    assert found["load.torch"] == {
        "name": "load.torch",
        "ok": False,
        "reason": "torch is not installed.",
        "remedy": "Run `%zs_install torch`.",
    }
    assert not found["load.cufile"]["ok"]
    assert "kvikio is not installed" in found["load.cufile"]["reason"]
    for each in found.values():
        assert each["reason"]
        assert each["ok"] or each["remedy"]


def test_an_old_kernel_reads_by_other_means() -> None:
    before = "from zerostart_jupyter.load import pages\npages.can_populate = lambda: False\n"
    found, _ = ask(before=before)
    assert found["load.mmap"]["ok"]
    assert "no MADV_POPULATE_READ" in found["load.mmap"]["reason"]
    assert "5.14" in found["load.mmap"]["remedy"]


def test_loading_without_torch_says_how_to_get_it() -> None:
    code = """
import json
from zerostart_jupyter.core.errors import LoadError
import zerostart_jupyter.load as engine
try:
    engine.load
except LoadError as error:
    print(json.dumps(str(error)))
"""
    assert ask(code, isolated=True) == "torch is not installed. Run `%zs_install torch`."


def test_importing_the_engine_costs_no_torch() -> None:
    code = """
import json, sys
import zerostart_jupyter.load, zerostart_jupyter.cli.load
print(json.dumps("torch" in sys.modules))
"""
    assert ask(code) is False


@pytest.mark.compiler
class TestKvikio:
    def test_without_a_driver(self) -> None:
        assert (KVIKIO / "kvikio").is_dir(), "run: python tools/set_up_kvikio.py"
        found, heavy = ask(path=(KVIKIO,))
        assert heavy == []
        if not found["load.cufile"]["ok"]:  # a machine with a GPU has the driver
            assert "no CUDA driver (libcuda.so.1)" in found["load.cufile"]["reason"]
            assert "driver" in found["load.cufile"]["remedy"]

    def test_with_one(self, tmp_path: Path) -> None:
        driver = compiled(tmp_path)
        before = f"import ctypes; ctypes.CDLL({str(driver)!r}, ctypes.RTLD_GLOBAL)\n"
        found, heavy = ask(before=before, path=(KVIKIO,))
        assert heavy == []
        assert found["load.cufile"]["ok"]
        assert found["load.gds"]["ok"] is Path("/proc/driver/nvidia-fs/version").exists()

    def test_a_load_through_kvikio_from_end_to_end(self, tmp_path: Path) -> None:
        driver = compiled(tmp_path)
        code = f"""
import ctypes, json, torch
ctypes.CDLL({str(driver)!r}, ctypes.RTLD_GLOBAL)
from safetensors.torch import load_file, save_file
from zerostart_jupyter.load import load
path = {str(tmp_path / "x.safetensors")!r}
save_file({{"a": torch.randn(3_000_000), "b": torch.arange(7)}}, path)
weights = load(path, device="cpu", reader="cufile")
expected = load_file(path)
same = all(torch.equal(weights[name], expected[name]) for name in expected)
print(json.dumps([same, weights.reader, weights.statistics]))
"""
        same, reader, statistics = ask(code, path=(KVIKIO,))
        assert (same, reader) == (True, "cufile")
        assert statistics["posix_bytes"] >= 12_000_056
        assert statistics["gds"] == "no"
