"""Ultralytics, prepared: offline, silent, without integrations of its own, and importable beside a CPU-only torch.

Call `prepare()` before the first import of `ultralytics`.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import types
from functools import cache
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

INTEGRATIONS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")


@cache
def prepare() -> str:
    """Make `import ultralytics` safe and quiet; return which torchvision is in use: "torchvision" or "stand-in".

    Ultralytics looks for the network when imported, keeps settings in the home folder, sends usage statistics, and
    opens MLflow and DVC runs of its own. All of that is switched off for this process, and its settings live in a
    folder that goes when the process ends.
    """
    settings_folder = tempfile.mkdtemp(prefix="ethos-ultralytics-")
    atexit.register(shutil.rmtree, settings_folder, ignore_errors=True)
    os.environ["YOLO_CONFIG_DIR"] = settings_folder
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ["YOLO_VERBOSE"] = "false"
    os.environ.pop("ULTRALYTICS_API_KEY", None)
    torchvision = ensure_torchvision()

    import logging

    from ultralytics import settings
    from ultralytics.utils import LOGGER

    settings.update({"sync": False, **dict.fromkeys(INTEGRATIONS, False)})
    LOGGER.setLevel(logging.ERROR)
    return torchvision


def ensure_torchvision() -> str:
    """Import torchvision, or put a stand-in with the one operator that detection training needs in its place.

    torchvision's wheel links against the CUDA build of torch; beside a CPU build its import raises RuntimeError
    ("operator torchvision::nms does not exist") or fails to load its library.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, OSError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        _install_stand_in()
        return "stand-in"
    return "torchvision"


def _install_stand_in() -> None:
    package, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    package.__spec__ = ModuleSpec("torchvision", loader=None, is_package=True)
    package.__path__ = []
    ops.__spec__ = ModuleSpec("torchvision.ops", loader=None)
    ops.nms = nms  # type: ignore[attr-defined]
    package.ops = ops  # type: ignore[attr-defined]
    sys.modules["torchvision"], sys.modules["torchvision.ops"] = package, ops


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression with torchvision's signature and result, computed by OpenCV.

    Args:
        boxes: [n, 4] corners (x1, y1, x2, y2).
        scores: [n].
        iou_threshold: Boxes that overlap a better one by more than this are dropped.

    Returns:
        Indices of the boxes kept, best first.
    """
    import cv2
    import torch

    if not len(boxes):
        return torch.zeros(0, dtype=torch.int64, device=boxes.device)
    corners = boxes.detach().double().cpu().numpy()
    corners[:, 2:] -= corners[:, :2]
    kept = cv2.dnn.NMSBoxes(corners.tolist(), scores.detach().float().cpu().tolist(), 0.0, iou_threshold)
    return torch.as_tensor(kept, dtype=torch.int64, device=boxes.device).reshape(-1)
