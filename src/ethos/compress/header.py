"""The decode contract as a C header: constants, and a decoder in plain C99 that needs math.h alone.

Its results are those of `ethos_runtime.decode`: distances and scores are computed in double precision and rounded to
float once, everything after that in float and in the same order.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from ethos_runtime.decode import CLASS_OFFSET, MAX_CANDIDATES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ethos_runtime.contract import Contract, Quantization

BODY = "decoder.h.in"


def c_header(contract: Contract, contract_sha256: str) -> str:
    """Return the header of a decode contract.

    Args:
        contract: The contract.
        contract_sha256: Hash of the decode.json that holds it, to tell which file the header belongs to.
    """
    height, width = contract.imgsz
    names = ", ".join(_text(name) for name in contract.names)
    return "\n".join(
        [
            "/* Boxes from the int8 output tensors of a raw-head detector. C99; needs nothing but math.h.",
            f" * Generated from the decode.json with SHA-256 {contract_sha256}. */",
            "#ifndef ETHOS_DECODE_H",
            "#define ETHOS_DECODE_H",
            "",
            "#include <math.h>",
            "",
            f"#define ETHOS_HEIGHT {height}",
            f"#define ETHOS_WIDTH {width}",
            f"#define ETHOS_SCALES {len(contract.strides)}",
            f"#define ETHOS_CLASSES {len(contract.names)}",
            f"#define ETHOS_BINS {contract.reg_max}",
            f"#define ETHOS_CLASS_OFFSET {CLASS_OFFSET}.0f /* pixels */",
            f"#define ETHOS_MAX_CANDIDATES {MAX_CANDIDATES}",
            "",
            "/* real value = scale * (integer - zero_point) */",
            "typedef struct {",
            "    float scale;",
            "    int zero_point;",
            "} ethos_affine;",
            "",
            f"static const int ethos_stride[ETHOS_SCALES] = {{{_joined(contract.strides)}}};",
            f"static const char *const ethos_names[ETHOS_CLASSES] = {{{names}}};",
            f"static const ethos_affine ethos_input_affine = {_affine(contract.input_quantization)};",
            _affines("ethos_box_affine", (contract.output("box", each).quantization for each in contract.strides)),
            _affines("ethos_class_affine", (contract.output("class", each).quantization for each in contract.strides)),
            "",
            files("ethos.compress").joinpath(BODY).read_text(encoding="utf-8"),
        ]
    )


def _affines(name: str, quantizations: Iterable[Quantization]) -> str:
    return f"static const ethos_affine {name}[ETHOS_SCALES] = {{{_joined(map(_affine, quantizations))}}};"


def _affine(quantization: Quantization) -> str:
    """Return a scale, exact to the last bit, and a zero point."""
    return f"{{{float(np.float32(quantization.scale)).hex()}f, {quantization.zero_point}}}"


def _joined(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def _text(name: str) -> str:
    """Return a C string; what is no plain letter, digit or space is written in octal, which ends by itself."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-."
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in name.encode()) + '"'
