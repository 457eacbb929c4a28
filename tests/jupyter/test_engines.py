"""The magics over the real engines, in a real kernel: install from an index, load a checkpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from tests.install.wheels import make, noise
from tests.servers.index import Behaviour, Index

if TYPE_CHECKING:
    from tests.jupyter.conftest import Kernel


@pytest.fixture
def index() -> Iterator[Index]:
    with Index() as running:
        yield running


def text(found: list[dict[str, object]], kind: str = "stream") -> str:
    return "".join(
        str(each.get("text", each.get("data", ""))) for each in found if each["type"] == kind
    )


def test_an_import_waits_for_its_own_package_only(index: Index, kernel: Kernel) -> None:
    quick = make("quick")
    slow = make("slowly", files={"slowly.py": b"", "slowly_data.bin": noise(3 << 20)})
    index.wheels.update({each.filename: each for each in (quick, slow)})
    held = threading.Event()
    index.behaviour[slow.filename] = Behaviour(hold=held)
    try:
        found = kernel.run(f"%zs_install quick slowly --index-url {index.url}")
        assert "on their way" in text(found, "execute_result")
        found = kernel.run("import quick; print(quick.__file__)")
        assert "environments" in text(found)
    finally:
        held.set()
    found = kernel.run("import slowly, importlib.metadata as m; print(m.version('slowly'))")
    assert text(found).strip() == "1.0"
    found = kernel.run(f"%zs_install quick slowly --index-url {index.url}")
    assert "was there" in text(found, "execute_result")


def test_a_cell_of_requirements(index: Index, kernel: Kernel) -> None:
    one, two = make("one-of"), make("two-of", "2.0")
    index.wheels.update({each.filename: each for each in (one, two)})
    kernel.run(f"%%zs_install --wait --index-url {index.url}\none-of\n# a comment\ntwo-of>=2\n")
    assert text(kernel.run("import one_of, two_of; print('both')")).strip() == "both"


def test_a_dry_run_fetches_nothing(index: Index, kernel: Kernel) -> None:
    wheel = make("planned")
    index.wheels[wheel.filename] = wheel
    found = kernel.run(f"%zs_install planned --dry-run --index-url {index.url}")
    assert "planned" in text(found, "execute_result")
    _, reply = kernel.attempt("import planned")
    assert reply["ename"] == "ModuleNotFoundError"


def test_an_unknown_package_is_one_line(index: Index, kernel: Kernel) -> None:
    _, reply = kernel.attempt(f"%zs_install no-such-thing-at-all --index-url {index.url}")
    assert reply["ename"] == "ResolveError"
    (line,) = reply["traceback"]  # type: ignore[misc]
    assert "no-such-thing-at-all" in line


def test_load_into_a_name_and_a_module(kernel: Kernel, private: Path) -> None:
    save_file({"weight": torch.eye(3), "bias": torch.ones(3)}, private / "model.safetensors")
    kernel.run("%zs_load model.safetensors --into weights")
    assert text(kernel.run("print(sorted(weights))")).strip() == "['bias', 'weight']"
    kernel.run(
        "import torch; model = torch.nn.Linear(3, 3)\n%zs_load model.safetensors --into model"
    )
    found = kernel.run("print(model(torch.zeros(3)).tolist())")
    assert json.loads(text(found)) == [1.0, 1.0, 1.0]
    found = kernel.run(
        "path = 'model.safetensors'\nhandle = %zs_load {path} --background\nhandle.wait();"
    )
    assert text(kernel.run("print(handle['bias'].sum().item())")).strip() == "3.0"


def test_a_module_in_the_background_waits_for_its_layers(kernel: Kernel, private: Path) -> None:
    save_file({"0.weight": torch.eye(3), "0.bias": torch.ones(3)}, private / "two.safetensors")
    kernel.run(
        "import torch\n"
        "with torch.device('meta'): model = torch.nn.Sequential(torch.nn.Linear(3, 3))"
    )
    kernel.run("%zs_load two.safetensors --into model --background")
    found = kernel.run("print(model(torch.zeros(3)).tolist())")
    assert json.loads(text(found)) == [1.0, 1.0, 1.0]


def test_a_truncated_checkpoint_is_one_line(kernel: Kernel, private: Path) -> None:
    save_file({"weight": torch.zeros(100)}, private / "whole.safetensors")
    cut = (private / "whole.safetensors").read_bytes()[:-7]
    (private / "cut.safetensors").write_bytes(cut)
    _, reply = kernel.attempt("%zs_load cut.safetensors --into weights")
    assert reply["ename"] == "CheckpointInvalid"
    (line,) = reply["traceback"]  # type: ignore[misc]
    assert "cut.safetensors" in line
    assert text(kernel.run("print('weights' in dir())")).strip() == "False"


def test_programs_are_on_the_path_of_a_shell_line(index: Index, kernel: Kernel) -> None:
    tool = make(
        "zs-tool",
        files={"zs_tool.py": b"def main():\n    print('the tool ran')\n"},
        entry_points="[console_scripts]\nzs-tool = zs_tool:main\n",
    )
    index.wheels[tool.filename] = tool
    kernel.run(f"%zs_install zs-tool --wait --index-url {index.url}")
    assert "the tool ran" in text(kernel.run("!zs-tool"))
