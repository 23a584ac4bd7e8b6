"""What quantization options win back of a loss that is provoked on purpose, on the run's data set.

    python benchmarks/quantization.py FOLDER --variant level4_relu

Needs outputs/dataset and the variant's trained network. The loss: neighbouring layers of the trained network are scaled
up and down by powers of two, channel by channel, which leaves the float network the same to the bit; weights then get
one scale a tensor, and 16 images set the ranges. FOLDER/scores.json holds every score with the SHA-256 of its file.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos import catalog
from ethos.compress.quantize import quantize
from ethos.evaluation.evaluate import assess
from ethos.evaluation.samples import load_samples
from ethos.files import new_folder, write_json
from ethos.model.engine import prepare
from ethos.model.weights import load_model, read_tensors, save_model
from ethos.specs import Qat, Quantize, Recipe
from ethos.training.aware import fine_tune
from ethos.training.train import train

if TYPE_CHECKING:
    import torch
    from torch import nn

DATASET = Path("outputs/dataset")
COARSE = Quantize(per_channel=False, calibration_images=16)
OPTIONS = {
    "provoked": {},
    "256 images": {"calibration_images": 256},
    "mse ranges": {"ranges": "mse"},
    "percentile 99.99": {"ranges": "percentile", "percentile": 99.99},
    "bias correction": {"bias_correction": True},
    "per channel": {"per_channel": True},
}
FIGURES = ("map50", "map50_95")


def unbalance(source: Path, into: Path, most: int, seed: int) -> int:
    """Write the network with its channels scaled by 2^-most to 2^most; return how many pairs of layers were changed.

    Only where one layer alone reads another: in bottlenecks and along the branches of the head. ReLU and LeakyReLU let
    positive factors through.
    """
    import torch
    from ultralytics.nn.modules.block import Bottleneck
    from ultralytics.nn.modules.conv import Conv

    model, architecture = load_model(source)
    model.eval()
    images = torch.rand(1, 3, 128, 128)
    pairs: list[tuple[Any, Any]] = [(each.cv1, each.cv2) for each in model.modules() if isinstance(each, Bottleneck)]
    for branch in (*model.model[-1].cv2, *model.model[-1].cv3):
        pairs += [(one, two) for one, two in pairwise(branch) if isinstance(one, Conv)]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        before = model(images)[0]
        for one, two in pairs:
            _scale(one, two.conv if isinstance(two, Conv) else two, most, generator)
        if not torch.equal(before, model(images)[0]):
            raise SystemExit("the float network changed")
    with new_folder(into) as folder:
        save_model(folder, model, architecture)
    return len(pairs)


def _scale(first: Any, second: nn.Conv2d, most: int, generator: torch.Generator) -> None:
    import torch

    factors = 2.0 ** torch.randint(-most, most + 1, (first.conv.out_channels,), generator=generator).float()
    first.bn.weight.mul_(factors)
    first.bn.bias.mul_(factors)
    second.weight.div_(factors[None, :, None, None])


def tuned(source: Path, into: Path, recipe: Recipe, qat: Qat, rounded: bool) -> Path:
    """Train on for `qat.epochs`, with or without rounding; return the folder of the weights."""
    _, architecture = load_model(source)
    start = read_tensors(source / "weights.safetensors")
    with new_folder(into) as folder:
        if rounded:
            fine_tune(architecture, recipe, qat, DATASET, folder, start=start)
        else:
            same = {"epochs": qat.epochs, "lr0": qat.lr0, "warmup_epochs": 0.0, "qat": None}
            train(architecture, recipe.model_copy(update=same), DATASET, folder, start=start)
    return into


def scored(models: Path, into: Path, imgsz: int, options: Quantize) -> dict[str, Any]:
    """Quantize and score a network; return the scores of its float32 and INT8 files."""
    data, params = load_samples(DATASET, "val"), catalog.load_params().protocol
    with new_folder(into) as folder:
        quantize(models, DATASET, imgsz, options, folder)
    reports = {name: assess(into / f"{name}.tflite", data, params).document() for name in ("fp32", "int8")}
    return {
        name: {**{key: report[key] for key in FIGURES}, "sha256": report["sha256"]} for name, report in reports.items()
    }


def main() -> None:
    """Provoke the loss, try every option and both trainings, and print and write the scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", default="level4_relu")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--lr0", type=float, default=0.0005)
    parser.add_argument("--most", type=int, default=4, help="Largest power of two by which a channel is scaled.")
    given = parser.parse_args()
    prepare()
    recipe = catalog.load("recipe", catalog.load_params().recipe)
    models = given.folder / "provoked"
    unbalance(Path("outputs/models") / given.variant / "dense", models, given.most, seed=0)
    scores = {}
    for name, changes in OPTIONS.items():
        options = Quantize.model_validate({**COARSE.model_dump(), **changes})
        scores[name] = scored(models, given.folder / "files" / name.replace(" ", "_"), recipe.imgsz, options)
        _show(name, scores[name])
    qat = Qat(epochs=given.epochs, lr0=given.lr0, per_channel=False)
    for name, rounded in (("training without rounding", False), ("quantization-aware training", True)):
        place = tuned(models, given.folder / "tuned" / name.replace(" ", "_"), recipe, qat, rounded)
        # as a plan has it: scales of a network that was trained with rounding stay
        options = COARSE.model_copy(update={"balance": not rounded})
        scores[name] = scored(place, given.folder / "files" / name.replace(" ", "_"), recipe.imgsz, options)
        _show(name, scores[name])
    lost = {key: scores["provoked"]["fp32"][key] - scores["provoked"]["int8"][key] for key in FIGURES}
    won = {key: scores["quantization-aware training"]["int8"][key] - scores["provoked"]["int8"][key] for key in FIGURES}
    recovered = {key: round(won[key] / lost[key], 3) for key in FIGURES}
    print("recovered by quantization-aware training:", recovered)
    document = {"schema": 1, "provenance": "measured", "variant": given.variant, "scores": scores}
    write_json(given.folder / "scores.json", {**document, "recovered": recovered})


def _show(name: str, scores: dict[str, Any]) -> None:
    figures = "  ".join(f"{file} {scores[file]['map50']:.3f}/{scores[file]['map50_95']:.3f}" for file in scores)
    print(f"{name:30} {figures}", flush=True)


if __name__ == "__main__":
    main()
