from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from zerostart_jupyter.load.intervals import Intervals

interval = st.tuples(st.integers(0, 60), st.integers(0, 60))


@given(st.lists(interval, max_size=20), interval)
def test_is_a_set_of_bytes(given_: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    found = Intervals(given_)
    expected = {byte for start, stop in given_ for byte in range(start, stop)}
    assert {byte for start, stop in found for byte in range(start, stop)} == expected
    assert found.total == len(expected)
    missing = [byte for start, stop in found.missing(*asked) for byte in range(start, stop)]
    assert missing == [byte for byte in range(*asked) if byte not in expected]


@given(st.lists(interval, max_size=20))
def test_intervals_are_sorted_and_never_touch(given_: list[tuple[int, int]]) -> None:
    found = list(Intervals(given_))
    assert all(start < stop for start, stop in found)
    assert all(one[1] < other[0] for one, other in pairwise(found))
