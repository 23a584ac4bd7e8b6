"""evaluate: score the float32 and the INT8 file of a candidate on the validation side, under the run's protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.catalog import load_params
from ethos.evaluation.bootstrap import FIGURES, paired
from ethos.evaluation.compare import class_differences
from ethos.evaluation.dead import dead_channels
from ethos.evaluation.evaluate import Options, assess
from ethos.evaluation.samples import load_samples
from ethos.files import new_folder, write_json
from pipelines import OUTPUTS, run

if TYPE_CHECKING:
    from ethos.evaluation.evaluate import Scored

SPLIT = "val"
PRECISIONS = ("fp32", "int8")
WORST = {"map50": "worst_class_drop", "map50_95": "worst_class_drop_95"}


def main(variant: str, form: str) -> None:
    """Write outputs/evaluate/VARIANT/FORM."""
    params = load_params()
    data = load_samples(OUTPUTS / "dataset", SPLIT)
    files = OUTPUTS / "quantize" / variant / form
    fp32, int8 = (
        assess(
            files / f"{precision}.tflite",
            data,
            params.protocol,
            Options(contract=files / "decode.json", precision=precision, seed=params.seed),
        )
        for precision in PRECISIONS
    )
    loss = losses(fp32, int8)
    with new_folder(OUTPUTS / "evaluate" / variant / form) as folder:
        write_json(folder / "fp32.json", fp32.document())
        write_json(folder / "int8.json", int8.document() | {"loss": loss})
        write_json(folder / "activations.json", dead_channels(files / "model.onnx", data.samples))
        write_json(folder / "metrics.json", summary(fp32, int8, loss))


def losses(fp32: Scored, int8: Scored) -> dict[str, Any]:
    """Return what quantization took from each figure, with paired intervals, and from each class."""
    whole = {
        name: {"value": round(getattr(fp32.scores, name) - getattr(int8.scores, name), 6)}
        | paired(fp32.draws, int8.draws, name)
        for name in FIGURES
    }
    return {**whole, "per_class": class_differences(fp32, int8)}


def summary(fp32: Scored, int8: Scored, loss: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the figures of both files with their intervals, and what quantization took.

    The loss is given on the whole, and for the class that lost most.
    """
    document = {"fp32": _figures(fp32), "int8": _figures(int8)}
    for key in FIGURES:
        document["int8"][f"{key}_drop"] = loss[key]["value"]
        classes = [entry[key] for entry in loss["per_class"] if entry[key] is not None]
        if classes:
            document["int8"][WORST[key]] = max(classes)
    return document


def _figures(scored: Scored) -> dict[str, float]:
    intervals = scored.draws.document()
    figures: dict[str, float] = {key: getattr(scored.scores, key) for key in FIGURES}
    for key in FIGURES:
        figures[f"{key}_low"], figures[f"{key}_high"] = intervals[key]
    return figures


if __name__ == "__main__":
    raise SystemExit(run(main))
