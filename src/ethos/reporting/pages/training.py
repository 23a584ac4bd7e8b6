"""All trainings in short: levels, times, epochs, and what V3 reports of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ethos.reporting.blocks import Block, Digest, Heading, Text
from ethos.reporting.figure import ABSENT
from ethos.reporting.pages import charts
from ethos.reporting.pages.common import (
    attribution,
    candidate_name,
    nothing_registered,
    reported_heading,
    span,
    table,
    version_link,
)

if TYPE_CHECKING:
    from ethos.registry.records import VersionRecord
    from ethos.reporting.blocks import Cell
    from ethos.reporting.evidence import Evidence
    from ethos.reporting.text_catalog import Texts


def training_page(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return the page."""
    blocks: list[Block] = [Text(texts("training.intro")), Text(texts("training.rule"), "note")]
    if not evidence.current:
        blocks += nothing_registered(evidence, texts)
    else:
        blocks += [Heading(texts("training.all")), _all(evidence, texts), charts.all_curves(evidence, texts)]
        blocks += [Heading(texts("training.levels")), _levels(evidence, texts)]
    blocks += _unfinished(evidence, texts)
    return [*blocks, *_reported(evidence, texts), *attribution(evidence, texts)]


def _all(evidence: Evidence, texts: Texts) -> Block:
    columns = [
        texts("common.variant"),
        *(texts(f"training.{key}") for key in ("epochs", "best_epoch", "converged", "best_map50", "best_map50_95")),
        *(texts(f"training.{key}") for key in ("seconds", "images_per_second", "memory", "dead")),
        texts("training.run"),
    ]
    rows = [_row(evidence, texts, record) for record in evidence.current]
    return table(evidence, columns, rows, texts("training.all"))


def _row(evidence: Evidence, texts: Texts, record: VersionRecord) -> list[Cell]:
    run = f"run/{record.run_id}#"
    best = evidence.read(f"{run}derived/best_epoch")
    return [
        version_link(record),
        evidence.figure(f"{run}derived/last_epoch", "count"),
        evidence.figure(f"{run}derived/best_epoch", "count"),
        evidence.figure(f"{run}derived/converged_epoch", "count", optional=True),
        *(evidence.figure(f"{run}metrics/{score}/{best}", "score") for score in ("map50", "map50_95")),
        evidence.figure(f"{run}derived/seconds", "seconds"),
        evidence.figure(f"{run}metrics/images_per_second/{best}", "fps"),
        evidence.figure(f"{run}derived/peak_memory_mib", "mib"),
        dead_share(evidence, texts, record),
        run_link(evidence, record),
    ]


def dead_share(evidence: Evidence, texts: Texts, record: VersionRecord) -> Cell:
    """Return the share of ReLU channels that never fire, where the network has any."""
    if record.activation != "relu":
        return texts("training.no_relu")
    return evidence.figure(f"version/{record.version}/metrics/activations.json#dead_share", "percent")


def run_link(evidence: Evidence, record: VersionRecord) -> Cell:
    """Return a link to a version's training in MLflow's pages, a dash if it has none."""
    return Digest(record.run_id, run_address(evidence, record.run_id)) if record.run_id else ABSENT


def run_address(evidence: Evidence, run_id: str) -> str:
    """Return where MLflow shows a run: on its server, without a password, else where `ethos ui` starts one."""
    server = CREDENTIALS.sub("//", evidence.tracking_uri) if evidence.tracking_uri.startswith("http") else LOCAL_MLFLOW
    return f"{server.rstrip('/')}/#/experiments/{evidence.experiment_id}/runs/{run_id}"


LOCAL_MLFLOW = "http://127.0.0.1:5000"
CREDENTIALS = re.compile(r"//[^/@]*@")


def _levels(evidence: Evidence, texts: Texts) -> Block:
    """Return our parameters beside V3's; ours are those of the exported network on this data's classes."""
    rows: list[list[Cell]] = []
    dense = [record for record in evidence.current if record.form == "dense"]
    for level, entry in evidence.reported["levels"].items():
        ours = next((record for record in dense if record.level == level), None)
        rows.append(
            [
                level,
                str(entry["change"]),
                evidence.figure(f"version/{ours.version}#parameters", "count") if ours else ABSENT,
                evidence.figure(f"version/{ours.version}#macs", "gmac") if ours else ABSENT,
                evidence.figure(f"v3#levels/{level}/parameters", "count"),
            ]
        )
    columns = [texts("common.level"), texts("training.change"), texts("figure.parameters"), texts("figure.gmac")]
    return table(evidence, [*columns, texts("v3.parameters")], rows, texts("training.levels"))


def _unfinished(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return the runs that are open or did not end well."""
    rows: list[list[Cell]] = []
    for run in evidence.unfinished:
        address = run_address(evidence, run["run_id"])
        rows.append([run["name"], run["status"].lower(), run["started"], Digest(run["run_id"], address)])
        if run["status"] in ("RUNNING", "SCHEDULED"):
            evidence.note(f"run/{run['run_id']} ({run['name']}: {run['status'].lower()})")
    if not rows:
        return []
    columns = [texts("training.name"), texts("training.status"), texts("training.started"), texts("training.run")]
    caption = texts("training.unfinished")
    return [Heading(caption), Text(texts("training.unfinished_note")), table(evidence, columns, rows, caption)]


def _reported(evidence: Evidence, texts: Texts) -> list[Block]:
    losses: list[list[Cell]] = [
        [texts(f"loss.{name}"), *(evidence.figure(f"v3#losses/{name}/{end}", "loss") for end in ("first", "last"))]
        for name in evidence.reported["losses"]
    ]
    minutes = span(*(evidence.figure(f"v3#training/minutes_{end}", "minutes") for end in ("least", "most")))
    stable = evidence.figure("v3#training/stable_from_epoch", "count")
    return [
        reported_heading(texts),
        table(
            evidence, [texts("loss.loss"), texts("v3.epoch_1"), texts("v3.epoch_100")], losses, texts("v3.losses"), True
        ),
        Text((texts("v3.stable"), " ", stable, ". ", texts("v3.minutes"), " ", *minutes, " min.")),
        _recipe(evidence, texts),
    ]


def _recipe(evidence: Evidence, texts: Texts) -> Block:
    """Return V3's settings beside those of our first candidate."""
    ours = next((record for record in evidence.current if record.form == "dense"), None)
    columns = [texts("training.setting"), texts("v3.recipe_column"), *([candidate_name(ours)] if ours else [])]
    rows: list[list[Cell]] = []
    for name in evidence.reported["recipe"]:
        setting = [evidence.fact(f"run/{ours.run_id}#params/{name}", optional=True)] if ours else []
        rows.append([name, evidence.fact(f"v3#recipe/{name}"), *setting])
    return table(evidence, columns, rows, texts("v3.recipe"), True)
