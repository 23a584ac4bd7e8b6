"""`ethos report` and `ethos ui`: write, check and show the report."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ethos.console import OUTPUTS, AsJson, print_json
from ethos.errors import DataError, SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethos.reporting.evidence import Evidence
    from ethos.reporting.site import Written
    from ethos.reporting.verify import Verified

ENGLISH = "en"
FAILED = 1
SHOWN = 20  # findings printed
Out = Annotated[Path | None, typer.Option(help="The report's folder; outputs/report if not given (-LANG in others).")]


def report(
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every number of the report back and compare it with the registry.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 if a page of the present run lacks something.")
    ] = False,
    open_: Annotated[bool, typer.Option("--open", help="Show the first page in the browser.")] = False,
    since: Annotated[
        str | None, typer.Option(help="Print what changed since a commit or a date, as Markdown; writes nothing.")
    ] = None,
    lang: Annotated[str, typer.Option(help="Language of the texts: en or ko.")] = ENGLISH,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Write the report: Markdown and one HTML site of its own. --verify checks the one that is there."""
    from ethos import catalog

    if since is not None and (verify or strict or open_):
        raise SpecError("--since excludes --verify, --strict and --open", "leave them out")
    folder = out or catalog.project_root() / OUTPUTS / folder_name(lang)
    with _evidence() as evidence:
        if since is not None:
            _print_changes(evidence, lang, since, as_json)
            return
        answer: dict[str, Any] = {"schema": 1, "folder": str(folder)}
        failed = False
        if not verify or strict or not (folder / "site.json").is_file():
            written = _write(evidence, lang, folder)
            answer |= {"pages": written.pages, "pictures": written.pictures, "missing": written.missing}
            failed = strict and bool(written.lacking)
            if not as_json:
                _print_written(written, strict)
        if verify:
            verified = _verify(evidence, folder)
            answer |= {"numbers": verified.numbers, "findings": [vars(each) for each in verified.findings]}
            failed = failed or bool(verified.findings)
            if not as_json:
                _print_verified(verified)
    if as_json:
        print_json({**answer, "ok": not failed})
    if open_:
        webbrowser.open((folder / "index.html").resolve().as_uri())
    if failed:
        raise typer.Exit(FAILED)


def ui(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the report; 0 takes any that is free.")] = 8000,
    mlflow_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of MLflow; 0 takes any free one.")] = 5000,
    out: Out = None,
) -> None:
    """Serve MLflow's pages and the report on this machine, until Ctrl-C."""
    from ethos import catalog
    from ethos.registry.runs import locate
    from ethos.reporting.serve import mlflow_ui, served, wait

    root = catalog.project_root()
    folder = out or root / OUTPUTS / folder_name(ENGLISH)
    if not (folder / "index.html").is_file():
        raise DataError(f"{folder}: holds no report", "write it first: ethos report")
    uri, artifacts = locate(root, create=False)
    with served(folder, port) as report_address, mlflow_ui(uri, artifacts, mlflow_port) as (mlflow_address, server):
        typer.echo(f"report: {report_address}\nMLflow: {mlflow_address}\nCtrl-C stops both")
        wait(server)
    typer.echo("stopped")


def folder_name(language: str) -> str:
    """Return the name of the folder below outputs/ in which the report of a language is."""
    return "report" if language == ENGLISH else f"report-{language}"


def _evidence() -> Evidence:
    """Return the evidence of the project's registry; an empty one where there is no store yet."""
    from ethos import catalog
    from ethos.reporting.evidence import open_evidence

    return open_evidence(catalog.project_root())


def _write(evidence: Evidence, language: str, folder: Path) -> Written:
    from ethos.reporting.site import write_site
    from ethos.reporting.text_catalog import Texts

    return write_site(evidence, Texts(language), folder)


def _verify(evidence: Evidence, folder: Path) -> Verified:
    from ethos.reporting.verify import verify_site

    return verify_site(evidence, folder)


def _print_changes(evidence: Evidence, language: str, since: str, as_json: bool) -> None:
    from ethos.reporting.since import changes, moment
    from ethos.reporting.text_catalog import Texts

    found = moment(evidence.root, since)
    text = changes(evidence, Texts(language), found)
    if as_json:
        print_json({"schema": 1, "since": found.name, "markdown": text})
    else:
        typer.echo(text)


def _print_written(written: Written, strict: bool) -> None:
    typer.echo(f"{written.folder}: {len(written.pages)} pages and {len(written.pictures)} pictures made anew")
    lacking = {page: found for page, found in written.missing.items() if found}
    if lacking:
        count = sum(len(found) for found in lacking.values())
        typer.echo(f"{count} things are missing on {len(lacking)} pages; each page lists its own", err=strict)
        for page, found in list(lacking.items())[:SHOWN]:
            typer.echo(f"  {page}: {_in_short(found)}", err=strict)


def _in_short(found: Sequence[str]) -> str:
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _print_verified(verified: Verified) -> None:
    typer.echo(f"{verified.numbers} numbers on {verified.pages} pages read back, {len(verified.findings)} do not hold")
    for each in verified.findings[:SHOWN]:
        typer.echo(f"  {each}", err=True)
