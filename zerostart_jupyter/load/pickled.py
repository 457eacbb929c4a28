"""What `python -m zerostart_jupyter.load.pickled SOURCE TARGET` does: a file of torch's pickle
format becomes a safetensors file.

It runs in a process of its own: the file is mapped as a rule, and one that is cut short meanwhile
ends that process instead of the kernel. It is read by torch's weights-only loader and by nothing
else. Says on stdout, as JSON, which names share another's bytes, or what is wrong.
"""

from __future__ import annotations

import ctypes
import json
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from zerostart_jupyter.load import filesystem
from zerostart_jupyter.load.dtypes import DTYPES
from zerostart_jupyter.load.words import first_line

NESTS = ("state_dict", "model_state_dict", "model", "module", "weights")
_CODES = {name.torch: code for code, name in DTYPES.items() if name.torch and code != "F4"}
_AT_ONCE = 64 << 20  # bytes given to the file at once


class Unfit(Exception):
    """The file cannot become a safetensors file; the message says why, without naming it."""


def convert(source: Path, target: Path) -> dict[str, str]:
    """Write the target; returns names that share the bytes of another. Raises Unfit, OSError."""
    tensors = _state_dict(_load(source))
    owners: dict[tuple[object, ...], str] = {}
    aliases: dict[str, str] = {}
    kept: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise Unfit(f"tensor {name!r} is sparse or quantised by torch")
        if str(tensor.dtype).removeprefix("torch.") not in _CODES:
            raise Unfit(f"tensor {name!r} is {tensor.dtype}, which safetensors does not have")
        same = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.is_conj())
        first = owners.setdefault(same, name) if tensor.numel() else name
        if first == name:
            kept[name] = tensor.detach().resolve_conj().resolve_neg()
        else:
            aliases[name] = first
    # Larger elements first, as safetensors does, so that each begins where its type may.
    _write(dict(sorted(kept.items(), key=lambda item: -item[1].element_size())), target)
    return aliases


def _load(source: Path) -> Any:
    # Over a network a mapping brings a page at a time; there it is read as a whole.
    mapped = not filesystem.of_path(source).network
    try:
        try:
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(source, map_location="cpu", weights_only=True)  # torch before 1.6
    except pickle.UnpicklingError as error:
        told = str(error)
        what = "it holds code that would run" if "Unsupported" in told or "GLOBAL" in told else ""
        raise Unfit(what or f"it cannot be read: {first_line(error)}") from error
    except MemoryError:
        raise
    except Exception as error:  # bytes of anybody's: its parsers raise what they like
        raise Unfit(f"it cannot be read: {first_line(error)}") from error


def _state_dict(found: Any) -> Mapping[str, torch.Tensor]:
    if isinstance(found, Mapping):
        for key in NESTS:
            inner = found.get(key)
            if isinstance(inner, Mapping) and inner and _other(inner) is None:
                return inner
        other = _other(found)
        if other is None:
            return found
        raise Unfit(f"beside tensors it holds {other}")
    raise Unfit(f"it holds a {type(found).__name__}, not tensors by name")


def _other(found: Mapping[Any, Any]) -> str | None:
    for name, value in found.items():
        if not isinstance(name, str):
            return f"a name that is {name!r}"[:80]
        if not isinstance(value, torch.Tensor):
            return f"{name!r}, a {type(value).__name__}"
    return None


def _write(tensors: Mapping[str, torch.Tensor], target: Path) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _CODES[str(tensor.dtype).removeprefix("torch.")],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with target.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            whole = tensor.contiguous()
            count = whole.numel() * whole.element_size()
            for at in range(0, count, _AT_ONCE):
                part = min(_AT_ONCE, count - at)
                file.write((ctypes.c_ubyte * part).from_address(whole.data_ptr() + at))


def main(source: str, target: str) -> None:
    """Convert, and say how it went."""
    try:
        told: dict[str, Any] = {"aliases": convert(Path(source), Path(target))}
    except Unfit as error:
        told = {"unfit": str(error)}
    except OSError as error:
        told = {"failed": error.strerror or str(error)}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
