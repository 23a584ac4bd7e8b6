"""Values of a file's constant tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ethos.npu.graph import Tensor

MAX_VALUES = 1 << 16
WHOLE_TYPES = {"INT8": "<i1", "UINT8": "<u1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8"}
REAL_TYPES = {"FLOAT32": "<f4", "FLOAT16": "<f2"}


def int_values(tensor: Tensor) -> tuple[int, ...]:
    """Return a constant's stored whole numbers, flat; none if it is computed, of another type or longer than expected.

    Meant for what steers an operator: axes, sizes, paddings.
    """
    kind = WHOLE_TYPES.get(tensor.dtype)
    return tuple(int(value) for value in _stored(tensor, kind)) if kind else ()


def float_values(tensor: Tensor) -> tuple[float, ...]:
    """Return a constant's real values, flat, those of a quantized one by its first scale and zero point."""
    if kind := REAL_TYPES.get(tensor.dtype):
        return tuple(float(value) for value in _stored(tensor, kind))
    scale = tensor.scale[0] if tensor.scale else 1.0
    zero = tensor.zero_point[0] if tensor.zero_point else 0
    return tuple((value - zero) * scale for value in int_values(tensor))


def _stored(tensor: Tensor, kind: str) -> np.ndarray:
    size = np.dtype(kind).itemsize
    if len(tensor.data) % size or len(tensor.data) > MAX_VALUES * size:
        return np.empty(0, kind)
    return np.frombuffer(tensor.data, kind)
