"""`ethos prune`: what pruning a trained variant gives, without changing the run's outputs."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ethos.console import OUTPUTS, AsJson, print_json, print_table
from ethos.errors import DataError, SpecError
from ethos.pruning.report import CPU, REAL_TIME_FPS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ethos.plan import PrunePlan


def prune(
    variant: Annotated[str, typer.Argument(help="Name of a variant that has been trained and has a prune section.")],
    report: Annotated[bool, typer.Option("--report", help="Show what the last run's pruning gave instead.")] = False,
    into: Annotated[
        Path | None, typer.Option(help="Prune, train again, and write network and report to this new folder.")
    ] = None,
    on: Annotated[
        str | None, typer.Option(help="Frames a second of: cpu, or a target; default: what the schedule went by.")
    ] = None,
    fps: Annotated[float, typer.Option(min=0.0, help="Fewer frames a second are not real time.")] = REAL_TIME_FPS,
    layers: Annotated[bool, typer.Option("--layers", help="Show the channels of every layer.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how a trained variant would be pruned; --into does it, --report shows what the last run's pruning gave."""
    from ethos import catalog
    from ethos.plan import prune_plan

    if report and into:
        raise SpecError("--report and --into exclude each other", "give one of them")
    if on and not report and into is None:
        raise SpecError("--on is about frames a second of a pruning that was made", "add --report or --into")
    plan = prune_plan(catalog.load_params(), variant)
    outputs = catalog.project_root() / OUTPUTS
    if not report and into is None:
        _preview(plan, outputs, layers, as_json)
        return
    if into is None:
        document = _last_run(outputs, variant)
        _check_place(on, document["dense"]["efficiency"])
    else:
        # before the pruning, which may take hours
        _check_place(on, [CPU, *(target.name for target in plan.targets)])
        document = _prune(plan, outputs, into)
    _show(document, on or document["efficiency_on"], fps, layers, as_json, into)


def _check_place(on: str | None, known: Iterable[str]) -> None:
    if on is not None and on not in known:
        from ethos.errors import unknown

        raise unknown("place of frames a second", on, known, where="--on")


def _preview(plan: PrunePlan, outputs: Path, layers: bool, as_json: bool) -> None:
    from ethos.pruning.preview import preview
    from ethos.reporting.pruning import channel_table
    from ethos.reporting.tables import plain_table

    document = preview(_trained(outputs, plan.variant), plan, outputs / "dataset")
    if as_json:
        print_json(document)
        return
    rows = [
        [name, f"{each['dense']:,.0f}", f"{each['pruned']:,.0f}", f"{each['share']:.3f}", each["provenance"]]
        for name, each in document["quantities"].items()
    ]
    title = f"{plan.variant}: one step of {plan.options.steps} at {plan.imgsz} px, nothing is written"
    print_table(plain_table(title, ["quantity", "dense", "pruned", "share", "provenance"], rows))
    if layers:
        print_table(channel_table(document["layers"]))


def _prune(plan: PrunePlan, outputs: Path, into: Path) -> dict[str, Any]:
    import sys

    from ethos.files import new_folder, write_json
    from ethos.pruning.schedule import run_schedule
    from ethos.training.monitor import monitor

    if into.exists():
        raise SpecError(f"{into}: is there already", "name a new folder")
    trained = _trained(outputs, plan.variant)
    with new_folder(into) as folder:
        outcome = run_schedule(
            trained,
            plan,
            outputs / "dataset",
            folder,
            show=lambda training: monitor(f"prune {plan.variant}, {training}", plan.recovery.all_epochs, sys.stderr),
        )
        document = {"variant": plan.variant, **outcome.document()}
        write_json(folder / "prune.json", document)
    return document


def _show(document: dict[str, Any], on: str, fps: float, layers: bool, as_json: bool, into: Path | None) -> None:
    from ethos.pruning.report import study
    from ethos.reporting.drawings import draw
    from ethos.reporting.pruning import channel_table, study_table

    found = study(document, on, fps)
    title = f"{document['variant']}: kept step {document['kept']}, {document['stopped']}; FPS of {on}"
    if into is not None:
        draw("pruning", {"title": document["variant"], "on": on, "rows": found["rows"]}, into / "pareto")
    if as_json:
        print_json({**document, **found})
        return
    print_table(study_table(title, found["rows"], on))
    for scenario, model in found["recommendations"].items():
        typer.echo(f"{scenario}: {model or 'none is real time'}")
    if layers:
        print_table(channel_table(document["layers"]))


def _trained(outputs: Path, variant: str) -> Path:
    folder = outputs / "models" / variant / "dense"
    if not folder.is_dir():
        raise DataError(f"{folder}: {variant} has not been trained", f"run: dvc repro train@{variant}")
    return folder


def _last_run(outputs: Path, variant: str) -> dict[str, Any]:
    from ethos.files import read_json

    path = outputs / "prune" / variant / "prune.json"
    if not path.is_file():
        raise DataError(f"{path}: {variant} has not been pruned", f"run: dvc repro prune@{variant}")
    found: dict[str, Any] = read_json(path)
    return found
