"""Images a second of the train stage against Ultralytics' own training with the same arguments, run in turn.

    python benchmarks/training.py [--recipe demo] [--epochs 4] [--repeats 3] [--json FILE]

Both count from the end of the first epoch to the end of the last, with validation and with the checkpoint that each
writes after every epoch; ours logs to MLflow as well. The stage's times are those of its metrics in MLflow, the
engine's are in its results.csv. Weights begin from scratch. Aim: a ratio of at least 0.97.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
from pathlib import Path

import yaml
from overhead import BARE, VARIANT, copy_project, seconds

from ethos.registry.runs import open_tracking

RECIPE = "benchmark"


def prepared(folder: Path, recipe: str, epochs: int) -> dict[str, str]:
    """Make a project with data and plans; return the environment in which its stages run."""
    copy_project(folder)
    spec = yaml.safe_load((folder / f"specs/recipes/{recipe}.yaml").read_text())
    spec |= {"weights": {"source": "scratch"}, "epochs": epochs, "patience": 0}
    (folder / f"specs/recipes/{RECIPE}.yaml").write_text(yaml.safe_dump(spec))
    params = yaml.safe_load((folder / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump(params | {"recipe": RECIPE}))
    # the stages set the second themselves; without it the engine alone would suffer from whatever else runs
    paths = {"PYTHONPATH": f"{folder / 'src'}:{folder}", "GOMP_SPINCOUNT": "10000"}
    for stage in (["dataset"], ["plan", VARIANT]):
        seconds([sys.executable, "-m", f"pipelines.{stage[0]}", *stage[1:]], folder, **paths)
    return paths


def ours(folder: Path, paths: dict[str, str]) -> float:
    """Run the train stage; return seconds from the end of its first epoch to the end of its last."""
    seconds([sys.executable, "-m", "pipelines.train", VARIANT], folder, **paths)
    run_id = json.loads((folder / f"outputs/train/{VARIANT}/run.json").read_text())["run_id"]
    with open_tracking("ethos", folder).run("read", go_on_with=run_id) as run:
        at = [measured.at for measured in run.history("map50")]
    return (max(at) - min(at)) / 1000


def theirs(folder: Path, work: Path, paths: dict[str, str]) -> float:
    """Run the engine's own training; return seconds from the end of its first epoch to the end of its last."""
    work.mkdir()
    seconds([sys.executable, str(BARE / "training.py"), str(folder), VARIANT], work, **paths)
    (results,) = work.rglob("results.csv")
    with results.open(encoding="utf-8", newline="") as stream:
        at = [float(row["time"]) for row in csv.DictReader(stream)]
    return at[-1] - at[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ethos-benchmark-") as scratch:
        folder = Path(scratch) / "project"
        paths = prepared(folder, options.recipe, options.epochs)
        images = len(list((folder / "outputs/dataset/images/train").iterdir())) * (options.epochs - 1)
        pairs = [
            (images / ours(folder, paths), images / theirs(folder, Path(scratch) / f"bare{turn}", paths))
            for turn in range(options.repeats)
        ]
    mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    found = {
        "ours_images_per_second": round(mine, 2),
        "bare_images_per_second": round(other, 2),
        "ratio": round(mine / other, 3),
        "each": [[round(value, 2) for value in pair] for pair in pairs],
    }
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
