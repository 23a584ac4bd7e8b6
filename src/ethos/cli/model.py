"""`ethos specs`: what is declared, and the networks that it builds."""

from __future__ import annotations

from typing import Annotated

import typer

from ethos.console import AsJson, print_json, print_table

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
