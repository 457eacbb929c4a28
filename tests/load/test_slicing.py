from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zerostart_jupyter.load.checkpoint import Entry
from zerostart_jupyter.load.slicing import cut, window

BOUND = st.one_of(st.none(), st.integers(-6, 6))
RANGES = st.builds(slice, BOUND, BOUND)


@given(st.data())
def test_a_window_is_what_torch_takes_at_that_index(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 4), max_size=3))
    count = data.draw(st.integers(0, len(shape)))
    parts: list[Any] = [data.draw(RANGES) for _ in range(count)]
    if data.draw(st.booleans()):
        parts.insert(data.draw(st.integers(0, count)), Ellipsis)
    index = tuple(parts)
    tensor = torch.arange(torch.Size(shape).numel()).reshape(shape)
    found = window(shape, index)
    assert found is not None
    expected = tensor[index]
    run = tensor.reshape(-1)[found.first : found.last]
    assert torch.equal(run.as_strided(found.shape, found.strides), expected)
    assert found.whole == (expected.shape == tensor.shape)


@pytest.mark.parametrize(
    "index", [0, None, [0], slice(0, 4, 2), (slice(None), 1), (..., ...), (slice(None),) * 3]
)
def test_what_is_no_range_is_left_to_torch(index: Any) -> None:
    assert window((4, 3), index) is None


def test_rows_are_one_run_and_nothing_else_is_read() -> None:
    entry = Entry("w", "F32", (8, 10), 0, 1000, 1320)
    rows = window(entry.shape, slice(2, 4))
    assert rows is not None
    part = cut(entry, rows, 4)
    assert (part.start, part.stop, part.nbytes) == (1080, 1160, 80)
    columns = window(entry.shape, (slice(None), slice(5, 10)))
    assert columns is not None
    assert (cut(entry, columns, 4).start, cut(entry, columns, 4).stop) == (1020, 1320)
