"""Read a TFLite file into a `Graph`, without TensorFlow, and without trusting the file.

The generated flatbuffer classes follow offsets wherever they lead. Here every index is checked, and the bytes of all
vectors read may not exceed a multiple of the file's size, so a hostile file ends in an error after bounded work.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ethos.errors import ModelError
from ethos.npu.graph import NO_TENSOR, Graph, Operator, Signature, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IDENTIFIER = b"TFL3"
IDENTIFIER_END = 8
MAX_FILE_BYTES = 2**31 - 1
MAX_OPTION_VALUES = 4096
MAX_NAME_BYTES = 1 << 16
MAX_READ_PER_BYTE = 8
MIN_READ_BYTES = 1 << 16
OFFSET_BYTES = 4

# what the flatbuffer classes, struct and numpy raise when an offset, a length or a text is out of range
MALFORMED = (struct.error, IndexError, ValueError, TypeError, OverflowError, MemoryError)

FIX = "give a complete .tflite file; export it again if this one was copied or downloaded in part"


class _DamagedError(ValueError):
    """The file contradicts itself; the text says how."""


def read_graph(file: Path) -> Graph:
    """Return the network in a TFLite file.

    Raises:
        ModelError: The file is missing, empty, not TFLite, damaged, or holds several subgraphs.
    """
    data = _read_bytes(file)
    try:
        return _Reader(file, data).graph()
    except MALFORMED as error:
        detail = str(error) if isinstance(error, _DamagedError) else "an offset or a length is out of range"
        raise ModelError(f"{file}: damaged TFLite file: {detail}", FIX) from error


def _read_bytes(file: Path) -> bytes:
    if not file.exists():
        raise ModelError(f"{file}: no such file", "give the path of a .tflite file")
    if not file.is_file():
        raise ModelError(f"{file}: not a regular file", "give the path of a .tflite file")
    if not 0 < file.stat().st_size <= MAX_FILE_BYTES:
        what = "larger than 2 GiB" if file.stat().st_size else "empty"
        raise ModelError(f"{file}: the file is {what}", FIX)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}", "check its permissions") from error
    if data[IDENTIFIER_END - len(IDENTIFIER) : IDENTIFIER_END] != IDENTIFIER:
        raise ModelError(f"{file}: not a TFLite file (no {IDENTIFIER.decode()} mark at byte 4)", FIX)
    return data


class _Reader:
    """Reads one file; `_spend` counts what has been read."""

    def __init__(self, file: Path, data: bytes) -> None:
        self.file = file
        self.data = data
        self.left = max(MIN_READ_BYTES, MAX_READ_PER_BYTE * len(data))

    def graph(self) -> Graph:
        model = schema.Model.GetRootAs(self.data, 0)
        if (subgraphs := model.SubgraphsLength()) == 0:
            raise _DamagedError("it holds no network")
        if subgraphs > 1:
            raise ModelError(
                f"{self.file}: {subgraphs} subgraphs, only one is supported", "export it without control flow"
            )
        subgraph = model.Subgraphs(0)
        codes = [_code(code) for code in self._tables(model.OperatorCodesLength, model.OperatorCodes)]
        buffers = [self._buffer(each) for each in self._tables(model.BuffersLength, model.Buffers)]
        tensors = tuple(
            self._tensor(index, each, buffers)
            for index, each in enumerate(self._tables(subgraph.TensorsLength, subgraph.Tensors))
        )
        operators = tuple(
            self._operator(index, each, codes, len(tensors))
            for index, each in enumerate(self._tables(subgraph.OperatorsLength, subgraph.Operators))
        )
        signatures = self._tables(model.SignatureDefsLength, model.SignatureDefs)
        return Graph(
            file=self.file,
            tensors=tensors,
            operators=operators,
            inputs=self._indices(subgraph.InputsAsNumpy(), len(tensors)),
            outputs=self._indices(subgraph.OutputsAsNumpy(), len(tensors)),
            signatures=tuple(self._signature(each, len(tensors)) for each in signatures),
        )

    # --- parts ---

    def _buffer(self, buffer: Any) -> memoryview:
        if (offset := buffer.Offset()) > 1:  # stored behind the flatbuffer
            end = offset + buffer.Size()
            if end > len(self.data):
                raise _DamagedError("a buffer ends behind the file")
            return memoryview(self.data)[offset:end]
        if buffer.DataLength() == 0:
            return memoryview(b"")
        return memoryview(buffer.DataAsNumpy())

    def _tensor(self, index: int, tensor: Any, buffers: list[memoryview]) -> Tensor:
        shape = self._numbers(tensor.ShapeAsNumpy())
        if any(size < 0 for size in shape):
            raise _DamagedError(f"tensor {index} has shape {list(shape)}")
        if tensor.Buffer() >= len(buffers):
            raise _DamagedError(f"tensor {index} names buffer {tensor.Buffer()} of {len(buffers)}")
        quantization = tensor.Quantization()
        return Tensor(
            index=index,
            name=self._text(tensor.Name()),
            shape=shape,
            dtype=TYPE_NAMES.get(tensor.Type(), f"TYPE_{tensor.Type()}"),
            scale=self._numbers(quantization.ScaleAsNumpy()) if quantization else (),
            zero_point=self._numbers(quantization.ZeroPointAsNumpy()) if quantization else (),
            dynamic=any(size < 0 for size in self._numbers(tensor.ShapeSignatureAsNumpy())),
            data=buffers[tensor.Buffer()],
        )

    def _operator(self, index: int, operator: Any, codes: list[tuple[str, bool]], tensors: int) -> Operator:
        if operator.OpcodeIndex() >= len(codes):
            raise _DamagedError(f"operator {index} names code {operator.OpcodeIndex()} of {len(codes)}")
        kind, custom = codes[operator.OpcodeIndex()]
        return Operator(
            index=index,
            kind=kind,
            custom=custom,
            inputs=self._indices(operator.InputsAsNumpy(), tensors, lowest=NO_TENSOR),
            outputs=self._indices(operator.OutputsAsNumpy(), tensors),
            options=self._options(operator),
        )

    def _options(self, operator: Any) -> dict[str, Any]:
        """Return an operator's options as JSON values; custom options, which are opaque, as their SHA-256."""
        unpacked = (
            schema.BuiltinOptionsCreator(operator.BuiltinOptionsType(), operator.BuiltinOptions()),
            schema.BuiltinOptions2Creator(operator.BuiltinOptions2Type(), operator.BuiltinOptions2()),
        )
        values = {name: self._option(value) for each in unpacked if each for name, value in vars(each).items()}
        if operator.CustomOptionsLength():
            values["custom"] = hashlib.sha256(memoryview(operator.CustomOptionsAsNumpy())).hexdigest()
        return values

    def _option(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            if value.size > MAX_OPTION_VALUES:
                raise _DamagedError(f"an option holds {value.size} values")
            return list(self._numbers(value))
        if isinstance(value, bytes):
            return self._text(value)
        return value if isinstance(value, int | float | str | None) else repr(type(value))

    def _signature(self, signature: Any, tensors: int) -> Signature:
        return Signature(
            key=self._text(signature.SignatureKey()),
            inputs=self._named(signature.InputsLength, signature.Inputs, tensors),
            outputs=self._named(signature.OutputsLength, signature.Outputs, tensors),
        )

    def _named(self, length: Callable[[], int], item: Callable[[int], Any], tensors: int) -> dict[str, int]:
        pairs = ((self._text(each.Name()), each.TensorIndex()) for each in self._tables(length, item))
        named = dict(pairs)
        if any(index >= tensors for index in named.values()):
            raise _DamagedError("a signature names a tensor that is not there")
        return named

    # --- bounded reading ---

    def _spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise _DamagedError("its parts overlap")

    def _tables(self, length: Callable[[], int], item: Callable[[int], Any]) -> Iterator[Any]:
        self._spend(OFFSET_BYTES * length())
        return (item(index) for index in range(length()))

    def _numbers(self, values: Any) -> tuple[Any, ...]:
        """Return a vector as Python numbers; the generated classes give the integer 0 for one that is absent."""
        if isinstance(values, int):
            return ()
        self._spend(values.nbytes)
        return tuple(values.tolist())

    def _indices(self, values: Any, count: int, lowest: int = 0) -> tuple[int, ...]:
        indices = self._numbers(values)
        if any(not lowest <= index < count for index in indices):
            raise _DamagedError(f"tensor index out of range: {[i for i in indices if not lowest <= i < count][:3]}")
        return indices

    def _text(self, value: bytes | None) -> str:
        size = len(value or b"")
        self._spend(size)
        if size > MAX_NAME_BYTES:
            raise _DamagedError(f"a name of {size} bytes")
        return (value or b"").decode("utf-8", errors="replace")


def _code(code: Any) -> tuple[str, bool]:
    """Return an operator code's name, and whether it is custom; codes up to 127 may stand in the older field."""
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    if number == schema.BuiltinOperator.CUSTOM:
        return (code.CustomCode() or b"").decode("utf-8", errors="replace"), True
    return OPERATOR_NAMES.get(number, f"BUILTIN_{number}"), False


def _names(enumeration: type) -> dict[int, str]:
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}


OPERATOR_NAMES = _names(schema.BuiltinOperator)
TYPE_NAMES = _names(schema.TensorType)
