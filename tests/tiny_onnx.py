"""The detectors of `tiny_network` as ONNX files, in each form that exporters write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tiny_network as tiny

if TYPE_CHECKING:
    from pathlib import Path

FORMS = ("raw", "pixels", "shares", "rows", "final", "final_padded")


def write_onnx(path: Path, form: str, *, half: bool = False, names: tuple[str, ...] = ()) -> Path:
    """Write a network: `raw` with six outputs, or decoded.

    Boxes come in `pixels`, in `shares` of the input, each in one of the `rows`, or `final`: after suppression, and with
    zeros where nothing is found if `final_padded`.
    """
    import onnx
    import torch

    network = _network(form).eval()
    images = torch.zeros(1, 3, tiny.SIZE, tiny.SIZE)
    if half:
        network, images = network.half(), images.half()
    outputs = [f"{branch}{stride}" for branch in ("box", "class") for stride in tiny.STRIDES]
    torch.onnx.export(
        network,
        (images,),
        path,
        input_names=["images"],
        output_names=outputs if form == "raw" else ["output0"],
        opset_version=17,
        dynamo=False,
    )
    if names:
        model = onnx.load(path)
        onnx.helper.set_model_props(model, {"names": str(dict(enumerate(names))), "imgsz": "[64, 64]"})
        onnx.save(model, path)
    return path


def _network(form: str) -> Any:
    import torch
    from torch import nn
    from torch.nn.functional import avg_pool2d

    side = torch.zeros(tiny.REG_MAX)
    side[tiny.BIN] = 20.0

    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("side", side.repeat(4).reshape(1, -1, 1, 1))

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            maps = [avg_pool2d(images, stride) for stride in tiny.STRIDES]
            boxes = [pooled[:, :1] * 1e-3 + self.side for pooled in maps]
            return (*boxes, *(tiny.GAIN * (pooled - tiny.THRESHOLD) for pooled in maps))

    class Decoded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            cells = np.arange(tiny.SIZE // 8)
            rows, columns = np.meshgrid(cells, cells, indexing="ij")
            centres = np.stack(((columns + 0.5) * 8, (rows + 0.5) * 8)).reshape(2, -1)
            boxes = np.concatenate((centres, np.full_like(centres, 2 * tiny.BIN * 8)))[None]
            scale = tiny.SIZE if form == "shares" else 1
            self.register_buffer("boxes", torch.tensor(boxes / scale, dtype=torch.float32))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = (tiny.GAIN * (avg_pool2d(images, 8) - tiny.THRESHOLD)).flatten(2)
            scores = logits.sigmoid()
            if form.startswith("final"):
                best, label = scores.max(1, keepdim=True)
                centre, size = self.boxes[:, :2], self.boxes[:, 2:]
                corners = torch.cat((centre - size / 2, centre + size / 2), 1)
                found = torch.cat((corners, best, label.to(best.dtype)), 1)
                return (found * (best > 0.5) if form == "final_padded" else found).transpose(1, 2)
            joined = torch.cat((self.boxes, scores), 1)
            return joined.transpose(1, 2) if form == "rows" else joined

    return Raw() if form == "raw" else Decoded()
