from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from zerostart_jupyter.core.references import references
from zerostart_jupyter.load import fresh, load, slicing
from zerostart_jupyter.load.checkpoint import open_checkpoint

SHAPE = (7, 5, 11)


@pytest.fixture(scope="module")
def values() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def path(values: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fresh") / "a.safetensors"
    save_file({"a": values, "scalar": torch.tensor(2.5)}, path)
    return path


def _ranges(extent: int) -> st.SearchStrategy[slice]:
    bounds = st.lists(st.integers(0, extent), min_size=2, max_size=2, unique=True).map(sorted)
    return bounds.map(lambda pair: slice(*pair))


@settings(max_examples=200, deadline=None)
@given(
    index=st.tuples(*map(_ranges, SHAPE)),
    dtype=st.sampled_from([None, torch.bfloat16, torch.float64]),
    at_once=st.integers(1, 2000),
)
def test_a_part_is_what_indexing_gives_however_little_is_read_at_once(
    values: torch.Tensor,
    path: Path,
    index: tuple[slice, ...],
    dtype: torch.dtype | None,
    at_once: int,
) -> None:
    with open_checkpoint(path) as checkpoint:
        entry, shard = checkpoint.entries["a"], checkpoint.shards[0]
        part = slicing.window(SHAPE, index)
        assert part is not None
        for one in [entry, slicing.cut(entry, part, 4)]:
            wanted = values[index] if one.window else values
            found = fresh.read(one, shard, dtype=dtype, at_once=at_once)
            assert found.is_contiguous()
            assert torch.equal(found, wanted.to(dtype or wanted.dtype))
            assert fresh.viewable(one) == wanted.is_contiguous()


def test_a_tensor_without_dimensions(path: Path) -> None:
    with open_checkpoint(path) as checkpoint:
        entry, shard = checkpoint.entries["scalar"], checkpoint.shards[0]
        assert fresh.read(entry, shard).shape == ()
        assert fresh.read(entry, shard, dtype=torch.half).item() == 2.5


def test_what_has_the_wanted_type_stays_a_view_of_its_file(path: Path) -> None:
    weights = load(path, device="cpu", dtype="fp32")
    known = {live.address for live in references().live() if live.reference.path == path}
    assert weights["a"].data_ptr() in known
