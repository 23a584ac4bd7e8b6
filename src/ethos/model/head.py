"""The raw head: what a network gives to an NPU, and the contract by which it is decoded outside.

Boxes and classes of each scale leave the network as six separate tensors. Decoding inside the graph would join them
under one INT8 scale (boxes in steps of pixels, class scores rounded to nothing) and cost an NPU up to half its cycles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from ethos.model.blocks import split_c2f

if TYPE_CHECKING:
    from torch import Tensor

    from ethos.model.levels import Network

INPUT_NAME = "images"
BRANCHES = ("box", "class")


class RawHead(nn.Module):
    """Detection head without decoding.

    Takes the feature maps of each scale; gives box logits [b, 4 * reg_max, h, w] of each scale, then class logits
    [b, classes, h, w] of each scale, in order of stride.
    """

    def __init__(self, detect: Any) -> None:
        super().__init__()
        self.box: nn.ModuleList = detect.cv2
        self.cls: nn.ModuleList = detect.cv3
        # layer index, inputs and type: what Ultralytics' forward loop reads from every layer
        self.i, self.f = detect.i, detect.f
        self.type = detect.type  # type: ignore[method-assign]  # the engine gives its layers this attribute

    def forward(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """Map feature maps [b, c, h, w] to the six output tensors."""
        boxes = [branch(x) for branch, x in zip(self.box, features, strict=True)]
        classes = [branch(x) for branch, x in zip(self.cls, features, strict=True)]
        return (*boxes, *classes)


def output_names(strides: list[int]) -> list[str]:
    """Return the names of the network's outputs in order: box8, box16, box32, class8, class16, class32."""
    return [f"{branch}{stride}" for branch in BRANCHES for stride in strides]


def to_export_form(model: Network) -> Network:
    """Turn a trained network, in place, into the form that is exported: fused, split C2f, raw head; return it."""
    model.eval()
    model.fuse(verbose=False)
    split_c2f(model)
    model.model[-1] = RawHead(model.model[-1])
    return model
