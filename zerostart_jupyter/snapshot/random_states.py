"""New randomness for a restored kernel: two clones must not draw the same numbers."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any


def reseed(names: Mapping[str, object]) -> list[str]:
    """Seed anew every generator that is in use; returns the names of their modules.

    The modules' own, and those that `names` lead to.
    """
    random.seed()
    done = ["random"]
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed(int.from_bytes(os.urandom(4), "little"))
        done.append("numpy")
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(_seed())
        done.append("torch")
    ssl = sys.modules.get("ssl")
    if ssl is not None:
        # OpenSSL notices a fork by its pid, which a restored kernel shares with its siblings.
        ssl.RAND_add(os.urandom(64), 64.0)
        done.append("ssl")
    tempfile: Any = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile._name_sequence = None  # keyed by pid as well
    _reseed_instances(names)
    return done


def _reseed_instances(names: Mapping[str, object]) -> None:
    kinds = dict(_kinds())
    for each in _within(names):
        for kind, seed in kinds.items():
            if issubclass(type(each), kind):  # isinstance() would ask the object itself
                seed(each)


def _within(names: Mapping[str, object]) -> Iterator[object]:
    """What names lead to, and what lies in plain containers there."""
    for value in list(names.values()):
        yield value
        if type(value) is dict:
            yield from list(value.values())
        elif type(value) in (list, tuple):
            yield from list(value)  # type: ignore[call-overload]


def _kinds() -> Iterator[tuple[type, Callable[[Any], object]]]:
    """Kinds of generators, and how one is seeded anew."""
    yield random.Random, lambda each: each.seed()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        yield numpy.Generator, lambda each: _renew(each.bit_generator)
        yield numpy.RandomState, lambda each: _renew(each._bit_generator)
        yield numpy.BitGenerator, _renew
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "Generator"):
        yield torch.Generator, lambda each: each.manual_seed(_seed())


def _renew(generator: Any) -> None:
    generator.state = type(generator)().state


def _seed() -> int:
    return int.from_bytes(os.urandom(8), "little") >> 1
