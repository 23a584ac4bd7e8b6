"""A small trained network, and the files that quantization makes of it."""

from __future__ import annotations

import os
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from conftest import CLASSES, SIDE

from ethos.compress import calibration
from ethos.compress.quantize import quantize
from ethos.files import write_json
from ethos.model.levels import Architecture, resolve_level
from ethos.specs import Quantize
from ethos.training.train import train

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

    from ethos.specs import Recipe

OPTIONS = Quantize(calibration_images=16)


class Quantized:
    """Level 4 with LeakyReLU on a small data set: `model`, `files`, `record`, and what the converters `printed`."""

    def __init__(self, folder: Path, dataset: Path, recipe: Recipe) -> None:
        base, steps = resolve_level("level4")
        self.architecture = Architecture(base=base, steps=steps, activation="leaky_relu", names=CLASSES)
        self.model, self.files, self.dataset = folder / "model", folder / "files", dataset
        self.model.mkdir()
        self.files.mkdir()
        train(self.architecture, recipe, dataset, self.model)
        with stdout_to(folder / "stdout"):
            self.record = quantize(self.model, dataset, SIDE, OPTIONS, self.files)
        write_json(self.files / "quantize.json", {"variant": "level4_leaky", "form": "dense", **self.record})
        self.printed = (folder / "stdout").read_text()

    def images(self) -> np.ndarray[Any, Any]:
        """Return the calibration images."""
        return calibration.load(calibration.choose(self.dataset, 16), (SIDE, SIDE))


@contextmanager
def stdout_to(file: Path) -> Iterator[None]:
    """Send the process's stdout to a file, however it is written to."""
    saved = os.dup(1)
    with file.open("w") as stream, redirect_stdout(stream):
        os.dup2(stream.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(saved, 1)
            os.close(saved)
