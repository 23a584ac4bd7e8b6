"""`ethos evaluate`: what a file scores."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import Annotated

import typer

from ethos.console import OUTPUTS, AsJson, print_json, print_table


def evaluate(
    file: Annotated[
        Path, typer.Argument(help="A TFLite file with a raw head (decode.json beside it) or in-graph decode.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="A data.yaml in YOLO format, or a materialised data set; the pipeline's own by default."),
    ] = None,
    split: Annotated[str, typer.Option(help="Side of the data set to score on.")] = "val",
    conf: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Lowest confidence; params.yaml's by default.")
    ] = None,
    iou: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="IoU of non-maximum suppression; params.yaml's by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a file itself, through its interpreter, under a stated protocol."""
    from ethos import catalog
    from ethos.evaluation.evaluate import evaluate as evaluate_file
    from ethos.evaluation.samples import load_samples
    from ethos.reporting.tables import score_table

    protocol = catalog.load_params().protocol
    given = {key: value for key, value in (("conf", conf), ("iou", iou)) if value is not None}
    protocol = type(protocol).model_validate({**protocol.model_dump(), **given})
    samples = load_samples(data or catalog.project_root() / OUTPUTS / "dataset", split)
    report = evaluate_file(file, samples, protocol)
    if as_json:
        print_json(report)
    else:
        print_table(score_table(report))
