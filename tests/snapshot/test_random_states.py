"""Each generator that the user's names lead to draws other numbers afterwards."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable

import numpy
import pytest
import torch

from zerostart_jupyter.snapshot import random_states

Draw = Callable[[], float]


def _of_numpy(kind: type) -> tuple[object, Draw]:
    rng = numpy.random.Generator(kind(1))
    return rng, lambda: float(rng.random())


def _of_legacy() -> tuple[object, Draw]:
    state = numpy.random.RandomState(1)
    return state, lambda: float(state.random_sample())


def _of_bits() -> tuple[object, Draw]:
    bits = numpy.random.PCG64(1)
    return bits, lambda: float(bits.random_raw())


def _of_python() -> tuple[object, Draw]:
    made = random.Random(1)
    return made, made.random


def _of_torch() -> tuple[object, Draw]:
    made = torch.Generator().manual_seed(1)
    return made, lambda: float(torch.rand(1, generator=made))


KINDS: dict[str, Callable[[], tuple[object, Draw]]] = {
    "random.Random": _of_python,
    "RandomState": _of_legacy,
    "a bit generator": _of_bits,
    "torch.Generator": _of_torch,
} | {
    name: lambda name=name: _of_numpy(getattr(numpy.random, name))  # type: ignore[misc]
    for name in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["a name", "a list", "a dict"])
def test_an_instance_is_seeded_anew(kind: str, place: str) -> None:
    drawn = []
    for _ in range(3):
        generator, draw = KINDS[kind]()
        held = {"a name": generator, "a list": [generator], "a dict": {"rng": generator}}[place]
        random_states.reseed({"held": held})
        drawn.append(draw())
    kept, draw = KINDS[kind]()
    drawn.append(draw())
    assert len(set(drawn)) == 4
    assert kept is not None


def test_the_modules_own_generators_are_seeded_anew() -> None:
    drawn = []
    for _ in range(3):
        random.seed(1)
        numpy.random.seed(1)
        torch.manual_seed(1)
        random_states.reseed({})
        drawn += [random.random(), float(numpy.random.rand()), float(torch.rand(1))]
    assert len(set(drawn)) == 9


def test_openssl_is_given_new_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[bytes] = []
    monkeypatch.setattr(ssl, "RAND_add", lambda data, entropy: added.append(data))
    for _ in range(2):
        assert "ssl" in random_states.reseed({})
    assert len(set(added)) == 2
    assert {len(each) for each in added} == {64}


class _Touchy:
    """An object that nobody may ask anything."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise AssertionError("it was asked for its class")


def test_objects_of_other_kinds_are_not_asked() -> None:
    random_states.reseed({"it": _Touchy(), "many": [_Touchy()], "source": random.SystemRandom()})
