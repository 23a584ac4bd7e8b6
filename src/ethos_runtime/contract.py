"""The decode contract: how to feed a raw-head network and what its output tensors mean (decode.json)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
LAYOUT = "NHWC"
SIDES = 4  # of a box: left, top, right, bottom


@dataclass(frozen=True)
class Quantization:
    """Affine quantization of an int8 tensor: real value = scale * (integer - zero_point)."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Output:
    """One output tensor of the network, [1, height, width, channels].

    A `box` tensor holds 4 * reg_max logits of distances to the left, top, right and bottom side; a `class` tensor holds
    one logit a class.
    """

    name: str
    branch: Literal["box", "class"]
    stride: int
    shape: tuple[int, int, int, int]
    quantization: Quantization


@dataclass(frozen=True)
class Contract:
    """A decode contract.

    Attributes:
        imgsz: Height and width of the network's input, in pixels.
        input_name: The input's name in the file's signature.
        input_quantization: Of the int8 input; the real value is RGB / 255.
        outputs: The boxes of every stride, then the classes of every stride.
        strides: Pixels between neighbouring anchors, per scale, ascending.
        reg_max: Bins of a side's distance distribution.
        names: Class names, in label order.
    """

    imgsz: tuple[int, int]
    input_name: str
    input_quantization: Quantization
    outputs: tuple[Output, ...]
    strides: tuple[int, ...]
    reg_max: int
    names: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Contract:
        """Return the contract in a decode.json.

        Raises:
            ValueError: The file is missing, no JSON, or no contract of this schema; the text names file and key.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError:
            raise ValueError(f"{path}: is no JSON document") from None
        return cls.from_document(document, str(path))

    @classmethod
    def from_document(cls, document: Any, where: str = "decode contract") -> Contract:
        """Return the contract in a JSON document; `where` opens the text of a ValueError."""
        try:
            contract = _parse(document)
            _check(contract)
        except KeyError as error:
            raise ValueError(f"{where}: key {error} is missing") from None
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}") from None
        return contract

    def output(self, branch: Literal["box", "class"], stride: int) -> Output:
        """Return the output tensor of a branch at a stride; KeyError if there is none."""
        for output in self.outputs:
            if (output.branch, output.stride) == (branch, stride):
                return output
        raise KeyError(f"{branch} tensor of stride {stride}")


def _parse(document: Any) -> Contract:
    if not isinstance(document, dict):
        raise TypeError(f"expected a JSON object, got {type(document).__name__}")
    if document["schema"] != SCHEMA:
        raise ValueError(f"schema is {document['schema']!r}, this reader knows {SCHEMA}")
    source = document["input"]
    if source["layout"] != LAYOUT:
        raise ValueError(f"input layout is {source['layout']!r}, expected {LAYOUT!r}")
    height, width = (int(side) for side in document["imgsz"])
    return Contract(
        imgsz=(height, width),
        input_name=str(source["name"]),
        input_quantization=_quantization(source),
        outputs=tuple(_output(entry) for entry in document["outputs"]),
        strides=tuple(int(stride) for stride in document["strides"]),
        reg_max=int(document["reg_max"]),
        names=tuple(str(name) for name in document["names"]),
    )


def _output(entry: dict[str, Any]) -> Output:
    name, branch = str(entry["name"]), entry["branch"]
    if branch not in ("box", "class"):
        raise ValueError(f"output {name}: branch is {branch!r}, expected 'box' or 'class'")
    batch, height, width, channels = (int(size) for size in entry["shape"])
    return Output(name, branch, int(entry["stride"]), (batch, height, width, channels), _quantization(entry))


def _quantization(entry: dict[str, Any]) -> Quantization:
    if entry["dtype"] != "int8":
        raise ValueError(f"tensor {entry['name']}: dtype is {entry['dtype']!r}, expected 'int8'")
    quantization = Quantization(float(entry["scale"]), int(entry["zero_point"]))
    if not quantization.scale > 0:
        raise ValueError(f"tensor {entry['name']}: scale is {quantization.scale}, expected more than 0")
    return quantization


def _check(contract: Contract) -> None:
    """Raise ValueError unless the parts agree: a box and a class tensor of the right shape for every stride."""
    if not contract.strides or not contract.names or contract.reg_max < 1:
        raise ValueError("needs at least one stride, one class name and one bin (reg_max)")
    height, width = contract.imgsz
    for branch, channels in (("box", SIDES * contract.reg_max), ("class", len(contract.names))):
        for stride in contract.strides:
            output = contract.output(branch, stride)  # type: ignore[arg-type]  # a literal, widened by the loop
            expected = (1, height // stride, width // stride, channels)
            if output.shape != expected:
                raise ValueError(f"output {output.name}: shape is {output.shape}, expected {expected}")
    if len(contract.outputs) != 2 * len(contract.strides):
        raise ValueError(f"{len(contract.outputs)} outputs for {len(contract.strides)} strides, expected two a stride")
