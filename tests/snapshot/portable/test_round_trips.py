"""Names that go out come back: the same values, and the same objects behind several names."""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.snapshot.portable.shells import restored, run, save, shell, through
from zerostart_jupyter.core.errors import SnapshotCorrupt, SnapshotRefused

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.integers(0, 2000).map(lambda count: numpy.arange(count * 10.0))
    | st.integers(0, 50).map(lambda count: torch.arange(count))
)


@st.composite
def namespaces(draw: st.DrawFn) -> dict[str, Any]:
    """Names for values that share parts: each value may hold earlier ones, and be a name again."""
    made: list[Any] = draw(st.lists(ATOMS, min_size=1, max_size=5))
    for _ in range(draw(st.integers(0, 6))):
        parts = draw(st.lists(st.sampled_from(range(len(made))), max_size=4))
        chosen = [made[at] for at in parts]
        kind = draw(st.sampled_from(["list", "tuple", "dict", "cycle", "view", "tail"]))
        if kind == "list":
            made.append(chosen)
        elif kind == "tuple":
            made.append(tuple(chosen))
        elif kind == "dict":
            made.append(dict(enumerate(chosen)))
        elif kind == "cycle":
            chosen.append(chosen)
            made.append(chosen)
        else:
            arrays = [each for each in made if isinstance(each, numpy.ndarray | torch.Tensor)]
            if arrays:
                base = draw(st.sampled_from(range(len(arrays))))
                made.append(arrays[base][1:] if kind == "tail" else arrays[base][::1])
    order = draw(st.lists(st.sampled_from(range(len(made))), min_size=1, max_size=8))
    return {f"name_{number}": made[at] for number, at in enumerate(order)}


def graph(value: Any, seen: dict[int, int], keep: list[Any]) -> Any:
    """A value as its content and as which objects it is made of, in the order they are met."""
    if isinstance(value, str | bytes | int | float | None):
        return (type(value).__name__, repr(value))
    if id(value) in seen:
        return ("again", seen[id(value)])
    seen[id(value)] = len(seen)
    keep.append(value)
    if isinstance(value, dict):
        return ("dict", [(key, graph(each, seen, keep)) for key, each in value.items()])
    if isinstance(value, list | tuple):
        if value == ():
            return "()"  # there is only one
        return (type(value).__name__, [graph(each, seen, keep) for each in value])
    found = value if isinstance(value, numpy.ndarray) else value.numpy()
    return (type(value).__name__, str(value.dtype), found.shape, found.tobytes())


def sharing(names: dict[str, Any]) -> list[tuple[str, str]]:
    """Which arrays of which names lie in the same memory."""
    arrays = {
        name: each if isinstance(each, numpy.ndarray) else each.numpy()
        for name, each in names.items()
        if isinstance(each, numpy.ndarray | torch.Tensor)
    }
    return [
        (one, other)
        for one in arrays
        for other in arrays
        if one < other and numpy.shares_memory(arrays[one], arrays[other])
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(namespaces())
def test_values_and_their_identities(names: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found, described = through(shell(**names), Path(folder) / "one")
    assert described.omitted == ()
    back = {name: found[name] for name in names}
    assert graph(list(back.values()), {}, []) == graph(list(names.values()), {}, [])
    assert sharing(back) == sharing(names)


CODE = """
import json as j, math
from collections import Counter
x = 5
def counter():
    n = 0
    def more(by=1, *, twice=False) -> int:
        'doc'
        nonlocal n
        n += 2 * by if twice else by
        return n
    return more, lambda: n
more, seen = counter(); more(); more.tag = 'mine'
def factorial(n): return 1 if n < 2 else n * factorial(n - 1)
class Base:
    kind = 'base'
    def get(self): return x
class Point(Base):
    __slots__ = ('a',)
    def __init__(self, a): self.a = a
    def get(self): return super().get() + self.a
    @property
    def twice(self): return self.a * 2
    @classmethod
    def of(cls, a): return cls(a)
point = Point.of(1); method = point.get
words = Counter('abca')
here = globals()
"""


def test_code_of_the_notebook_goes_on_living(tmp_path: Path) -> None:
    names, described = through(run(CODE), tmp_path / "one")
    assert described.omitted == ()
    assert described.code
    assert names["here"] is names
    assert names["more"].__globals__ is names
    assert (names["seen"](), names["more"](2, twice=True), names["seen"]()) == (1, 5, 5)
    assert (names["more"].tag, names["more"].__doc__) == ("mine", "doc")
    assert names["factorial"](5) == 120
    names["x"] = 10
    assert (names["point"].get(), names["method"]()) == (11, 11)
    assert type(names["point"]) is names["Point"]
    assert (names["point"].twice, names["Point"].__mro__[1]) == (2, names["Base"])
    assert (names["j"], names["math"]) == (__import__("json"), math)
    assert names["words"]["a"] == 2


def test_no_library_stays_behind(tmp_path: Path) -> None:
    present = "cloudpickle" in sys.modules
    through(run("def f(): return 1"), tmp_path / "one")
    assert ("cloudpickle" in sys.modules) == present


def test_arrays_and_what_they_share(tmp_path: Path) -> None:
    base = numpy.arange(100_000.0)
    fixed = numpy.ones(50_000)
    fixed.setflags(write=False)
    names, described = through(
        shell(
            base=base,
            part=base[10:20],
            back=base[::-1],
            columns=numpy.asfortranarray(numpy.arange(60_000.0).reshape(300, 200)),
            fixed=fixed,
            when=numpy.arange("2020-01-01", "2020-06-01", dtype="M8[D]"),
            records=numpy.zeros(9000, dtype=[("a", "i4"), ("b", "f8")]),
            objects=numpy.array([1, "a", None], dtype=object),
            masked=numpy.ma.masked_array([1, 2, 3], [0, 1, 0]),
        ),
        tmp_path / "one",
    )
    assert described.omitted == ()
    assert (tmp_path / "one/portable/arrays/0.npy").exists()
    assert numpy.array_equal(numpy.load(tmp_path / "one/portable/arrays/0.npy"), base)
    names["base"][10] = -1
    assert names["part"][0] == -1
    assert names["back"][-11] == -1
    assert names["columns"].flags.f_contiguous
    assert not names["fixed"].flags.writeable
    assert names["when"].dtype == "M8[D]"
    assert names["records"].dtype.names == ("a", "b")
    assert names["objects"].tolist() == [1, "a", None]
    assert names["masked"].sum() == 4


def test_tensors_modules_and_gradients(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU())
    module[0].weight.grad = torch.ones(3, 3)
    base = torch.arange(100.0)
    optimizer = torch.optim.Adam(module.parameters())
    made = torch.ones(2, requires_grad=True) * 2
    names, described = through(
        shell(
            module=module,
            weight=module[0].weight,
            base=base,
            part=base.view(10, 10)[:, 3],
            half=torch.ones(5, dtype=torch.bfloat16),
            sparse=torch.eye(3).to_sparse(),
            optimizer=optimizer,
            made=made,
        ),
        tmp_path / "one",
    )
    assert described.omitted == ()
    assert [name for name, how in described.changed] == ["made"]
    assert names["weight"] is names["module"][0].weight
    assert names["optimizer"].param_groups[0]["params"][0] is names["weight"]
    assert torch.equal(names["weight"].grad, torch.ones(3, 3))
    names["base"][13] = -1
    assert names["part"][1] == -1
    assert names["half"].dtype == torch.bfloat16
    assert torch.equal(names["sparse"].to_dense(), torch.eye(3))
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "one/portable/tensors.safetensors")
    assert any(torch.equal(each, base) for each in saved.values() if each.shape == base.shape)


def test_tables_lie_beside_the_pickle(tmp_path: Path) -> None:
    table = pandas.DataFrame(
        {"a": numpy.arange(50_000), "b": ["text"] * 50_000, "c": numpy.arange(50_000.0)}
    )
    table["d"] = table["b"].astype("category")
    names, _ = through(shell(table=table, same=table, column=table["c"]), tmp_path / "one")
    assert names["same"] is names["table"]
    pandas.testing.assert_frame_equal(names["table"], table)
    assert (tmp_path / "one/portable/names.pickle").stat().st_size < 400_000 + 50_000 * 8


NOT_SAVED = """
import threading, socket, subprocess, sqlite3, weakref, asyncio
file = open('/dev/null')
lock = threading.Lock()
thread = threading.Thread(target=print)
generator = (i for i in range(3))
plug = socket.socket()
database = sqlite3.connect(':memory:')
class Holder: pass
holder = Holder(); holder.inside = [file]
def uses(f=file): return f
deep = []
for _ in range(100_000): deep = [deep]
fine = {'a': 1}; also = [fine]
"""


def test_what_cannot_be_saved_is_listed_and_the_rest_comes_back(tmp_path: Path) -> None:
    saved = run(NOT_SAVED)
    names, described = through(saved, tmp_path / "one")
    for each in ("file", "plug", "database"):
        saved.user_ns[each].close()
    assert dict(described.omitted) == {
        "file": "it is an open file '/dev/null'",
        "lock": "it is a lock",
        "thread": "it is a thread",
        "generator": "it is a generator",
        "plug": "it is a socket",
        "database": "it is an open database",
        "holder": "it holds an open file '/dev/null'",
        "uses": "it holds an open file '/dev/null'",
        "deep": "it is nested too deeply",
    }
    assert names["also"][0] is names["fine"]
    assert "Holder" in names
    saved.user_ns["deep"].clear()


def test_random_states_begin_anew_or_go_on(tmp_path: Path) -> None:
    import random

    def draw() -> tuple[float, float, float]:
        return random.random(), numpy.random.random(), torch.rand(1).item()

    save(shell(), tmp_path / "go on", reseed=False)
    following = draw()
    restored(tmp_path / "go on")
    assert draw() == following
    save(shell(), tmp_path / "anew")
    following = draw()
    restored(tmp_path / "anew")
    assert draw() != following


def test_a_restore_that_fails_changes_nothing(tmp_path: Path) -> None:
    save(run("import numpy; a = numpy.arange(100_000.); x = 1"), tmp_path / "one")
    path = tmp_path / "one/portable/arrays/0.npy"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    live = shell(x=7)
    from zerostart_jupyter.snapshot.portable import reading
    from zerostart_jupyter.snapshot.portable.description import Description

    described = Description.read(tmp_path / "one")
    with pytest.raises(SnapshotCorrupt, match=r"0\.npy"):
        reading.bring(described, tmp_path / "one", live, lambda count: None)
    assert live.user_ns["x"] == 7


def test_a_module_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("class Thing:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    saved = run("import mine; thing = mine.Thing()")
    save(saved, tmp_path / "one")
    monkeypatch.undo()
    sys.modules.pop("mine")
    (tmp_path / "mine.py").unlink()
    with pytest.raises(SnapshotRefused, match="needs mine") as caught:
        restored(tmp_path / "one")
    assert "mine.py beside the notebook" in caught.value.remedy
