"""`ethos doctor`: whether the pipeline can run here."""

from __future__ import annotations

from typing import Annotated

import typer

from ethos.console import AsJson, print_json, print_table

UNFIT = 1


def doctor(
    fast: Annotated[
        bool, typer.Option("--fast", help="Leave out what takes seconds: torch, MLflow and DVC at work, a compilation.")
    ] = False,
    memory: Annotated[float, typer.Option(min=0.0, help="GiB of memory that must be available.")] = 2.0,
    disk: Annotated[float, typer.Option(min=0.0, help="GiB that must be free on disk.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Check machine, packages, services, specs, data set and compiler before a run. Exit 1 on errors."""
    from ethos import catalog
    from ethos.doctor.examine import examine
    from ethos.reporting.tables import doctor_table

    report = examine(catalog.project_root(), fast=fast, memory_gib=memory, disk_gib=disk)
    if as_json:
        print_json(report)
    else:
        print_table(doctor_table(report))
    if not report["ok"]:
        raise typer.Exit(UNFIT)
