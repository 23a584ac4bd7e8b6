"""`ethos specs`, `verify` and `fit`: what is declared, the networks that it builds, whether files agree, what fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from ethos.console import AsJson, one_of, print_json, print_table
from ethos.errors import SpecError

DOES_NOT_FIT = 1

if TYPE_CHECKING:
    from ethos.specs import Activation

specs_app = typer.Typer(help="Show the specs of this project.", no_args_is_help=True)


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


WRONG = 1
EXPORTED = (".onnx", ".tflite")
MODEL_FILES = (".yaml", ".yml")


def verify(
    subject: Annotated[str, typer.Argument(help="A variant, an .onnx or .tflite file, or a model file (.yaml).")],
    activation: Annotated[
        str | None,
        typer.Option(help="What a file should hold; by default what it, or the record beside it, declares."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the activation of every layer. Exit 1 if it is not the declared one everywhere."""
    from ethos.reporting.tables import activation_table
    from ethos.specs import Activation

    report = _verify(subject, one_of("activation", activation, get_args(Activation)))
    if as_json:
        print_json(report)
    else:
        print_table(activation_table(report))
        typer.echo(_verdict(report))
    if not report["ok"]:
        raise typer.Exit(WRONG)


def _verify(subject: str, activation: Activation | None) -> dict[str, Any]:
    from ethos import verify as check
    from ethos.errors import SpecError

    path = Path(subject)
    if path.suffix in EXPORTED:
        return check.verify_file(path, activation)
    if path.suffix in MODEL_FILES:
        return check.verify_model_file(path, activation)
    if activation is not None:
        raise SpecError("--activation is for files", "a variant's spec declares its own; leave the option out")
    return check.verify_variant(subject)


def _verdict(report: dict[str, Any]) -> str:
    """Return what the table shows in a few lines."""
    if report["problems"]:
        return "\n".join(f"WRONG: {problem}" for problem in report["problems"])
    ((written, uses),) = report["found"].items()
    if report["declared"] is None:
        return f"{written} in all {uses} layers that have one; nothing declares it (--activation says what to expect)"
    return f"ok: {written} in {uses} layers, as declared ({report['declared_by']})"


def fit(
    variants: Annotated[list[str] | None, typer.Argument(help="Variants; by default all of params.yaml.")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Target spec, repeatable; by default those of params.yaml.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=1, help="Number of classes; by default the data set's of params.yaml.")
    ] = None,
    imgsz: Annotated[
        int | None, typer.Option(min=32, max=4096, help="Input side in pixels; by default the recipe's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compile variants with random weights, before any training. Exit 1 if one does not fit a target's budget."""
    from ethos import catalog
    from ethos.fit import candidate_of, fit_table, misfits
    from ethos.fit import fit as fit_all
    from ethos.model.layers import LARGEST_STRIDE
    from ethos.plan import train_plan

    if imgsz is not None and imgsz % LARGEST_STRIDE:
        raise SpecError(f"input side {imgsz} is no multiple of {LARGEST_STRIDE}", "give one, such as 640")
    params = catalog.load_params()
    targets = [catalog.load("target", name) for name in dict.fromkeys(target or params.targets)]
    candidates = {name: candidate_of(train_plan(params, name), classes, imgsz) for name in variants or params.variants}
    document = fit_all(candidates, targets)
    if as_json:
        print_json(document)
    else:
        print_table(fit_table(document))
    if misfits(document):
        raise typer.Exit(DOES_NOT_FIT)
