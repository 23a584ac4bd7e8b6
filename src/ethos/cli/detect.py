"""`ethos detect`: boxes drawn by the version that a scenario has selected."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ethos.console import OUTPUTS, AsJson, print_json, print_table
from ethos.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator


def detect(
    source: Annotated[Path, typer.Argument(help="An image, a folder of images, or a video.")],
    scenario: Annotated[
        str | None, typer.Option(help="Scenario of registry/policy.yaml whose live version detects.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A detector file instead of a scenario's version.")] = None,
    contract: Annotated[Path | None, typer.Option(help="The decode contract of --file, if not beside it.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for pictures and detections.json; outputs/detect/SOURCE by default.")
    ] = None,
    conf: Annotated[float, typer.Option(min=0.0, max=1.0, help="Lowest confidence of a detection.")] = 0.25,
    iou: Annotated[float, typer.Option(min=0.0, max=1.0, help="IoU of non-maximum suppression.")] = 0.7,
    max_det: Annotated[int, typer.Option(min=1, max=10_000, help="Most detections in an image.")] = 300,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Most frames of a video to look at; all by default.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Look at one of so many frames of a video.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Detect in pictures: draw the boxes, and write them down."""
    from ethos import catalog
    from ethos.evaluation.show import show
    from ethos.reporting.scores import detection_table
    from ethos.specs import ProtocolParams

    if (scenario is None) == (file is None):
        raise SpecError("give either --scenario or --file", "such as --scenario realtime")
    if contract and not file:
        raise SpecError("--contract goes with --file", "a registered version has its own")
    into = out or catalog.project_root() / OUTPUTS / "detect" / source.resolve().name
    params = ProtocolParams(conf=conf, iou=iou, max_det=max_det)
    with _model(scenario, file, contract) as (path, decoder, identity):
        report = show(source, path, into, params, decoder, frames, every, identity)
    if as_json:
        print_json(report)
    else:
        print_table(detection_table(report))


@contextmanager
def _model(
    scenario: str | None, file: Path | None, contract: Path | None
) -> Iterator[tuple[Path, Path | None, dict[str, Any]]]:
    """Yield the detector's file, its contract, and what it is; a registered one with its hashes checked."""
    if file:
        yield file, contract, {"file": str(file)}
        return
    from ethos import catalog
    from ethos.registry.download import download
    from ethos.registry.store import open_store

    params, policy = catalog.load_params().registry, catalog.load_policy()
    store = open_store(catalog.project_root(), params.experiment, create=False)
    with tempfile.TemporaryDirectory(prefix="ethos-detect-") as scratch:
        folder = Path(scratch) / "version"
        answer = download(store, policy, params.model_name, str(scenario), folder)
        identity = {key: answer[key] for key in ("scenario", "model", "version", "variant", "form")}
        yield folder / "int8.tflite", folder / "decode.json", identity
