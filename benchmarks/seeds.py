"""Scores of variants over several seeds on the run's data set, trained, quantized and evaluated as the stages do.

    python benchmarks/seeds.py FOLDER --variants level3_relu level4_relu --seeds 0 1 2
    python benchmarks/seeds.py FOLDER --variants level4_relu --teacher level4_leaky

Needs outputs/dataset (`dvc repro dataset`). Each seed has its own warm start. What FOLDER already holds is not made
again, so that a killed run goes on, and variants can be added later. FOLDER/scores.json holds every score, and
differences to the first variant with their standard error. With --teacher each variant is also trained with that one's
predictions as soft targets.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from pathlib import Path

from ethos import catalog
from ethos.compress.quantize import quantize
from ethos.evaluation.evaluate import assess
from ethos.evaluation.samples import load_samples
from ethos.files import new_folder, read_json, write_json
from ethos.model.weights import load_model
from ethos.plan import quantize_plan, start_plan, train_plan
from ethos.specs import Recipe
from ethos.training.distill import Teacher
from ethos.training.monitor import EpochLines
from ethos.training.narrow import start_for
from ethos.training.start import make_start
from ethos.training.train import train

DATASET = Path("outputs/dataset")
GAINS = (Recipe.model_fields["teacher_cls"].default, Recipe.model_fields["teacher_dfl"].default)
FILES = {"fp32": "fp32.tflite", "int8": "int8.tflite"}


def trained(folder: Path, variant: str, seed: int, teacher: str | None = None) -> Path:
    """Train a variant with its own warm start unless the folder holds it; return the folder of its weights."""
    params = catalog.load_params().model_copy(update={"seed": seed})
    start = folder / str(seed) / "start"
    if not start.is_dir():
        warm = start_plan(params)
        with new_folder(start) as fresh:
            lines = EpochLines(f"seed {seed}: start", warm.warm_up.epochs if warm.warm_up else 0, sys.stderr)
            make_start(warm, DATASET, fresh, lines)
    models = folder / str(seed) / variant / (f"taught-by-{teacher}" if teacher else "dense")
    if not models.is_dir():
        plan = train_plan(params, variant)
        taught = Teacher(load_model(trained(folder, teacher, seed))[0], *GAINS) if teacher else None
        with new_folder(models) as fresh:
            tensors, _ = start_for(start, plan.architecture, DATASET, plan.recipe.imgsz)
            lines = EpochLines(f"seed {seed}: {variant} {models.name}", plan.recipe.epochs, sys.stderr)
            result = train(
                plan.architecture,
                plan.recipe,
                DATASET,
                fresh,
                start=tensors,
                seed=seed,
                on_epoch=lines,
                teacher=taught,
            )
            write_json(fresh / "seconds.json", round(sum(epoch.seconds for epoch in result.epochs), 1))
    return models


def scored(models: Path, variant: str) -> dict[str, float]:
    """Quantize and evaluate a trained network unless that was done; return mAP50 and mAP50-95 of both files."""
    record = models.parent / f"{models.name}.json"
    if not record.is_file():
        params = catalog.load_params()
        plan = quantize_plan(params, variant)
        files = models.parent / f"{models.name}-files"
        if not files.is_dir():
            with new_folder(files) as fresh:
                quantize(models, DATASET, plan.imgsz, plan.options, fresh)
        samples = load_samples(DATASET, "val")
        scores = {kind: assess(files / name, samples, params.protocol).scores for kind, name in FILES.items()}
        figures = {}
        for kind, each in scores.items():
            figures |= {f"{kind}.map50": each.map50, f"{kind}.map50_95": each.map50_95}
        write_json(record, figures)
    found: dict[str, float] = read_json(record)
    return found


def differences(scores: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, list[float]]]:
    """Return for each variant but the first the mean difference to the first, and its standard error, per figure."""
    first, *others = scores
    found: dict[str, dict[str, list[float]]] = {}
    for other in others:
        found[other] = {}
        for figure in scores[first][0]:
            pairs = zip(scores[first], scores[other], strict=True)
            each = [theirs[figure] - mine[figure] for mine, theirs in pairs]
            error = statistics.stdev(each) / math.sqrt(len(each)) if len(each) > 1 else math.nan
            found[other][figure] = [round(statistics.mean(each), 4), round(error, 4)]
    return found


def main() -> None:
    """Make what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variants", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--teacher", help="a variant that also teaches each of the others")
    options = parser.parse_args()
    ways = [(variant, None) for variant in options.variants]
    if options.teacher:
        ways += [(options.teacher, None), *((variant, options.teacher) for variant in options.variants)]
    scores = {
        f"{variant} taught by {teacher}" if teacher else variant: [
            scored(trained(options.folder, variant, seed, teacher), variant) for seed in options.seeds
        ]
        for variant, teacher in ways
    }
    document = {"seeds": options.seeds, "scores": scores, "against_first": differences(scores)}
    write_json(options.folder / "scores.json", document)
    for variant, found in scores.items():
        for seed, row in zip(options.seeds, found, strict=True):
            print(variant, seed, "  ".join(f"{figure} {value:.4f}" for figure, value in row.items()))
    for variant, figures in document["against_first"].items():
        print(f"{variant} - {options.variants[0]}:", {name: f"{m:+.4f} +- {e:.4f}" for name, (m, e) in figures.items()})


if __name__ == "__main__":
    main()
