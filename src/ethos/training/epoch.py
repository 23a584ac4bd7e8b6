"""What one epoch of a training gave."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

METRICS = {
    "metrics/precision(B)": "precision",
    "metrics/recall(B)": "recall",
    "metrics/mAP50(B)": "map50",
    "metrics/mAP50-95(B)": "map50_95",
}


@dataclass(frozen=True)
class Epoch:
    """One epoch; losses are means over it, scores are of the validation side.

    `memory_mib` is the process's resident memory, `gpu_memory_mib` what PyTorch holds on the GPU (0 without one).
    `train_distill_loss` is there when a teacher is.
    """

    epoch: int
    train_box_loss: float
    train_cls_loss: float
    train_dfl_loss: float
    val_box_loss: float
    val_cls_loss: float
    val_dfl_loss: float
    precision: float
    recall: float
    map50: float
    map50_95: float
    lr: float
    images_per_second: float
    seconds: float
    memory_mib: float
    gpu_memory_mib: float = 0.0
    train_distill_loss: float | None = None

    @property
    def train_loss(self) -> float:
        """The sum of the training losses."""
        return self.train_box_loss + self.train_cls_loss + self.train_dfl_loss + (self.train_distill_loss or 0.0)


def epoch_of(trainer: Any, seconds: float) -> Epoch:
    """Return the epoch that the engine's trainer has just validated; `seconds` is what training it took."""
    import psutil

    losses = {name: float(value) for name, value in trainer.tloss.items()}
    metrics = {key: float(value) for key, value in trainer.metrics.items()}
    return Epoch(
        epoch=trainer.epoch + 1,
        train_box_loss=losses["box_loss"],
        train_cls_loss=losses["cls_loss"],
        train_dfl_loss=losses["dfl_loss"],
        train_distill_loss=losses.get("distill_loss"),
        val_box_loss=metrics["val/box_loss"],
        val_cls_loss=metrics["val/cls_loss"],
        val_dfl_loss=metrics["val/dfl_loss"],
        **{ours: metrics[theirs] for theirs, ours in METRICS.items()},
        lr=float(trainer.optimizer.param_groups[0]["lr"]),
        images_per_second=len(trainer.train_loader.dataset) / seconds,
        seconds=seconds,
        memory_mib=psutil.Process().memory_info().rss / 2**20,
        gpu_memory_mib=_gpu_memory_mib(trainer.device),
    )


def epoch_row(epoch: Epoch) -> dict[str, float]:
    """Return an epoch as a flat row, as it stands in epochs.csv; what it does not have is left out."""
    return {
        key: value if key == "epoch" else float(f"{value:.6g}")
        for key, value in asdict(epoch).items()
        if value is not None
    }


def _gpu_memory_mib(device: Any) -> float:
    import torch

    return torch.cuda.memory_reserved(device) / 2**20 if device.type == "cuda" else 0.0
