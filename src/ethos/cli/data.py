"""The commands `ethos data ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ethos.console import OUTPUTS, AsJson, print_json, print_table

data_app = typer.Typer(help="Check, repair and show data sets.", no_args_is_help=True)

CHECK_FAILED = 1
SHOWN_CHANGES = 20
DatasetName = Annotated[str | None, typer.Option(help="Data set spec; that of params.yaml by default.")]
SourceFolder = Annotated[
    Path | None,
    typer.Option(help="A YOLO folder to take as it is, under the limits of --dataset or of a spec with its classes."),
]


@data_app.command("check")
def data_check(
    dataset: DatasetName = None,
    source: SourceFolder = None,
    offenders: Annotated[
        Path | None, typer.Option(help="Write a CSV of all that fails, for each check that fails, into this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a data set and its split. Exit 1 on errors."""
    from ethos import catalog
    from ethos.data.check import check_data
    from ethos.reporting.tables import check_table

    report = check_data(dataset, source, catalog.project_root() / OUTPUTS / "dataset", offenders)
    if as_json:
        print_json(report)
    else:
        print_table(check_table(report))
    if not report["ok"]:
        raise typer.Exit(CHECK_FAILED)


@data_app.command("fix")
def data_fix(
    dataset: DatasetName = None,
    only: Annotated[list[str] | None, typer.Option(help="A repair; give it more than once for more.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the repairs and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Repair the materialised copy in outputs/dataset; the source stays as it is."""
    from ethos import catalog
    from ethos.data.fix import fix_data
    from ethos.reporting.tables import plain_table

    report = fix_data(dataset, catalog.project_root() / OUTPUTS / "dataset", only or [], dry_run)
    if as_json:
        print_json(report)
        return
    rows = [[each["name"], str(each["count"]), each["rule"]] for each in report["repairs"]]
    print_table(
        plain_table(f"{report['dataset']} (SHA-256 {report['sha256'][:12]})", ["repair", "images", "rule"], rows)
    )
    changes = report["changes"]
    shown = [[each["repair"], each["image"], each["detail"]] for each in changes[:SHOWN_CHANGES]]
    if shown:
        print_table(plain_table(f"{len(shown)} of {len(changes)} changes", ["repair", "image", "what"], shown))
    if report["applied"]:
        typer.echo(
            "outputs/dataset is repaired until its stage runs again. To repair it on every run, list the repairs under "
            "`repairs:` in the data set's spec; to keep this one, run `dvc commit dataset`."
        )


@data_app.command("report")
def data_report(
    dataset: DatasetName = None,
    source: SourceFolder = None,
    out: Annotated[
        Path | None, typer.Option(help="The HTML page to write; outputs/data_report.html by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write an HTML page with class, size and position figures, samples, and images that leak side by side."""
    from ethos import catalog
    from ethos.data.check import using
    from ethos.data.pages import write_page

    outputs = catalog.project_root() / OUTPUTS
    page = out or outputs / "data_report.html"
    with using(dataset, source, outputs / "dataset") as (folder, spec):
        record = write_page(folder, spec, page)
    if as_json:
        print_json({"schema": 1, "dataset": spec.name, "sha256": record["sha256"], "page": str(page)})
    else:
        typer.echo(f"written: {page}")
