"""A module that is used while its weights arrive."""

from __future__ import annotations

import errno
import gc
import os
import queue
import signal
import threading
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from tests.load.gate import Gate
from tests.load.test_modules import WORDS, Model, equal
from tests.patience import PATIENCE
from zerostart_jupyter.core.errors import Cancelled, LoadError, WeightsMismatch
from zerostart_jupyter.core.references import references
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import load_into, loader
from zerostart_jupyter.load.layers import layers

ONE_THREAD = Settings(load_threads=1)
WIDTH = 64  # a layer of it is some blocks of 4 KiB


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.up = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.up(self.attention(hidden, hidden, hidden)[0]) + hidden  # type: ignore[no-any-return]


class Tower(nn.Module):
    """Registered in the order of use, saved in another: z sorts last in the file."""

    def __init__(self) -> None:
        super().__init__()
        self.z_embed = nn.Embedding(50, WIDTH)
        self.layers = nn.ModuleList(Block() for _ in range(4))
        self.a_head = nn.Linear(WIDTH, 50, bias=False)
        self.a_head.weight = self.z_embed.weight
        self.ran: queue.Queue[int] = queue.Queue()

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        hidden = self.z_embed(words)
        for number, layer in enumerate(self.layers):
            hidden = layer(hidden)
            self.ran.put(number)
        return self.a_head(hidden)  # type: ignore[no-any-return]


TEXT = torch.tensor([[1, 2, 3]])


@pytest.fixture
def tower() -> Tower:
    torch.manual_seed(0)
    return Tower().eval()


@pytest.fixture
def path(tower: Tower, tmp_path: Path) -> Path:
    save_model(tower, str(tmp_path / "tower.safetensors"))
    return tmp_path / "tower.safetensors"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    monkeypatch.setattr(loader, "BACKGROUND_BLOCK", 4096)
    return Gate(monkeypatch)


def on_meta() -> Tower:
    with torch.device("meta"):
        return Tower().eval()


def hooks(module: nn.Module) -> int:
    return sum(len(each._forward_pre_hooks) for each in module.modules())


class TestForward:
    def test_runs_as_soon_as_its_layers_are_there(
        self, tower: Tower, path: Path, gate: Gate
    ) -> None:
        model = on_meta()
        weights = load_into(model, path, device="cpu", layered=True, settings=ONE_THREAD)
        assert not weights.done
        outputs: list[torch.Tensor] = []

        def run() -> None:
            with torch.no_grad():
                outputs.append(model(TEXT))

        runner = threading.Thread(target=run)
        runner.start()
        gate.wait_for_reader()
        first = [
            name for name in weights if not name.startswith(("layers.1", "layers.2", "layers.3"))
        ]
        while not weights._came.issuperset(first):
            gate.open(1)
            gate.wait_for_reader()  # the thread is back: what it read was handed over
        assert model.ran.get(timeout=PATIENCE) == 0
        assert model.layers[0].up.weight.shape == (WIDTH, WIDTH)
        assert not weights.done
        assert model.layers[3].up.weight.is_meta, "the last layer is not there, the first has run"
        gate.open()
        runner.join(PATIENCE)
        assert torch.equal(outputs[0], tower(TEXT))
        weights.wait(PATIENCE)
        assert hooks(model) == 0
        assert equal(model, tower)
        assert model.a_head.weight is model.z_embed.weight

    def test_reads_in_the_order_of_need(self, path: Path, gate: Gate) -> None:
        from zerostart_jupyter.load.checkpoint import open_checkpoint

        with open_checkpoint(path) as opened:
            entries = dict(opened.entries)
        model = on_meta()
        weights = load_into(model, path, device="cpu", layered=True, settings=ONE_THREAD)
        gate.open()
        weights.wait(PATIENCE)
        starts = [start for _, start in gate.order]

        def turn(name: str) -> int:
            return starts.index(entries[name].start // 4096 * 4096)

        embedding = "z_embed.weight" if "z_embed.weight" in entries else "a_head.weight"
        order = [embedding, *(f"layers.{number}.up.weight" for number in range(4))]
        assert [turn(name) for name in order] == sorted(turn(name) for name in order)

    def test_without_a_forward_it_is_placed_at_the_end(self, tower: Tower, path: Path) -> None:
        model = on_meta()
        weights = load_into(model, path, device="cpu", layered=True)
        weights.wait(PATIENCE)
        assert equal(model, tower)
        assert hooks(model) == 0
        assert torch.equal(model(TEXT), tower(TEXT))
        noted = {live.address for live in references().live() if live.reference.path == path}
        assert model.layers[2].up.weight.data_ptr() in noted

    def test_under_inference_mode_the_parameters_can_be_trained_later(
        self, tower: Tower, path: Path
    ) -> None:
        model = on_meta()
        load_into(model, path, device="cpu", layered=True)
        with torch.inference_mode():
            assert torch.equal(model(TEXT), tower(TEXT))
        model(TEXT).sum().backward()
        assert model.z_embed.weight.grad is not None

    def test_a_real_module_is_copied_into(self, tower: Tower, path: Path) -> None:
        model = Tower().eval()
        before = {name: id(each) for name, each in model.named_parameters()}
        load_into(model, path, layered=True)
        assert torch.equal(model(TEXT), tower(TEXT))
        assert {name: id(each) for name, each in model.named_parameters()} == before

    def test_dtype_and_buffers(self, tmp_path: Path) -> None:
        torch.manual_seed(3)
        original = Model().eval()
        save_model(original, str(tmp_path / "x.safetensors"))
        with torch.device("meta"):
            model = Model().eval()
        load_into(model, tmp_path / "x.safetensors", device="cpu", dtype="f64", layered=True)
        assert torch.equal(model.double()(WORDS), original.double()(WORDS))


class TestEndings:
    def test_a_misfit_is_told_before_anything_is_changed(self, path: Path) -> None:
        model = nn.Sequential(nn.Linear(2, 2))
        with pytest.raises(WeightsMismatch, match="does not fit Sequential"):
            load_into(model, path, layered=True)
        assert hooks(model) == 0

    def test_control_c_leaves_a_forward_that_can_be_run_again(
        self, tower: Tower, path: Path, gate: Gate
    ) -> None:
        model = on_meta()
        load_into(model, path, device="cpu", layered=True)
        gate.wait_for_reader()
        presser = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            model(TEXT)
        presser.join()
        gate.open()
        assert torch.equal(model(TEXT), tower(TEXT))

    def test_after_a_cancel_forward_says_so(self, path: Path, gate: Gate) -> None:
        model = on_meta()
        weights = load_into(model, path, device="cpu", layered=True, settings=ONE_THREAD)
        gate.wait_for_reader()
        weights.cancel()
        gate.open()
        with pytest.raises(Cancelled):
            weights.wait(PATIENCE)
        for _ in range(2):
            with pytest.raises(Cancelled, match="was cancelled"):
                model(TEXT)

    def test_after_a_failure_forward_says_so(self, path: Path, gate: Gate) -> None:
        gate.failure = OSError(errno.EIO, os.strerror(errno.EIO))
        model = on_meta()
        load_into(model, path, device="cpu", layered=True)
        gate.open()
        with pytest.raises(LoadError, match="could not be read at byte"):
            model(TEXT)

    def test_nothing_keeps_the_module_alive(self, path: Path) -> None:
        model = on_meta()
        weights = load_into(model, path, device="cpu", layered=True)
        weights.wait(PATIENCE)
        gone = weakref.ref(model.layers[0].up.weight)
        loads = [each for each in threading.enumerate() if each.name == "zerostart-load"]
        del model, weights
        for thread in loads:
            thread.join(PATIENCE)
        gc.collect()
        assert gone() is None


class TestLayers:
    def paths(self, module: nn.Module) -> dict[str, set[str]]:
        known = list(module.state_dict())
        found = layers(module, known)
        assert sorted(name for layer in found for name in layer.names) == sorted(known)
        return {layer.path: set(layer.names) for layer in found}

    def test_a_language_model(self, tower: Tower) -> None:
        found = self.paths(tower)
        assert list(found) == ["z_embed", *(f"layers.{number}" for number in range(4)), "a_head"]

    def test_parameters_beside_layers_are_waited_for_with_what_is_beside_them(self) -> None:
        class Vision(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.token = nn.Parameter(torch.ones(3))
                self.patches = nn.Linear(3, 3)
                self.body = nn.Module()
                self.body.norm = nn.LayerNorm(3)
                self.body.blocks = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
                self.extra = nn.ParameterList([nn.Parameter(torch.ones(1))])

        found = self.paths(Vision())
        assert found[""] == {"token", "patches.weight", "patches.bias", "extra.0"}
        assert list(found) == ["", "body.norm", "body.blocks.0", "body.blocks.1"]

    def test_a_list_of_parameters_is_its_owners(self) -> None:
        class Bare(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = nn.Module()
                self.inner.values = nn.ParameterList([nn.Parameter(torch.ones(1))])

        assert self.paths(Bare()) == {"inner": {"inner.values.0"}}

    def test_a_real_language_model(self) -> None:
        import transformers

        with torch.device("meta"):
            config = transformers.LlamaConfig(
                num_hidden_layers=3, hidden_size=64, vocab_size=9, intermediate_size=8
            )
            model = transformers.LlamaForCausalLM(config)
        assert list(self.paths(model)) == [
            "model.embed_tokens",
            *(f"model.layers.{number}" for number in range(3)),
            "model.norm",
            "lm_head",
        ]


def test_a_module_whose_own_hooks_rename_waits_for_everything(tmp_path: Path) -> None:
    class Renamed(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.register_load_state_dict_pre_hook(self._rename)

        @staticmethod
        def _rename(module: nn.Module, state: dict[str, torch.Tensor], *_: object) -> None:
            if "kernel" in state:
                state["weight"] = state.pop("kernel")

    save_file({"kernel": torch.eye(2), "bias": torch.ones(2)}, tmp_path / "x.safetensors")
    module = Renamed()
    load_into(module, tmp_path / "x.safetensors", layered=True)
    assert torch.equal(module(torch.ones(2)), torch.full((2,), 2.0))


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_a_transformers_model(tmp_path: Path, dtype: str | None) -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=99,
    )
    reference = transformers.LlamaForCausalLM(config).eval()
    reference.save_pretrained(tmp_path)
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config).eval()
    load_into(model, tmp_path, device="cpu", dtype=dtype, layered=True)
    with torch.no_grad():
        wanted = reference.to(getattr(torch, "bfloat16" if dtype else "float32"))
        assert torch.equal(model(TEXT).logits, wanted(TEXT).logits)
