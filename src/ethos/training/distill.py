"""Distillation: a trained network's predictions as soft targets beside the labels.

Classes: binary cross-entropy to the teacher's probabilities, each weighted by how far student and teacher are apart
(Yang et al., "Bridging Cross-task Protocol Inconsistency for Distillation in Dense Object Detection", ICCV 2023,
equations 6 and 7: the classes of a dense detector are independent binary tasks, so no softmax over them).
Boxes: Kullback-Leibler divergence of each side's distribution to the teacher's (Zheng et al., "Localization
Distillation for Dense Object Detection", CVPR 2022, equation 3, at temperature 1), weighted by the teacher's
confidence, since a place where it sees nothing says nothing about a box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ethos.model.levels import Network

SIDES = 4


@dataclass(frozen=True)
class Teacher:
    """A trained network to learn from; the gains weigh its class and box targets in the loss."""

    network: Network
    cls: float = 1.0
    dfl: float = 1.0


class TaughtLoss:
    """The engine's detection loss, with the distance to a teacher's predictions as one more part.

    It takes the place of a network's criterion. It is no torch module: the teacher must not become part of the network
    that is saved.
    """

    def __init__(self, own: Any, teacher: Teacher, device: Any) -> None:
        """Freeze the teacher and move it to the device."""
        self._own, self._teacher = own, teacher
        self._network = teacher.network.to(device).eval().requires_grad_(False)

    def __call__(self, predictions: Any, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the parts of the loss, times the batch size as the engine has them, and their detached means."""
        import torch

        parts, items = self._own(predictions, batch)
        images = batch["img"]
        with torch.no_grad():
            _, taught = self._network(images)
        classes, boxes = distances(self._own.parse_output(predictions), taught)
        soft = self._teacher.cls * classes + self._teacher.dfl * boxes
        return torch.cat([parts, (soft * len(images)).view(1)]), {**items, "distill_loss": soft.detach()}


def distances(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return how far a student's raw predictions are from a teacher's: of classes, and of boxes.

    Args:
        student: "scores" [b, classes, anchors] and "boxes" [b, 4 * reg_max, anchors], both logits.
        teacher: The same, of the same shapes.

    Returns:
        Two scalars, each a sum over anchors divided by the teacher's summed confidence (at least 1), as the engine
        divides its own losses by the summed target scores.
    """
    import torch
    from torch.nn import functional

    wanted = teacher["scores"].float().sigmoid()
    scores = student["scores"].float()
    confidence = wanted.amax(dim=1)
    total = confidence.sum().clamp(min=1)
    gap = (wanted - scores.detach().sigmoid()).abs()
    entropy = functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    classes = (gap * entropy).sum() / total

    batch, channels, anchors = student["boxes"].shape
    shape = (batch, SIDES, channels // SIDES, anchors)
    mine = functional.log_softmax(student["boxes"].float().view(shape), dim=2)
    theirs = functional.log_softmax(teacher["boxes"].float().view(shape), dim=2)
    divergence = functional.kl_div(mine, theirs, reduction="none", log_target=True).sum(dim=2).mean(dim=1)
    boxes = (confidence * divergence).sum() / total
    return classes, torch.as_tensor(boxes)
