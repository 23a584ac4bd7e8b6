"""Progress of a training, one line an epoch."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from ethos.training.epoch import Epoch

HEADER = f"{'epoch':>9} {'box':>7} {'class':>7} {'dfl':>7} {'mAP50':>7} {'mAP50-95':>9} {'images/s':>9} {'left':>8}"


class EpochLines:
    """Writes a table of epochs as they finish: mean training losses, validation scores, speed and time left.

    Args:
        title: What is trained.
        epochs: How many epochs are planned.
        stream: Where to write.
    """

    def __init__(self, title: str, epochs: int, stream: TextIO) -> None:
        self._epochs, self._stream, self._seconds = epochs, stream, 0.0
        stream.write(f"{title}\n{HEADER}\n")
        stream.flush()

    def __call__(self, epoch: Epoch) -> None:
        """Write one finished epoch."""
        self._seconds += epoch.seconds
        left = timedelta(seconds=round(self._seconds / epoch.epoch * (self._epochs - epoch.epoch)))
        counter = f"{epoch.epoch}/{self._epochs}"
        self._stream.write(
            f"{counter:>9} {epoch.train_box_loss:7.3f} {epoch.train_cls_loss:7.3f} {epoch.train_dfl_loss:7.3f} "
            f"{epoch.map50:7.3f} {epoch.map50_95:9.3f} {epoch.images_per_second:9.1f} {left!s:>8}\n"
        )
        self._stream.flush()
