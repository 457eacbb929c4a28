"""The element types of the safetensors format, and which torch type holds each.

Source: safetensors 0.8, `Dtype` in tensor.rs; torch names from its bindings.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dtype:
    """Size of one element in bits; `torch` is the attribute of `torch`, None where it has none."""

    bits: int
    torch: str | None


DTYPES = {
    "BOOL": Dtype(8, "bool"),
    "F4": Dtype(4, "float4_e2m1fn_x2"),
    "F6_E2M3": Dtype(6, None),
    "F6_E3M2": Dtype(6, None),
    "U8": Dtype(8, "uint8"),
    "I8": Dtype(8, "int8"),
    "F8_E5M2": Dtype(8, "float8_e5m2"),
    "F8_E4M3": Dtype(8, "float8_e4m3fn"),
    "F8_E5M2FNUZ": Dtype(8, "float8_e5m2fnuz"),
    "F8_E4M3FNUZ": Dtype(8, "float8_e4m3fnuz"),
    "F8_E8M0": Dtype(8, "float8_e8m0fnu"),
    "I16": Dtype(16, "int16"),
    "U16": Dtype(16, "uint16"),
    "F16": Dtype(16, "float16"),
    "BF16": Dtype(16, "bfloat16"),
    "I32": Dtype(32, "int32"),
    "U32": Dtype(32, "uint32"),
    "F32": Dtype(32, "float32"),
    "C64": Dtype(64, "complex64"),
    "F64": Dtype(64, "float64"),
    "I64": Dtype(64, "int64"),
    "U64": Dtype(64, "uint64"),
}

# What `dtype=` converts. Eight bits and fewer, and integers, are quantised weights or indices:
# changing their type would change what they mean.
CONVERTIBLE = frozenset({"F16", "BF16", "F32", "F64"})

# What people type -> the torch name.
SPELLINGS = {
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "f16": "float16",
    "fp16": "float16",
    "float16": "float16",
    "half": "float16",
    "f32": "float32",
    "fp32": "float32",
    "float32": "float32",
    "float": "float32",
    "f64": "float64",
    "fp64": "float64",
    "float64": "float64",
    "double": "float64",
}
