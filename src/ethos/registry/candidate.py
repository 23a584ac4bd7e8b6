"""A candidate: all that the stages left for one variant in one form, gathered for registration."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ethos.errors import StoreError
from ethos.evaluation.protocol import Protocol, require_same
from ethos.files import read_json, sha256_file, sha256_json, write_json, write_text
from ethos.plan import PrunePlan, QuantizePlan, TrainPlan, read_plan
from ethos.registry.card import model_card
from ethos.registry.pictures import PICTURES, draw_training
from ethos.registry.records import (
    ARTIFACT_TAG,
    CANDIDATE,
    CANDIDATE_TAG,
    INT8,
    NPU_FIGURES,
    PROTOCOL_DOCUMENT_TAG,
    PROTOCOL_TAG,
    figure_tags,
)

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"
CARD = "model_card.md"
VELA = "vela"
# contract, C decoder, and tensors to check any decoder with
DECODING = ("decode.json", "decode.h", "golden.npz")
LICENCE = "LICENSE"
CURVES = f"{PICTURES}/training.png"
NO_COMMIT = "none"
DENSE, PRUNED = "dense", "pruned"
# what the prune stage found: figures of every step, and channels of every layer
STUDY, CHANNELS = "prune.json", "channels.csv"
WEIGHTS = "weights.safetensors"
REPAIR = "run: dvc repro"


@dataclass(frozen=True)
class Pruning:
    """How a pruned form was made.

    Attributes:
        plan: By what it was pruned and trained again.
        study: The document prune.json.
        run_id: The pruning's run.
    """

    plan: PrunePlan
    study: dict[str, Any]
    run_id: str

    @property
    def weights_sha256(self) -> str:
        """Return the hash of the weights that were kept."""
        kept = next(each for each in self.study["iterations"] if each["step"] == self.study["kept"])
        return str(kept["measured"]["sha256"])

    @property
    def words(self) -> str:
        """Return what was done, in words."""
        return (
            f"pruned by {self.plan.options.method}, trained again with recipe {self.plan.recovery.name}, "
            f"step {self.study['kept']} kept ({self.study['stopped']})"
        )


@dataclass(frozen=True)
class Candidate:
    """One variant in one form.

    Attributes:
        outputs: Folder of all stages' outputs.
        plans: How it was trained and quantized.
        quantize: The document quantize.json.
        scores: The documents of `evaluate`, under `fp32` and `int8`.
        npu: The document of `analyze`.
        dataset: The document dataset.json.
        run_id: The training's run.
        pruning: How it was pruned, for a pruned form.
    """

    variant: str
    form: str
    outputs: Path
    plans: tuple[TrainPlan, QuantizePlan]
    quantize: dict[str, Any]
    scores: dict[str, dict[str, Any]]
    npu: dict[str, Any]
    dataset: dict[str, Any]
    run_id: str
    pruning: Pruning | None = None

    @property
    def name(self) -> str:
        """Return how runs and models of the candidate are named."""
        return f"{self.variant}-{self.form}"

    @property
    def artifact_sha256(self) -> str:
        """Return the hash of its INT8 file."""
        return str(self.quantize["files"][INT8]["sha256"])

    @property
    def protocol(self) -> dict[str, Any]:
        """Return the protocol of its scores."""
        found: dict[str, Any] = self.scores["int8"]["protocol"]
        return found

    @property
    def spec_sha256(self) -> str:
        """Return the hash of its resolved specs."""
        plans = [*self.plans, *([self.pruning.plan] if self.pruning else [])]
        return sha256_json([plan.model_dump(mode="json") for plan in plans])

    @property
    def sha256(self) -> str:
        """Return what makes two candidates the same: bytes, specs, protocol of the scores and compiled files.

        For a pruned one, how it compares with the dense form is part of it.
        """
        compiled = {target: report.get("compiled", {}).get("sha256") for target, report in self.npu["targets"].items()}
        return sha256_json(
            {
                "artifact": self.artifact_sha256,
                "spec": self.spec_sha256,
                "form": self.form,
                "protocol": self.protocol["sha256"],
                "compiled": compiled,
                **({"against_dense": against_dense(self)} if self.pruning else {}),
            }
        )

    @property
    def folder_of_pruning(self) -> Path:
        """Return the folder in which the prune stage left what it recorded."""
        return self.outputs / "prune" / self.variant

    @property
    def folder_of_training(self) -> Path:
        """Return the folder in which the train stage left what it recorded."""
        return self.outputs / "train" / self.variant

    def folder(self, stage: str) -> Path:
        """Return the folder that a stage wrote for it."""
        return self.outputs / stage / self.variant / self.form

    def figures(self) -> dict[str, float]:
        """Return its figures by name, as `ethos.registry.records` lists them."""
        metrics = read_json(self.folder("evaluate") / "metrics.json")
        return figures_of(metrics, self.quantize, self.npu) | against_dense(self)

    def tags(self, root: Path) -> dict[str, str]:
        """Return the tags of its version: what it is, what it was made from, and its figures."""
        train, _ = self.plans
        tags = {
            "variant": self.variant,
            "level": train.level,
            "activation": train.architecture.activation,
            "form": self.form,
            "stage": CANDIDATE,
            "dataset": str(self.dataset["name"]),
            "dataset.sha256": str(self.dataset["sha256"]),
            "split.sha256": str(self.dataset["split_sha256"]),
            "spec.sha256": self.spec_sha256,
            "graph.fingerprint": str(self.npu["graph"]["fingerprint"]),
            "git.commit": git_commit(root),
            ARTIFACT_TAG: self.artifact_sha256,
            PROTOCOL_TAG: str(self.protocol["sha256"]),
            PROTOCOL_DOCUMENT_TAG: _compact(self.protocol),
            CANDIDATE_TAG: self.sha256,
        }
        for target, report in self.npu["targets"].items():
            tags[f"npu.{target}.provenance"] = str(report["provenance"])
            if compiler := report.get("compiler"):
                tags[f"{compiler['name']}.version"] = str(compiler["version"])
        return tags | figure_tags(self.figures())


def figures_of(metrics: dict[str, Any], quantize: dict[str, Any], npu: dict[str, Any]) -> dict[str, float]:
    """Return a version's figures by name from the reports of its stages.

    Args:
        metrics: The document metrics.json of `evaluate`.
        quantize: The document quantize.json.
        npu: The document npu.json.
    """
    found = {f"{file}.{name}": float(v[name]) for file, v in metrics.items() for name in v if _is_number(v, name)}
    found["size.int8_kib"] = quantize["files"][INT8]["bytes"] / 1024
    if _is_number(quantize, "float_operators"):
        found["int8.float_operators"] = float(quantize["float_operators"])
    found["parameters"] = float(quantize["parameters"])
    found["macs"] = float(quantize["macs"])
    for target, report in npu["targets"].items():
        found |= {f"npu.{target}.{name}": float(report[name]) for name in NPU_FIGURES if _is_number(report, name)}
    return found


def collect(outputs: Path, variant: str, form: str) -> Candidate:
    """Return the candidate that the stages left below `outputs`.

    Raises:
        StoreError: A stage's output is missing, or was altered after the stage measured it.
        SpecError: The two files were scored under different protocols.
    """
    place = f"{variant}/{form}"
    candidate = Candidate(
        variant=variant,
        form=form,
        outputs=outputs,
        plans=(
            read_plan(outputs / f"plan/{variant}/train.yaml", TrainPlan),
            read_plan(outputs / f"plan/{variant}/quantize.yaml", QuantizePlan),
        ),
        quantize=_read(outputs / f"quantize/{place}/quantize.json", "files", "parameters", "macs"),
        scores={
            name: _read(outputs / f"evaluate/{place}/{name}.json", "sha256", "protocol", "map50")
            for name in ("fp32", "int8")
        },
        npu=_read(outputs / f"analyze/{place}/npu.json", "sha256", "graph", "targets"),
        dataset=_read(outputs / "dataset/dataset.json", "name", "sha256", "split_sha256"),
        run_id=str(_read(outputs / f"train/{variant}/run.json", "run_id")["run_id"]),
        pruning=_pruning(outputs, variant) if form == PRUNED else None,
    )
    require_same(*(Protocol.from_document(candidate.scores[name]["protocol"]) for name in ("fp32", "int8")))
    _check_bound(candidate)
    return candidate


def _pruning(outputs: Path, variant: str) -> Pruning:
    """Return what the plan and prune stages left for a variant."""
    return Pruning(
        plan=read_plan(outputs / f"plan/{variant}/prune.yaml", PrunePlan),
        study=_read(outputs / f"prune/{variant}/{STUDY}", "dense", "iterations", "kept", "stopped"),
        run_id=str(_read(outputs / f"prune/{variant}/run.json", "run_id")["run_id"]),
    )


def against_dense(candidate: Candidate) -> dict[str, float]:
    """Return how a candidate compares with the dense form of its variant; a dense one equals itself.

    Raises:
        StoreError: The dense form's outputs are missing.
        SpecError: The two forms were scored under different protocols.
    """
    place = f"{candidate.variant}/{DENSE}"
    score = _read(candidate.outputs / f"evaluate/{place}/int8.json", "protocol", "map50")
    require_same(*(Protocol.from_document(each["protocol"]) for each in (score, candidate.scores["int8"])))
    size = _read(candidate.outputs / f"quantize/{place}/quantize.json", "files")["files"][INT8]["bytes"]
    found = {
        "dense.map50_drop": float(score["map50"] - candidate.scores["int8"]["map50"]),
        "dense.size_share": candidate.quantize["files"][INT8]["bytes"] / size,
    }
    targets = _read(candidate.outputs / f"analyze/{place}/npu.json", "targets")["targets"]
    for name, report in candidate.npu["targets"].items():
        if report.get("cycles_total") and targets.get(name, {}).get("cycles_total"):
            found[f"npu.{name}.dense_cycles_share"] = report["cycles_total"] / targets[name]["cycles_total"]
    return found


def write_bundle(candidate: Candidate, folder: Path, root: Path) -> dict[str, Any]:
    """Write a version's files into an empty folder: networks, contract, reports, pictures, card, licence, manifest.

    Returns:
        The manifest: SHA-256 and size of every other file, and the candidate's figures.
    """
    licence = {LICENCE: root / LICENCE} if (root / LICENCE).is_file() else {}
    for name, source in {**_sources(candidate), **licence}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    write_text(folder / CARD, candidate_card(candidate))
    draw_training(candidate.folder_of_training / "epochs.csv", candidate.name, folder / CURVES)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "schema": 1,
        "variant": candidate.variant,
        "form": candidate.form,
        "activation": candidate.quantize.get("activation"),
        "figures": candidate.figures(),
        "files": {
            path.relative_to(folder).as_posix(): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
            for path in files
        },
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def candidate_card(candidate: Candidate) -> str:
    """Return the candidate's model card, in Markdown."""
    train, _ = candidate.plans
    made_of = f"{train.level} with {train.architecture.activation}, recipe {train.recipe.name}"
    runs = {"training run": candidate.run_id}
    if candidate.pruning:
        made_of += f"; {candidate.pruning.words}"
        runs["pruning run"] = candidate.pruning.run_id
    return model_card(
        title=f"{candidate.variant} ({candidate.form})",
        made_of=made_of,
        scores=candidate.scores,
        npu=candidate.npu["targets"],
        dataset=candidate.dataset,
        quantize=candidate.quantize,
        runs=runs,
    )


def altered(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Return the files that are missing from the folder or not as the manifest has them."""
    return [
        name
        for name, entry in manifest["files"].items()
        if not (folder / name).is_file() or sha256_file(folder / name) != entry["sha256"]
    ]


def git_commit(root: Path) -> str:
    """Return the commit that is checked out in the project, `none` in a source archive."""
    if not (root / ".git").exists():
        return NO_COMMIT
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return NO_COMMIT
    return found.stdout.strip()


def _sources(candidate: Candidate) -> dict[str, Path]:
    """Return the stages' files of a version, by their place in it."""
    quantized, scored, analyzed = (candidate.folder(stage) for stage in ("quantize", "evaluate", "analyze"))
    models = candidate.folder("models")
    sources = {
        **{name: quantized / name for name in (INT8, "model.onnx", *DECODING, "labels.txt", "quantize.json")},
        **{name: models / name for name in (WEIGHTS, "architecture.json")},
        **{f"metrics/{name}": scored / name for name in ("fp32.json", "int8.json", "activations.json", "metrics.json")},
        "npu.json": analyzed / "npu.json",
        # what these stages leave beside their reports, where they do
        **{f"{PICTURES}/{path.name}": path for path in sorted(scored.rglob("*.png"))},
    }
    if candidate.pruning:
        sources |= {name: candidate.folder_of_pruning / name for name in (STUDY, CHANNELS)}
    for target, report in candidate.npu["targets"].items():
        if report.get("compiled"):
            sources[f"{VELA}/{target}.tflite"] = analyzed / VELA / f"{target}.tflite"
    return sources


def _check_bound(candidate: Candidate) -> None:
    """Raise StoreError unless every report is about the files that are there."""
    place = f"{candidate.variant}/{candidate.form}"
    for name, path in _sources(candidate).items():
        if not path.is_file():
            raise _missing(path)
        wanted = _recorded_hash(candidate, name)
        if wanted is not None and sha256_file(path) != wanted:
            raise StoreError(f"{path}: is not the file that the stages recorded", REPAIR)
    for stage, found in (("evaluate", candidate.scores["int8"]["sha256"]), ("analyze", candidate.npu["sha256"])):
        if found != candidate.artifact_sha256:
            raise StoreError(f"outputs/{stage}/{place}: is about another INT8 file", REPAIR)
    if candidate.pruning and candidate.pruning.weights_sha256 != candidate.quantize["files"][WEIGHTS]["sha256"]:
        raise StoreError(f"outputs/prune/{candidate.variant}: is about other weights", REPAIR)


def _recorded_hash(candidate: Candidate, name: str) -> str | None:
    folder, _, file = name.rpartition("/")
    if folder == VELA:
        return str(candidate.npu["targets"][file.removesuffix(".tflite")]["compiled"]["sha256"])
    entry = candidate.quantize["files"].get(name)
    return str(entry["sha256"]) if entry else None


def _read(path: Path, *keys: str) -> dict[str, Any]:
    if not path.is_file():
        raise _missing(path)
    document: dict[str, Any] = read_json(path, *keys)
    return document


def _missing(path: Path) -> StoreError:
    return StoreError(f"{path}: is missing; a stage before register has not run", REPAIR)


def _is_number(values: dict[str, Any], name: str) -> bool:
    return isinstance(values.get(name), int | float)


def _compact(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))
