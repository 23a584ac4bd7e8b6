"""`ethos evaluate`: what a file scores."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from ethos.console import OUTPUTS, AsJson, one_of, print_json, print_table
from ethos.errors import SpecError

if TYPE_CHECKING:
    from ethos.evaluation.evaluate import Options, Scored
    from ethos.evaluation.samples import SampleSet
    from ethos.specs import ProtocolParams


def evaluate(
    file: Annotated[
        Path,
        typer.Argument(
            help="A .tflite, .onnx or .pt file, or a folder with weights.safetensors; a raw head needs its decode.json "
            "beside it."
        ),
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
    against: Annotated[
        Path | None, typer.Option(help="Another file, scored on the same images: difference and how sure it is.")
    ] = None,
    contract: Annotated[Path | None, typer.Option(help="The decode contract, if it is not beside the file.")] = None,
    imgsz: Annotated[
        int | None,
        typer.Option(min=32, max=4096, help="Input side; 640 by default for PyTorch, other files have their own."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Refuse a file of another precision: fp32, fp16, mixed or int8.")
    ] = None,
    leak_free: Annotated[
        bool, typer.Option("--leak-free", help="Leave out images that are related to a training image.")
    ] = False,
    leaks: Annotated[
        bool, typer.Option("--leaks", help="Also score without the related images, for each kind of relation.")
    ] = False,
    exclude: Annotated[Path | None, typer.Option(help="Leave out the images listed here, a file name a line.")] = None,
    resamples: Annotated[int, typer.Option(min=10, max=100_000, help="Resamples behind the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Score a file itself, through its interpreter, under a stated protocol."""
    from ethos import catalog
    from ethos.evaluation.compare import compare
    from ethos.evaluation.evaluate import Options, assess
    from ethos.evaluation.networks import Precision
    from ethos.evaluation.samples import load_samples
    from ethos.reporting.scores import score_tables

    params = _protocol(conf, iou)
    options = Options(
        contract=contract,
        imgsz=(imgsz, imgsz) if imgsz else None,
        precision=one_of("precision", precision, get_args(Precision)),
        resamples=resamples,
        seed=seed,
    )
    samples = load_samples(data or catalog.project_root() / OUTPUTS / "dataset", split)
    samples, related = _choose(samples, exclude, leak_free, leaks)
    scored = assess(file, samples, params, options)
    report = scored.document()
    if leaks:
        from ethos.evaluation.leaks import leak_scores

        report["leaks"] = leak_scores(scored, related)
    if against:
        report["against"] = compare(scored, _other(against, samples, params, options))
    if as_json:
        print_json(report)
    else:
        print_table(score_tables(report))


def _protocol(conf: float | None, iou: float | None) -> ProtocolParams:
    from ethos import catalog

    protocol = catalog.load_params().protocol
    given = {key: value for key, value in (("conf", conf), ("iou", iou)) if value is not None}
    return type(protocol).model_validate({**protocol.model_dump(), **given})


def _choose(
    samples: SampleSet, exclude: Path | None, leak_free: bool, leaks: bool
) -> tuple[SampleSet, dict[str, frozenset[Path]]]:
    """Return the images to score on, and those that have a relative in train."""
    from ethos.evaluation.samples import without_listed

    if leak_free and (exclude or leaks):
        raise SpecError(
            "--leak-free goes with neither --exclude nor --leaks",
            "--leaks shows the leak-free scores beside the others",
        )
    if exclude:
        samples = without_listed(samples, exclude)
    if not (leak_free or leaks):
        return samples, {}
    from ethos.evaluation.leaks import ANY, WHY, related

    found = related(samples)
    return (samples.without(found[ANY], WHY) if leak_free else samples), found


def _other(file: Path, samples: SampleSet, params: ProtocolParams, options: Options) -> Scored:
    """Return the scores of the file compared with; its contract is its own, its precision any."""
    from dataclasses import replace

    from ethos.evaluation.evaluate import assess

    return assess(file, samples, params, replace(options, contract=None, precision=None))
