"""A training as it is followed: shown, logged to its run epoch by epoch, and watched for what goes wrong."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethos.errors import EthosError
from ethos.training.environment import hardware, versions
from ethos.training.epoch import epoch_row
from ethos.training.system import sample
from ethos.training.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ethos.registry.runs import Run, Tracking
    from ethos.training.checkpoint import Checkpoints
    from ethos.training.epoch import Epoch
    from ethos.training.monitor import Monitor

# a metric that every epoch has tells which epochs a run that is opened again holds already
ALWAYS = "map50"
NOTE = "note."


@contextmanager
def run_of(
    checkpoints: Checkpoints, tracking: Tracking, name: str, tags: Mapping[str, str], parent: str | None = None
) -> Iterator[Run]:
    """Open the run that a training's checkpoints belong to, or a new one, for the block; the checkpoints remember it.

    A failure is noted in the run. Arguments beside `checkpoints` are those of `Tracking.run`.
    """
    known = checkpoints.run_id
    if known is not None and not tracking.run_known(known):
        known = None
    with tracking.run(name, tags, parent, go_on_with=known) as tracked:
        checkpoints.keep_run_id(tracked.run_id)
        try:
            yield tracked
        except EthosError as error:
            tracked.set_tags({"failure": error.message})
            raise


def environment_tags() -> dict[str, str]:
    """Return what a run is told of the machine and the packages that it is made with."""
    return {
        **{f"version.{name}": value for name, value in versions().items()},
        **{f"hardware.{name}": value for name, value in hardware().items()},
    }


@dataclass
class Follower:
    """Follows a training that may have begun in an earlier process; no epoch is logged twice.

    Args:
        run: Where to log.
        monitor: Where to show.
        folder: A folder on the disk that is written to.
    """

    run: Run
    monitor: Monitor
    folder: Path

    def __post_init__(self) -> None:
        """Record what the training runs on, and ask which epochs and notes the run holds."""
        self._watch, self._logged = Watch(), {measured.step for measured in self.run.history(ALWAYS)}
        # the load of the processor counts from here
        sample(self.folder)
        self._notes = sum(name.startswith(NOTE) for name in self.run.tags())
        self.run.set_tags(environment_tags())

    def epoch(self, epoch: Epoch) -> None:
        """Show a finished epoch and log it, with the machine's load and with warnings."""
        self.monitor(epoch)
        # for an epoch of an earlier process this machine's load now means nothing
        load = {} if epoch.epoch in self._logged else sample(self.folder)
        warnings = self._watch(epoch, load)
        if epoch.epoch in self._logged:
            return
        row = {name: value for name, value in epoch_row(epoch).items() if name != "epoch"}
        self.run.log_metrics({**row, **{f"system/{name}": value for name, value in load.items()}}, step=epoch.epoch)
        self._logged.add(epoch.epoch)
        for warning in warnings:
            self.tell(f"epoch {epoch.epoch}: {warning}")

    def tell(self, text: str) -> None:
        """Show and log what a user should know."""
        self.monitor.tell(text)
        self._notes += 1
        self.run.set_tags({f"{NOTE}{self._notes}": text})
