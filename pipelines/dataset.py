"""Stage `dataset`: materialise the run's data set with its split and manifest."""

from __future__ import annotations

from ethos.catalog import load, load_params
from ethos.data.source import materialise
from pipelines import OUTPUTS, run


def main() -> None:
    """Write outputs/dataset."""
    materialise(load("dataset", load_params().dataset), OUTPUTS / "dataset")


if __name__ == "__main__":
    raise SystemExit(run(main))
