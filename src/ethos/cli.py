"""The command line: parse, call one function, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import gc
import sys
from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ethos.cli_data import data_app
from ethos.cli_npu import analyze
from ethos.console import AsJson, print_json, print_table
from ethos.errors import EthosError, SpecError

if TYPE_CHECKING:
    from ethos.registry.select import NothingPasses
    from ethos.specs import Policy

app = typer.Typer(
    name="ethos",
    help="Object detectors that really run on Arm Ethos NPUs: specs in, registered versions out, one selected.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
specs_app = typer.Typer(help="Show the specs of this project.", no_args_is_help=True)
app.add_typer(specs_app, name="specs")
app.add_typer(data_app, name="data")
app.command()(analyze)

OUTPUTS = "outputs"
PROGRAM_ERROR = 1


def main() -> None:
    """Run the command line; a failure with a known cause becomes its text on stderr and its exit code."""
    show_traceback = "--traceback" in sys.argv
    if show_traceback:
        sys.argv.remove("--traceback")
    try:
        app()
    except EthosError as error:
        if show_traceback:
            raise
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    finally:
        # the last garbage collection walks all that was imported, which takes longer than some commands
        gc.freeze()


@app.callback()
def _options(
    _traceback: Annotated[bool, typer.Option("--traceback", help="Show the full traceback of an error.")] = False,
) -> None:
    """Options of every command; --traceback is read in `main`, which also sees errors of the parser."""


@app.command()
def init() -> None:
    """Create what is missing for a run: the MLflow store and DVC's settings where there is no git."""
    from ethos import catalog
    from ethos.registry import policy
    from ethos.registry.faults import hide_password
    from ethos.registry.runs import open_tracking
    from ethos.workspace import prepare_dvc

    root = catalog.project_root()
    policy.check(catalog.load_policy())
    for line in prepare_dvc(root):
        typer.echo(line)
    store = open_tracking(catalog.load_params().registry.experiment, root)
    store.write_identity(root / "registry" / "store.json")
    typer.echo(f"tracking store ready: {hide_password(store.tracking_uri)}")


@app.command()
def summary(as_json: AsJson = False) -> None:
    """Print what the last run gave, and the version selected for each scenario."""
    from ethos import catalog
    from ethos.registry.tables import selections
    from ethos.reporting.pages import start_sentence
    from ethos.reporting.summary import PROVENANCE, cells, headings, read_summary
    from ethos.reporting.tables import plain_table

    params = catalog.load_params()
    found = read_summary(catalog.project_root() / OUTPUTS, params.variants, params.forms, params.targets)
    answers = _answers(catalog.load_policy())
    if as_json:
        from dataclasses import asdict

        print_json({"schema": 1, **asdict(found), "scenarios": answers})
        return
    title = f"{found.dataset['name']}: {found.dataset['images']['val']} validation images"
    print_table(plain_table(title, headings(found), [cells(found, row) for row in found.rows]))
    typer.echo(f"{start_sentence(found)}\n{PROVENANCE}\n")
    print_table(selections(answers))


@app.command()
def select(
    scenario: Annotated[str, typer.Option(help="Scenario of registry/policy.yaml, such as realtime.")],
    strict: Annotated[bool, typer.Option(help="Refuse anything but a pinned variant that passes all gates.")] = False,
    explain: Annotated[bool, typer.Option(help="Decide afresh over all versions and show why not the others.")] = False,
    download: Annotated[Path | None, typer.Option(help="Write the files to deploy into this new folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Answer which version to deploy for a scenario, and why."""
    from ethos import catalog
    from ethos.registry import live
    from ethos.registry.select import NothingPasses
    from ethos.registry.store import open_store

    params, policy = catalog.load_params().registry, catalog.load_policy()
    if explain and download:
        raise SpecError("--explain and --download exclude each other", "download what is live, or explain a decision")
    store = open_store(catalog.project_root(), params.experiment, create=False)
    if explain:
        try:
            answer = live.explain(store, policy, params.model_name, scenario)
        except NothingPasses as error:
            _print_rejections(scenario, error, as_json)
            raise
    elif download:
        answer = live.download(store, policy, params.model_name, scenario, download, strict)
    else:
        answer = live.live(store, policy, params.model_name, scenario, strict)
    if as_json:
        print_json(answer)
    else:
        _print_selection(answer)


@app.command()
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


@specs_app.command("list")
def specs_list(
    kind: Annotated[str, typer.Argument(help="datasets, levels, variants, recipes or targets.")] = "variants",
) -> None:
    """List the specs of a kind."""
    from ethos import catalog
    from ethos.errors import unknown
    from ethos.reporting.tables import plain_table

    kinds = {f"{name}s": name for name in catalog.KINDS}
    if kind not in kinds:
        raise unknown("kind of spec", kind, kinds)
    rows = [[name, catalog.load(kinds[kind], name).description.strip()] for name in catalog.names(kinds[kind])]
    print_table(plain_table("", ["name", "description"], rows))


@specs_app.command("show")
def specs_show(
    variant: Annotated[str, typer.Argument(help="Name of a variant.")],
    classes: Annotated[int, typer.Option(min=1, help="Number of classes to build it for.")] = 15,
    imgsz: Annotated[int, typer.Option(min=32, max=4096, help="Input side in pixels, for the MACs.")] = 640,
    as_json: AsJson = False,
) -> None:
    """Build a variant and show its layers with parameters and MACs."""
    from ethos.model.layers import describe
    from ethos.reporting.tables import layer_table

    report = describe(variant, classes, imgsz)
    if as_json:
        print_json(report)
    else:
        print_table(layer_table(report))


def _answers(policy: Policy) -> list[dict[str, Any]]:
    """Return the live version of every scenario; a scenario without one says why."""
    from ethos import catalog
    from ethos.errors import NothingSelectable
    from ethos.registry.live import live
    from ethos.registry.store import open_store

    params = catalog.load_params().registry
    store = open_store(catalog.project_root(), params.experiment, create=False)
    answers = []
    for name in policy.scenarios:
        try:
            answers.append(live(store, policy, params.model_name, name))
        except NothingSelectable as error:
            answers.append({"scenario": name, "reason": error.message})
    return answers


def _print_rejections(scenario: str, error: NothingPasses, as_json: bool) -> None:
    from ethos.registry.tables import rejections

    rejected = [rejection.document() for rejection in error.rejected]
    if as_json:
        print_json({"schema": 1, "scenario": scenario, "reason": error.message, "rejected": rejected})
    elif rejected:
        print_table(rejections(rejected))


def _print_selection(answer: dict[str, Any]) -> None:
    from ethos.registry.tables import selection

    print_table(selection(answer))
