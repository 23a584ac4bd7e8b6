"""Warnings about a training while it runs: losses that jump, scores that stand still, memory that gets tight."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ethos.training.epoch import Epoch

# a loss above this multiple of the median of the epochs before it is a spike
SPIKE_RATIO, SPIKE_EPOCHS = 1.5, 5
# a score that rises by less than this over so many epochs stands still
PLATEAU_GAIN, PLATEAU_EPOCHS = 0.002, 10
# percent of memory in use
TIGHT_PERCENT = 90.0
MEMORY = {"system_memory_usage_percentage": "memory", "gpu_0_memory_usage_percentage": "GPU memory"}


class Watch:
    """Looks at each epoch as it ends and says what is wrong; the same standstill or shortage is told once."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._losses: list[float] = []
        self._best, self._best_epoch = 0.0, 0
        self._told: set[str] = set()

    def __call__(self, epoch: Epoch, load: Mapping[str, float]) -> list[str]:
        """Return warnings about a finished epoch, given the machine's load as `system.sample` returns it."""
        return [*self._spike(epoch), *self._plateau(epoch), *self._memory(load)]

    def _spike(self, epoch: Epoch) -> list[str]:
        before = self._losses[-SPIKE_EPOCHS:]
        self._losses.append(epoch.train_loss)
        if len(before) < SPIKE_EPOCHS:
            return []
        usual = statistics.median(before)
        if epoch.train_loss <= SPIKE_RATIO * usual:
            return []
        return [f"loss spike: {epoch.train_loss:.3g}, the median of {SPIKE_EPOCHS} epochs before is {usual:.3g}"]

    def _plateau(self, epoch: Epoch) -> list[str]:
        if epoch.map50_95 > self._best + PLATEAU_GAIN:
            self._best, self._best_epoch = epoch.map50_95, epoch.epoch
            self._told.discard("plateau")
        still = epoch.epoch - self._best_epoch
        if still < PLATEAU_EPOCHS or "plateau" in self._told:
            return []
        self._told.add("plateau")
        return [f"plateau: mAP50-95 has not risen by {PLATEAU_GAIN} for {still} epochs"]

    def _memory(self, load: Mapping[str, float]) -> list[str]:
        found = []
        for name, what in MEMORY.items():
            percent = load.get(name, 0.0)
            if percent < TIGHT_PERCENT:
                self._told.discard(name)
            elif name not in self._told:
                self._told.add(name)
                found.append(f"{what} is near its limit: {percent:.0f} % in use")
        return found
