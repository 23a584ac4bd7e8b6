"""PyTorch detectors: a folder of weights.safetensors with architecture.json, or a checkpoint (.pt) read weights-only.

A checkpoint pickles its network as code to call, which is never called here. Its architecture is found instead among
the graphs that this project knows: the one whose tensors have the checkpoint's names and shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos import catalog
from ethos.errors import ModelError
from ethos.evaluation.metadata import Metadata
from ethos.evaluation.networks import unit_values
from ethos.model.activations import LEAKY_SLOPE
from ethos.model.levels import Architecture, Steps, build, resolve_level
from ethos.model.weights import WEIGHTS_FILE, load_model, read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ethos.evaluation.networks import Precision
    from ethos.model.weights import Checkpoint
    from ethos.specs import Activation
    from ethos_runtime.decode import Floats
    from ethos_runtime.letterbox import Image

PUBLISHED = ("yolo11n", "yolov8n", "yolo11s", "yolov8s")
ACTIVATION_CLASSES: dict[str, Activation] = {
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.LeakyReLU": "leaky_relu",
}
OUTPUT = "detections"


class TorchNetwork:
    """A PyTorch detector on the CPU, float32, its boxes decoded by Ultralytics' head.

    Args:
        path: A folder with weights.safetensors and architecture.json, that weights file itself, or a .pt checkpoint.
        names: Class names of the data, for a checkpoint that holds none.
        imgsz: Height and width to run it at, in pixels.
        threads: Of PyTorch in this process; as many as it likes if not given.

    Raises:
        ModelError: The file is missing, damaged or refused, or of no architecture that is known.
    """

    runtime = "torch"
    precision: Precision = "fp32"

    def __init__(
        self, path: Path, names: tuple[str, ...] | None, imgsz: tuple[int, int], threads: int | None = None
    ) -> None:
        """Build the network and fill it."""
        import torch

        if threads:
            torch.set_num_threads(threads)
        folder = path if path.is_dir() else path.parent
        if path.is_dir() or path.name == WEIGHTS_FILE:
            model, architecture = load_model(folder)
        else:
            model, architecture = open_checkpoint(path, names)
        self._model = model.eval()
        self._model.fuse(verbose=False)
        self.imgsz = imgsz
        self.metadata = Metadata(architecture.names, imgsz)
        self.outputs: dict[str, tuple[int, ...]] = {OUTPUT: (1, 0, 0)}

    def feed(self, image: Image) -> None:
        """Hand over an image."""
        import torch

        self._fed = torch.from_numpy(unit_values(image))[None]

    def invoke(self) -> None:
        """Run on the image that was fed."""
        import torch

        with torch.inference_mode():
            self._found = self._model(self._fed)

    def read(self) -> dict[str, Floats]:
        """Return the decoded boxes and scores, [1, 4 + classes, anchors], boxes in pixels."""
        values: Floats = (self._found[0] if isinstance(self._found, tuple | list) else self._found).numpy()
        return {OUTPUT: values}


def open_checkpoint(path: Path, names: tuple[str, ...] | None) -> tuple[Any, Architecture]:
    """Return the network of a checkpoint with its weights, and its architecture.

    Raises:
        ModelError: The checkpoint cannot be read, or no known graph has its tensors.
    """
    checkpoint = read_checkpoint(path)
    labels = checkpoint.names or names
    if labels is None:
        raise ModelError(f"{path}: holds no class names", "evaluate it on a data set, whose names then count")
    activation = _activation(checkpoint, path)
    shapes = {name: tuple(value.shape) for name, value in checkpoint.tensors.items()}
    tried = []
    for label, base, steps in _graphs(checkpoint.base):
        architecture = Architecture(base=base, steps=steps, activation=activation, names=labels)
        model = build(architecture)
        if {name: tuple(value.shape) for name, value in model.state_dict().items()} == shapes:
            model.load_state_dict({name: value.float() for name, value in checkpoint.tensors.items()})
            return model, architecture
        tried.append(label)
    raise ModelError(
        f"{path}: is none of the networks known here with {len(labels)} classes (tried {', '.join(tried)})",
        "evaluate its ONNX or TFLite export, or describe its graph in specs/levels",
    )


def _graphs(hint: str | None) -> Iterator[tuple[str, str, Steps]]:
    """Yield label, base graph and steps of every network to try: the one that the file names, levels, published ones.

    A name from the file is used only if it is one of the published graphs.
    """
    bases = sorted(PUBLISHED, key=lambda name: name != hint)
    yield bases[0], bases[0], ()
    for level in catalog.names("level"):
        base, steps = resolve_level(level)
        if steps:
            yield level, base, steps
    yield from ((base, base, ()) for base in bases[1:])


def _activation(checkpoint: Checkpoint, path: Path) -> Activation:
    found = [word for name, word in ACTIVATION_CLASSES.items() if name in checkpoint.classes]
    if len(found) != 1:
        listed = ", ".join(found) or "none of silu, relu, leaky_relu"
        raise ModelError(
            f"{path}: its activation cannot be told from its classes ({listed})",
            "evaluate its ONNX or TFLite export, or a folder with architecture.json",
        )
    if found == ["leaky_relu"] and checkpoint.slopes - {LEAKY_SLOPE}:
        raise ModelError(
            f"{path}: has LeakyReLU with slopes {sorted(checkpoint.slopes)}, known is {LEAKY_SLOPE}",
            "evaluate its ONNX or TFLite export",
        )
    return found[0]
