"""`ethos bench`: how fast files run here."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import Annotated

import typer

from ethos.console import OUTPUTS, AsJson, print_json, print_table


def bench(
    files: Annotated[
        list[Path], typer.Argument(help="TFLite or ONNX files; the first is the one that others are compared with.")
    ],
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads of the runtime.")] = 1,
    runs: Annotated[int, typer.Option(min=5, max=100_000, help="Measured runs.")] = 50,
    warmup: Annotated[int, typer.Option(min=0, max=100_000, help="Runs before the measured ones.")] = 10,
    images: Annotated[
        Path | None,
        typer.Option(
            help="An image, or a folder of which the first 16 take turns; the run's validation images, or noise."
        ),
    ] = None,
    conf: Annotated[float, typer.Option(min=0.0, max=1.0, help="Lowest confidence of a detection.")] = 0.25,
    iou: Annotated[float, typer.Option(min=0.0, max=1.0, help="IoU of non-maximum suppression.")] = 0.7,
    contract: Annotated[Path | None, typer.Option(help="The decode contract, if it is not beside the files.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure frames a second at batch 1 on this CPU, network alone and end to end, and peak memory."""
    from ethos import catalog
    from ethos.evaluation.speed import Load, some_images
    from ethos.evaluation.speed import bench as measure
    from ethos.reporting.scores import speed_table

    own = catalog.project_root() / OUTPUTS / "dataset" / "images" / "val"
    source = images or (own if own.is_dir() else None)
    load = Load(
        threads=threads,
        warmup=warmup,
        runs=runs,
        conf=conf,
        iou=iou,
        images=some_images(source) if source else (),
    )
    report = measure(files, load, contract, progress=lambda file: typer.echo(f"measuring {file}", err=True))
    if as_json:
        print_json(report)
    else:
        print_table(speed_table(report))
