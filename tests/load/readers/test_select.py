from __future__ import annotations

import pytest

from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.core.errors import LoadError, ReaderUnavailable
from zerostart_jupyter.load import availability
from zerostart_jupyter.load.readers import select


@pytest.fixture(params=[True, False])
def kvikio(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    works = bool(request.param)
    answer = Capability("load.cufile", works, "For a reason.", "Do something.")
    monkeypatch.setattr(availability, "cufile", lambda: answer)
    return works


def test_auto_maps_for_the_cpu(kvikio: bool) -> None:
    assert select.choose("auto", "cpu") == "mmap"


def test_auto_takes_cufile_for_a_gpu_where_it_works(kvikio: bool) -> None:
    assert select.choose("auto", "cuda:1") == ("cufile" if kvikio else "direct")


def test_what_was_asked_for_is_taken_or_refused(kvikio: bool) -> None:
    assert select.choose("direct", "cuda:0") == "direct"
    assert select.choose("mmap", "cuda:0") == "mmap"
    if kvikio:
        assert select.choose("cufile", "cuda:0") == "cufile"
    else:
        with pytest.raises(ReaderUnavailable, match=r"For a reason\. Do something\. Or use"):
            select.choose("cufile", "cuda:0")
    with pytest.raises(LoadError, match="no reader 'gds'"):
        select.choose("gds", "cpu")
