"""`ethos quantize`: what quantization made of a variant, and what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from ethos.console import OUTPUTS, AsJson, one_of, print_json, print_table
from ethos.errors import SpecError

RECORD = "quantize.json"


def quantize(
    what: Annotated[str, typer.Argument(help="A variant that was quantized, or a folder that holds what was made.")],
    form: Annotated[str, typer.Option(help="Form of the variant: dense or pruned.")] = "dense",
    autopsy: Annotated[
        bool, typer.Option("--autopsy", help="Measure where accuracy was lost: by class, size, branch and layer.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="What the autopsy scores on: a data.yaml in YOLO format, or a materialised data set; by default the "
            "pipeline's own."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Side of the data set that the autopsy scores on; val by default.")
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(help="Quantize the trained variant now, by its spec as it stands, into this new folder."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the files that quantization made, with their sizes; --autopsy says where accuracy was lost."""
    from ethos.specs import Form

    if not autopsy and (data is not None or split is not None):
        raise SpecError("--data and --split are for --autopsy", "add --autopsy, or leave them out")
    one_of("form", form, get_args(Form))
    folder = _quantize_now(what, form, into) if into is not None else _folder_of(what, form)
    if autopsy:
        report, tables = _autopsy(folder, data, split or "val")
    else:
        report, tables = _record(folder)
    if as_json:
        print_json(report)
    else:
        for table in tables:
            print_table(table)


def _record(folder: Path) -> tuple[dict[str, Any], list[Any]]:
    from ethos.autopsy.tables import record_tables
    from ethos.errors import ModelError
    from ethos.files import read_json, shown

    if not (folder / RECORD).is_file():
        raise ModelError(f"{shown(folder)}: no {RECORD}", "run: dvc repro quantize")
    record = read_json(folder / RECORD, "schema")
    if "sizes" not in record:
        raise ModelError(f"{shown(folder / RECORD)}: was written by an earlier version", "run: dvc repro quantize")
    return record, record_tables(record)


def _autopsy(folder: Path, data: Path | None, split: str) -> tuple[dict[str, Any], list[Any]]:
    from ethos import catalog
    from ethos.autopsy.report import autopsy
    from ethos.autopsy.tables import autopsy_tables
    from ethos.evaluation.samples import load_samples

    samples = load_samples(data or catalog.project_root() / OUTPUTS / "dataset", split)
    report = autopsy(folder, samples, catalog.load_params().protocol)
    return report, autopsy_tables(report)


def _folder_of(what: str, form: str) -> Path:
    """Return the folder of a variant's files; anything with a separator in it, or that is a folder, is a path."""
    from ethos import catalog
    from ethos.errors import ModelError, unknown

    if Path(what).is_dir():
        return Path(what)
    if what not in catalog.names("variant"):
        raise unknown("variant or folder", what, catalog.names("variant"))
    folder = catalog.project_root() / OUTPUTS / "quantize" / what / form
    if not folder.is_dir():
        raise ModelError(f"{what} ({form}) is not quantized yet", f"run: dvc repro quantize@{what}-{form}")
    return folder


def _quantize_now(variant: str, form: str, into: Path) -> Path:
    from ethos import catalog
    from ethos.compress.quantize import quantize as quantize_files
    from ethos.errors import ModelError
    from ethos.files import new_folder, write_json
    from ethos.plan import quantize_plan

    plan = quantize_plan(catalog.load_params(), variant)
    if into.exists():
        raise SpecError(f"--into {into}: is there already", "name a folder that does not exist yet")
    outputs = catalog.project_root() / OUTPUTS
    model = outputs / "models" / variant / form
    if not model.is_dir():
        raise ModelError(f"{variant} ({form}) is not trained yet", f"run: dvc repro train@{variant}")
    with new_folder(into) as folder:
        record = quantize_files(model, outputs / "dataset", plan.imgsz, plan.options, folder)
        write_json(folder / RECORD, {"variant": variant, "form": form, **record})
    return into
