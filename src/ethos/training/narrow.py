"""Starting weights for a network that is narrower than the one they come from.

Channels are taken over consistently (`ethos.model.slices`), and what the lost ones gave is made up for as well as the
rest can: each narrowed convolution is fitted by least squares to what the wider one gives on training images (channel
pruning with reconstruction, He, Zhang and Sun, ICCV 2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.errors import DataError
from ethos.files import read_json
from ethos.model.levels import Architecture, Network, build
from ethos.model.slices import take_slices
from ethos.model.weights import ARCHITECTURE_FILE
from ethos.training.start import load_start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor

# pixels of all images together: enough equations for the largest convolution, and some seconds of work
PIXELS = 1 << 21
# how strongly a fit is held to the weights that were taken over, as a part of its inputs' mean power
DAMPING = 1e-3


def start_for(
    folder: Path, architecture: Architecture, dataset: Path, imgsz: int
) -> tuple[dict[str, Tensor] | None, dict[str, Any]]:
    """Return a run's starting weights as one of its networks takes them, None for scratch, and where they came from.

    Args:
        folder: What the `start` stage wrote. If it tells the network that the weights belong to, parts are fitted.
        architecture: The network to start.
        dataset: Materialised data set; images of its training side are read.
        imgsz: Side of the square input in pixels.
    """
    tensors, record = load_start(folder)
    if tensors is None:
        return None, record
    model = build(architecture)
    slices = take_slices(model, tensors)
    described = folder / ARCHITECTURE_FILE
    if slices.narrowed and described.is_file():
        source = build(Architecture.model_validate(read_json(described)))
        source.load_state_dict(tensors)
        model.load_state_dict(slices.tensors, strict=False)
        refit(model, source, slices.narrowed, training_images(dataset, imgsz))
        own = model.state_dict()
        return {name: own[name] for name in slices.tensors}, {**record, "refit": len(slices.narrowed)}
    return slices.tensors, record


def training_images(dataset: Path, imgsz: int) -> Tensor:
    """Return images of the training side as the network sees them: [n, 3, imgsz, imgsz] float32 in 0..1, RGB.

    Raises:
        DataError: An image cannot be read.
    """
    import cv2
    import numpy as np
    import torch

    from ethos_runtime.letterbox import letterbox

    files = sorted((dataset / "images" / "train").iterdir())
    images = []
    for file in files[:: max(1, len(files) * imgsz**2 // PIXELS)]:
        image = cv2.imread(str(file))
        if image is None:
            raise DataError(f"{file}: cannot be read as an image", "run: ethos data check")
        images.append(letterbox(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), (imgsz, imgsz))[0])
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().contiguous() / 255


def refit(model: Network, source: Network, narrowed: Mapping[str, Tensor], images: Tensor) -> None:
    """Fit the model's narrowed convolutions, in place and in running order, to the source's.

    Args:
        model: The narrower network.
        source: The wider one, its layers of the same names.
        narrowed: By convolution, the source's output channels for its own.
        images: [n, 3, h, w] in 0..1.
    """
    import torch

    wanted: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: object, __: object, output: Tensor) -> None:
            wanted[name] = output[:, narrowed[name]]

        return hook

    def fit(name: str) -> Callable[..., None]:
        def hook(conv: torch.nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
            fit_convolution(conv, inputs[0], wanted.pop(name))

        return hook

    hooks = [source.get_submodule(name).register_forward_hook(keep(name)) for name in narrowed]
    # each is fitted just before it runs, so that it makes up for what the fits before it could not
    hooks += [model.get_submodule(name).register_forward_pre_hook(fit(name)) for name in narrowed]
    with torch.no_grad():
        source.eval()(images)
        model.eval()(images)
    for handle in hooks:
        handle.remove()
    model.train()


def fit_convolution(conv: torch.nn.Conv2d, inputs: Tensor, outputs: Tensor) -> None:
    """Set a convolution's weights (and bias) to those that come nearest to `outputs` on `inputs`, by ridge regression.

    Args:
        conv: A convolution without groups.
        inputs: [n, c, h, w].
        outputs: [n, o, h', w'].
    """
    import torch
    from torch.nn.functional import pad, unfold

    padding = (int(conv.padding[0]), int(conv.padding[1]))
    columns = unfold(inputs, conv.kernel_size, padding=padding, stride=conv.stride).transpose(0, 1).flatten(1)
    weights = conv.weight.flatten(1)
    if conv.bias is not None:
        columns = pad(columns, (0, 0, 0, 1), value=1.0)
        weights = torch.cat([weights, conv.bias[:, None]], 1)
    power = columns @ columns.T
    damping = DAMPING * power.diagonal().mean()
    power.diagonal().add_(damping)
    reached = outputs.transpose(0, 1).flatten(1) @ columns.T + damping * weights
    fitted = torch.linalg.solve(power, reached.T).T
    if conv.bias is not None:
        conv.bias.copy_(fitted[:, -1])
        fitted = fitted[:, :-1]
    conv.weight.copy_(fitted.reshape(conv.weight.shape))
