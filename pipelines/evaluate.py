"""evaluate: score the float32 and the INT8 file of a candidate on the validation side, under the run's protocol."""

from __future__ import annotations

from typing import Any

from ethos.catalog import load_params
from ethos.evaluation.evaluate import evaluate
from ethos.evaluation.samples import load_samples
from ethos.files import new_folder, write_json
from pipelines import OUTPUTS, run

SPLIT = "val"
PRECISIONS = ("fp32", "int8")
FIGURES = ("map50", "map50_95")


def main(variant: str, form: str) -> None:
    """Write outputs/evaluate/VARIANT/FORM."""
    params = load_params()
    data = load_samples(OUTPUTS / "dataset", SPLIT)
    files = OUTPUTS / "quantize" / variant / form
    scores = {
        precision: evaluate(files / f"{precision}.tflite", data, params.protocol, files / "decode.json")
        for precision in PRECISIONS
    }
    with new_folder(OUTPUTS / "evaluate" / variant / form) as folder:
        for precision, document in scores.items():
            write_json(folder / f"{precision}.json", document)
        write_json(folder / "metrics.json", summary(scores["fp32"], scores["int8"]))


def summary(fp32: dict[str, Any], int8: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the figures of both files, and what quantization took from each."""
    drop = {f"{key}_drop": round(fp32[key] - int8[key], 6) for key in FIGURES}
    return {"fp32": {key: fp32[key] for key in FIGURES}, "int8": {key: int8[key] for key in FIGURES} | drop}


if __name__ == "__main__":
    raise SystemExit(run(main))
