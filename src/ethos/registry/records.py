"""What the registry knows of a version, as plain data, and the figures that policies may name."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ethos.errors import unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = 1
CANDIDATE = "candidate"
FOLDER = f"artifacts/{CANDIDATE}"  # where MLflow keeps a version's files, below the version's own folder
INT8 = "int8.tflite"
READY = "ready"
CANDIDATE_TAG = "candidate.sha256"
ARTIFACT_TAG = "artifact.sha256"
PROTOCOL_TAG = "protocol.sha256"
PROTOCOL_DOCUMENT_TAG = "protocol"
MANIFEST_TAG = "manifest.sha256"
PRUNE_RUN_TAG = "prune.run_id"  # of a pruned form; the version's own run is the training's
DECISION_TAG = "decision"  # followed by .SCENARIO: why the version serves it
TOLD_REJECTIONS = 50  # that a decision tag holds; MLflow cuts off longer tags
INTERVAL_BOUNDS = ("low", "high")


@dataclass(frozen=True)
class Figure:
    """What a figure means: its unit, and which direction is better."""

    unit: Literal["", "KiB", "ms", "1/s"]
    better: Literal["lower", "higher"]
    about: str


SCORES = {"map50": "mAP50", "map50_95": "mAP50-95"}
FIGURES: dict[str, Figure] = {
    **{
        f"{file}.{name}": Figure("", "higher", f"{words} of the {file.upper()} file, 0 to 1")
        for file in ("fp32", "int8")
        for name, words in SCORES.items()
    },
    **{
        f"{file}.{name}_{bound}": Figure("", "higher", f"{bound} end of the confidence interval of {file}.{name}")
        for file in ("fp32", "int8")
        for name in SCORES
        for bound in INTERVAL_BOUNDS
    },
    "int8.map50_drop": Figure("", "lower", "mAP50 lost between FP32 and INT8"),
    "int8.map50_95_drop": Figure("", "lower", "mAP50-95 lost between FP32 and INT8"),
    "int8.worst_class_drop": Figure("", "lower", "mAP50 lost between FP32 and INT8 by the class that lost most"),
    "int8.worst_class_drop_95": Figure("", "lower", "mAP50-95 lost between FP32 and INT8 by the class that lost most"),
    "int8.float_operators": Figure("", "lower", "operators of the INT8 file left in float on purpose"),
    "size.int8_kib": Figure("KiB", "lower", "size of the INT8 file"),
    "parameters": Figure("", "lower", "trained parameters"),
    "macs": Figure("", "lower", "multiply-accumulates an image"),
    "dense.map50_drop": Figure("", "lower", "mAP50 of the INT8 file lost against the variant's dense form"),
    "dense.size_share": Figure("", "lower", "size of the INT8 file by that of the variant's dense form"),
}
NPU_FIGURES: dict[str, Figure] = {
    "latency_ms": Figure("ms", "lower", "time of one inference"),
    "fps": Figure("1/s", "higher", "inferences a second, 1000 / latency_ms"),
    "cycles_total": Figure("", "lower", "NPU cycles of one inference"),
    "mac_utilisation": Figure("", "higher", "MACs done / MACs possible in those cycles, 0 to 1"),
    "dense_cycles_share": Figure("", "lower", "NPU cycles by those of the variant's dense form"),
    "operators_npu": Figure("", "higher", "operators placed on the NPU"),
    "operators_cpu": Figure("", "lower", "operators left to the CPU"),
    "sram_kib": Figure("KiB", "lower", "peak SRAM"),
    "over_budget_kib": Figure("KiB", "lower", "memory needed beyond the target's budget, 0 if it fits"),
}


def figure(name: str, where: str = "") -> Figure:
    """Return what a figure means. `npu.FIGURE` and `npu.TARGET.FIGURE` mean the same on different targets.

    Raises:
        SpecError: There is no such figure; the nearest names are listed.
    """
    if name in FIGURES:
        return FIGURES[name]
    kind, _, rest = name.partition(".")
    found = NPU_FIGURES.get(rest.rpartition(".")[2]) if kind == "npu" else None
    if found is None:
        raise unknown("figure", name, [*FIGURES, *(f"npu.{known}" for known in NPU_FIGURES)], where=where)
    return found


@dataclass(frozen=True)
class VersionRecord:
    """A version of the registered model, as its tags tell it.

    Attributes:
        stage: The scenarios it serves, joined by commas, else `candidate`.
        ready: Whether all its files were stored and verified.
        figures: By name, see FIGURES; NPU figures as `npu.TARGET.FIGURE`.
        artifact_path: Where its INT8 file lies within the version.
        tags: All tags of the version.
    """

    model: str
    version: int
    variant: str
    level: str
    activation: str
    form: str
    artifact_sha256: str
    protocol_sha256: str
    run_id: str
    stage: str = CANDIDATE
    aliases: tuple[str, ...] = ()
    ready: bool = False
    figures: dict[str, float] = field(default_factory=dict)
    artifact_path: str = f"{FOLDER}/{INT8}"
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Return how messages name the version."""
        return f"version {self.version} ({self.variant}, {self.form})"

    @property
    def targets(self) -> list[str]:
        """Return the targets it was analyzed for."""
        found = {name.removeprefix("npu.").rpartition(".")[0] for name in self.figures if name.startswith("npu.")}
        return sorted(found)

    def npu(self, target: str) -> dict[str, float]:
        """Return the figures of one target by their short names, such as `latency_ms`."""
        prefix = f"npu.{target}."
        return {
            name.removeprefix(prefix): value
            for name, value in self.figures.items()
            if name.startswith(prefix) and name.removeprefix(prefix) in NPU_FIGURES
        }

    def figures_for(self, target: str) -> dict[str, float]:
        """Return all figures, with those of `target` also under `npu.FIGURE`."""
        return {**self.figures, **{f"npu.{name}": value for name, value in self.npu(target).items()}}

    def as_registered(self) -> VersionRecord:
        """Return the record without what promotion changes: stage, aliases and decisions."""
        tags = {name: value for name, value in self.tags.items() if not name.startswith(f"{DECISION_TAG}.")}
        return replace(self, stage=CANDIDATE, aliases=(), tags={**tags, "stage": CANDIDATE})

    def document(self) -> dict[str, Any]:
        """Return the record as a JSON document; `from_document` reads it."""
        return {"schema": SCHEMA, **asdict(self), "aliases": list(self.aliases)}


def from_document(document: Mapping[str, Any]) -> VersionRecord:
    """Return the record that `VersionRecord.document` wrote."""
    values = {key: value for key, value in document.items() if key != "schema"}
    return VersionRecord(**{**values, "aliases": tuple(values["aliases"])})


def interval(figures: Mapping[str, float], name: str) -> tuple[float, float] | None:
    """Return the confidence interval of a figure, None if none was recorded."""
    low, high = (figures.get(f"{name}_{bound}") for bound in INTERVAL_BOUNDS)
    return None if low is None or high is None else (low, high)


def decision_tag(decision: Mapping[str, Any]) -> str:
    """Return why a version serves a scenario as the text of a tag: of many rejected versions, the first ones."""
    rejected = decision.get("rejected", [])
    kept = {**decision, "rejected": rejected[:TOLD_REJECTIONS], "rejected_count": len(rejected)}
    return json.dumps(kept, sort_keys=True, ensure_ascii=False)


def figure_tags(figures: Mapping[str, float]) -> dict[str, str]:
    """Return figures as tags; `repr` keeps every digit."""
    return {name: repr(value) for name, value in figures.items()}


def from_tags(
    model: str, version: int, tags: Mapping[str, str], run_id: str = "", aliases: tuple[str, ...] = ()
) -> VersionRecord:
    """Return the record of a version from its tags. Tags that are not there give empty fields, and `ready` false."""
    return VersionRecord(
        model=model,
        version=version,
        variant=tags.get("variant", ""),
        level=tags.get("level", ""),
        activation=tags.get("activation", ""),
        form=tags.get("form", ""),
        artifact_sha256=tags.get(ARTIFACT_TAG, ""),
        protocol_sha256=tags.get(PROTOCOL_TAG, ""),
        run_id=run_id,
        stage=tags.get("stage", CANDIDATE),
        aliases=tuple(sorted(aliases)),
        ready=tags.get(READY) == "true",
        figures={name: float(value) for name, value in tags.items() if _is_figure(name, value)},
        tags=dict(tags),
    )


def _is_figure(name: str, value: str) -> bool:
    if name not in FIGURES and not (name.startswith("npu.") and name.rpartition(".")[2] in NPU_FIGURES):
        return False
    try:
        float(value)
    except ValueError:  # a tag that somebody edited by hand is no figure
        return False
    return True
