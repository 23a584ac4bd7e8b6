from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_network as tiny
from registry_run import MODEL, PRUNE_RUN_ID, RUN_ID, new_project, register_run, study, write_run

from ethos.errors import DamagedFile, EthosError, SpecError, StoreError
from ethos.files import read_json, sha256_file, write_json
from ethos.registry.candidate import collect
from ethos.registry.records import from_document
from ethos.registry.register import register
from ethos.registry.select import decide
from ethos.registry.store import open_store
from ethos.specs import Scenario
from pipelines.register import main as stage

if TYPE_CHECKING:
    from collections.abc import Callable

VARIANT = "level4_leaky"
BUNDLE = {
    "LICENSE",
    "architecture.json",
    "decode.h",
    "decode.json",
    "golden.npz",
    "int8.tflite",
    "labels.txt",
    "manifest.json",
    "metrics/fp32.json",
    "metrics/activations.json",
    "metrics/int8.json",
    "metrics/metrics.json",
    "model.onnx",
    "model_card.md",
    "npu.json",
    "pictures/training.png",
    "quantize.json",
    "vela/ethos-u55-256.tflite",
    "vela/ethos-u65-512.tflite",
    "weights.safetensors",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return new_project(tmp_path)


def mlflow_client(root: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(open_store(root).tracking_uri)


def test_a_version_carries_its_tags_files_and_runs(root: Path) -> None:
    [record] = register_run(root, {VARIANT: {"map50": 0.9, "latency_ms": 17.4}})

    assert (record.model, record.version, record.ready, record.stage, record.aliases) == (
        MODEL,
        1,
        True,
        "candidate",
        (),
    )
    assert (record.variant, record.level, record.activation, record.form) == (VARIANT, "level4", "leaky_relu", "dense")
    assert {name: record.tags[name] for name in ("dataset", "dataset.sha256", "split.sha256", "git.commit")} == {
        "dataset": "squares",
        "dataset.sha256": "d" * 64,
        "split.sha256": "5" * 64,
        "git.commit": "none",
    }
    assert record.tags["vela.version"] == "5.2.0"
    assert all(len(record.tags[name]) == 64 for name in ("spec.sha256", "graph.fingerprint", "candidate.sha256"))
    assert record.figures["int8.map50"] == 0.9
    assert record.figures["size.int8_kib"] == len(f"{VARIANT} int8.tflite") / 1024
    assert (record.figures["parameters"], record.figures["macs"]) == (2.5e6, 2e8)
    assert record.npu("ethos-u65-512") == {
        "latency_ms": 17.4,
        "fps": 1000 / 17.4,
        "cycles_total": 17.4e6,
        "dense_cycles_share": 1.0,
        "mac_utilisation": 0.4,
        "operators_npu": 100.0,
        "operators_cpu": 0.0,
        "sram_kib": 800.0,
        "over_budget_kib": 0.0,
    }
    store = open_store(root)
    with store.files(record) as folder:
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert found == BUNDLE
        manifest = read_json(folder / "manifest.json")
        assert set(manifest["files"]) == BUNDLE - {"manifest.json"}
        assert all(sha256_file(folder / name) == entry["sha256"] for name, entry in manifest["files"].items())
        assert manifest["figures"] == record.figures
        assert manifest["files"]["int8.tflite"]["sha256"] == record.artifact_sha256
        card = (folder / "model_card.md").read_text()
    version = mlflow_client(root).get_model_version(MODEL, "1")
    # where MLflow's page of the logged model looks for its versions
    logged = mlflow_client(root).get_logged_model(version.source.removeprefix("models:/"))
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": MODEL, "version": "1"}]
    assert version.description == card
    for words in ("## Scores (measured)", "estimate (vela 5.2.0)", "drawn by hand", record.artifact_sha256):
        assert words in card


def test_the_stages_are_child_runs_of_the_training(root: Path) -> None:
    store = open_store(root)
    with store.run("train") as train:
        pass
    write_run(root / "outputs", VARIANT)
    write_json(root / f"outputs/train/{VARIANT}/run.json", {"schema": 1, "run_id": train.run_id})

    record = register(store, collect(root / "outputs", VARIANT, "dense"), MODEL, root)

    assert record.run_id == train.run_id
    client = mlflow_client(root)
    children = client.search_runs([store.experiment_id], f"tags.`mlflow.parentRunId` = '{train.run_id}'")
    runs = {run.info.run_name: run for run in children}
    assert sorted(runs) == [f"{stage} {VARIANT}-dense" for stage in ("analyze", "evaluate", "quantize")]
    scores, npu, rest = (runs[f"{stage} {VARIANT}-dense"].data for stage in ("evaluate", "analyze", "quantize"))
    assert scores.metrics["int8.map50"] == scores.metrics["int8.map50/red"] == 0.9
    assert scores.params["conf"] == "0.001"
    assert npu.metrics["npu.ethos-u65-512.latency_ms"] == 30.0
    against_dense = {"dense.map50_drop": 0.0, "dense.size_share": 1.0}
    size = record.figures["size.int8_kib"]
    assert rest.metrics == {"size.int8_kib": size, "parameters": 2.5e6, "macs": 2e8, **against_dense}
    assert all(run.info.status == "FINISHED" for run in children)
    assert not store.find_run({"ethos.relogged": "true"})


def test_a_pruned_version_carries_its_study_plan_and_run(root: Path) -> None:
    store = open_store(root)
    with store.run("train") as train, store.run("prune", parent=train.run_id) as pruning:
        pass
    outputs = root / "outputs"
    write_run(outputs, VARIANT)
    dense = collect(outputs, VARIANT, "dense")
    write_run(outputs, VARIANT, form="pruned")
    assert dense.sha256 == collect(outputs, VARIANT, "dense").sha256
    write_json(outputs / f"train/{VARIANT}/run.json", {"schema": 1, "run_id": train.run_id})
    write_json(outputs / f"prune/{VARIANT}/run.json", {"schema": 1, "run_id": pruning.run_id})

    candidate = collect(outputs, VARIANT, "pruned")
    record = register(store, candidate, MODEL, root)

    assert (record.run_id, record.tags["prune.run_id"]) == (train.run_id, pruning.run_id)
    with store.files(record) as folder:
        for name in ("prune.json", "channels.csv"):
            assert (folder / name).read_bytes() == (outputs / "prune" / VARIANT / name).read_bytes()
            assert name in read_json(folder / "manifest.json")["files"]
        card = (folder / "model_card.md").read_text()
    assert "pruned by cost, trained again with recipe again, step 1 kept (mAP50 has fallen by 0.100" in card
    assert f"- training run: {train.run_id}\n- pruning run: {pruning.run_id}" in card
    plan = outputs / f"plan/{VARIANT}/prune.yaml"
    plan.write_text(plan.read_text().replace("steps: 2", "steps: 3"))
    other = collect(outputs, VARIANT, "pruned")
    assert other.spec_sha256 != candidate.spec_sha256
    before = other.sha256
    assert before != candidate.sha256
    score = outputs / f"evaluate/{VARIANT}/dense/int8.json"
    write_json(score, read_json(score) | {"map50": 0.5})
    compared = collect(outputs, VARIANT, "pruned")
    assert compared.spec_sha256 == other.spec_sha256
    assert compared.sha256 != before


def test_a_pruning_that_the_store_does_not_know_is_logged_again(root: Path) -> None:
    write_run(root / "outputs", VARIANT)
    [record] = register_run(root, {VARIANT: {"form": "pruned"}})
    run = mlflow_client(root).get_run(record.tags["prune.run_id"])
    assert run.data.tags["ethos.original_run"] == PRUNE_RUN_ID
    assert run.data.tags["mlflow.parentRunId"] == record.run_id
    assert run.data.params["recipe"] == "again"
    history = mlflow_client(root).get_metric_history(run.info.run_id, "efficiency.cpu")
    # mAP50 x FPS / MB of both steps
    assert [(each.step, each.value) for each in history] == [
        (1, pytest.approx(0.89 * 30 / 1.5)),
        (2, pytest.approx(0.8 * 40 / 0.9)),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "prune.json").unlink(), "prune.json: is missing"),
        (lambda folder: (folder / "channels.csv").unlink(), "channels.csv: is missing"),
        (lambda folder: (folder / "run.json").unlink(), "run.json: is missing"),
        (lambda folder: write_json(folder / "prune.json", study("9" * 64)), "is about other weights"),
    ],
    ids=["no-study", "no-channels", "no-run", "other-weights"],
)
def test_a_pruned_form_without_the_pruning_it_came_from_is_refused(
    root: Path, change: Callable[[Path], None], message: str
) -> None:
    write_run(root / "outputs", VARIANT)
    write_run(root / "outputs", VARIANT, form="pruned")
    change(root / "outputs" / "prune" / VARIANT)
    with pytest.raises(StoreError, match=message):
        collect(root / "outputs", VARIANT, "pruned")


@pytest.mark.parametrize(
    ("pruned", "binding"),
    [
        ({"latency_ms": 20.0, "map50": 0.895}, None),
        ({"latency_ms": 31.0, "map50": 0.9}, "npu.dense_cycles_share <= 1"),
        ({"latency_ms": 20.0, "map50": 0.88}, "dense.map50_drop <= 0.01"),
    ],
    ids=["better", "slower", "less-accurate"],
)
def test_a_pruned_form_serves_only_if_it_is_better(root: Path, pruned: dict[str, Any], binding: str | None) -> None:
    [dense] = register_run(root, {VARIANT: {"latency_ms": 30.0, "map50": 0.9}})
    [record] = register_run(root, {VARIANT: {"form": "pruned", **pruned}})
    assert record.ready
    assert record.figures["dense.map50_drop"] == pytest.approx(0.9 - pruned["map50"])
    assert record.npu("ethos-u65-512")["dense_cycles_share"] == pytest.approx(pruned["latency_ms"] / 30.0)
    scenario = Scenario.model_validate(
        {
            "pin": VARIANT,
            "target": "ethos-u65-512",
            "gates": ["dense.map50_drop <= 0.01", "npu.dense_cycles_share <= 1"],
            "objective": {"minimise": "npu.latency_ms"},
        }
    )
    decision = decide("realtime", scenario, [dense, record])
    assert decision.chosen.form == ("pruned" if binding is None else "dense")
    assert [(each.form, each.gate) for each in decision.rejected] == ([("pruned", binding)] if binding else [])


def test_a_training_that_the_store_does_not_know_is_logged_again_once(root: Path) -> None:
    records = register_run(root, {VARIANT: {}})
    records += register_run(root, {VARIANT: {"form": "pruned"}})

    assert records[0].run_id == records[1].run_id != RUN_ID
    client = mlflow_client(root)
    run = client.get_run(records[0].run_id)
    assert {name: run.data.tags[name] for name in ("ethos.relogged", "ethos.original_run")} == {
        "ethos.relogged": "true",
        "ethos.original_run": RUN_ID,
    }
    history = client.get_metric_history(run.info.run_id, "box_loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 2.5), (2, 1.5)]
    assert run.data.params["epochs"] == "2"


# --- which version a candidate is ------------------------------------------------------------------------------------


def test_the_same_candidate_is_the_same_version(root: Path) -> None:
    [first] = register_run(root, {VARIANT: {}})
    assert register_run(root, {VARIANT: {}}) == [first]
    assert len(open_store(root).versions(MODEL)) == 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"form": "pruned"}, id="form"),
        pytest.param({"conf": 0.01}, id="protocol"),
        pytest.param({"int8": b"other bytes"}, id="bytes"),
        pytest.param({"seed": 1}, id="spec"),
    ],
)
def test_another_candidate_is_another_version(root: Path, change: dict[str, Any]) -> None:
    [first] = register_run(root, {VARIANT: {}})
    outputs = root / "outputs"
    if "int8" in change:
        network = root / "network"
        network.mkdir()
        (network / "int8.tflite").write_bytes(change["int8"])
        write_run(outputs, VARIANT, network=network)
    elif "seed" in change:
        plan = outputs / f"plan/{VARIANT}/train.yaml"
        plan.write_text(plan.read_text().replace("seed: 0", "seed: 1"))
    else:
        write_run(outputs, VARIANT, **change)

    second = register(open_store(root), collect(outputs, VARIANT, change.get("form", "dense")), MODEL, root)

    assert (first.version, second.version, second.ready) == (1, 2, True)
    assert first.tags["candidate.sha256"] != second.tags["candidate.sha256"]


@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_a_version_whose_files_were_damaged_is_replaced(root: Path, damage: str) -> None:
    [first] = register_run(root, {VARIANT: {}})
    store = open_store(root)
    file = Path(store.file_place(first, "model.onnx"))
    file.write_bytes(b"altered") if damage == "altered" else shutil.rmtree(file.parent)

    [second] = register_run(root, {VARIANT: {}})

    assert (second.version, second.ready) == (2, True)
    assert not store.version(MODEL, 1).ready


def test_no_version_is_ready_before_its_files_were_read_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(root / "outputs", VARIANT)
    store = open_store(root)
    stored = store.create_version

    def lose_a_byte(*args: Any) -> Any:
        record = stored(*args)
        file = Path(store.file_place(record, "weights.safetensors"))
        file.write_bytes(file.read_bytes()[:-1])
        return record

    monkeypatch.setattr(store, "create_version", lose_a_byte)
    with pytest.raises(StoreError) as caught:
        register(store, collect(root / "outputs", VARIANT, "dense"), MODEL, root)

    assert caught.value.message == (
        f"version 1 ({VARIANT}, dense): the store gave back other bytes for weights.safetensors"
    )
    assert not store.version(MODEL, 1).ready
    assert store.versions(MODEL, {"ready": "true"}) == []


# --- outputs that do not fit together --------------------------------------------------------------------------------


def _rescore(outputs: Path) -> None:
    path = outputs / f"evaluate/{VARIANT}/dense/int8.json"
    write_json(path, {**read_json(path), "sha256": "e" * 64})


def _other_protocol(outputs: Path) -> None:
    keep = read_json(outputs / f"evaluate/{VARIANT}/dense/fp32.json")
    write_run(outputs, VARIANT, conf=0.25)
    write_json(outputs / f"evaluate/{VARIANT}/dense/fp32.json", keep)


BROKEN: dict[str, tuple[Callable[[Path], object], type[EthosError], str]] = {
    "no report": (
        lambda outputs: (outputs / f"analyze/{VARIANT}/dense/npu.json").unlink(),
        StoreError,
        f"outputs/analyze/{VARIANT}/dense/npu.json: is missing; a stage before register has not run",
    ),
    "an empty report": (
        lambda outputs: write_json(outputs / f"analyze/{VARIANT}/dense/npu.json", {}),
        DamagedFile,
        f"outputs/analyze/{VARIANT}/dense/npu.json: has no key 'sha256'",
    ),
    "a list for a report": (
        lambda outputs: write_json(outputs / f"quantize/{VARIANT}/dense/quantize.json", []),
        DamagedFile,
        f"outputs/quantize/{VARIANT}/dense/quantize.json: a JSON object was expected, got list",
    ),
    "no compiled file": (
        lambda outputs: (outputs / f"analyze/{VARIANT}/dense/vela/ethos-u55-256.tflite").unlink(),
        StoreError,
        f"outputs/analyze/{VARIANT}/dense/vela/ethos-u55-256.tflite: is missing; a stage before register has not run",
    ),
    "altered network": (
        lambda outputs: (outputs / f"quantize/{VARIANT}/dense/int8.tflite").write_bytes(b"altered"),
        StoreError,
        f"outputs/quantize/{VARIANT}/dense/int8.tflite: is not the file that the stages recorded",
    ),
    "altered compiled file": (
        lambda outputs: (outputs / f"analyze/{VARIANT}/dense/vela/ethos-u55-256.tflite").write_bytes(b"altered"),
        StoreError,
        f"outputs/analyze/{VARIANT}/dense/vela/ethos-u55-256.tflite: is not the file that the stages recorded",
    ),
    "scores of another file": (
        _rescore,
        StoreError,
        f"outputs/evaluate/{VARIANT}/dense: is about another INT8 file",
    ),
    "two protocols": (
        _other_protocol,
        SpecError,
        "scores of different protocols cannot be compared: conf is 0.001 in one and 0.25 in the other",
    ),
}


@pytest.mark.parametrize(("damage", "kind", "message"), BROKEN.values(), ids=BROKEN)
def test_outputs_that_do_not_fit_register_nothing(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], object],
    kind: type[EthosError],
    message: str,
) -> None:
    monkeypatch.chdir(root)
    write_run(Path("outputs"), VARIANT)
    damage(Path("outputs"))
    with pytest.raises(kind) as caught:
        stage(VARIANT, "dense")
    assert caught.value.message == message
    assert caught.value.fix
    assert not Path("outputs/register").exists()
    assert open_store(root).versions(MODEL) == []


# --- the stage, and the version as MLflow's own users see it ---------------------------------------------------------


def test_the_stage_writes_the_record(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    write_run(Path("outputs"), VARIANT)
    stage(VARIANT, "dense")
    path = Path(f"outputs/register/{VARIANT}/dense.json")
    first = path.read_bytes()
    record = from_document(read_json(path))
    assert (record.version, record.variant, record.ready) == (1, VARIANT, True)

    # what promotion changes later is none of this stage's output
    store = open_store(root)
    store.set_alias(record, "accuracy")
    store.tag_version(record, {"stage": "accuracy", "decision.accuracy": "{}"})
    stage(VARIANT, "dense")
    assert path.read_bytes() == first


def test_a_version_is_a_pyfunc_model(root: Path, network: Path, capfd: pytest.CaptureFixture[str]) -> None:
    [record] = register_run(root, {VARIANT: {"network": network}})
    open_store(root).set_alias(record, "realtime")
    # neither the project nor its sources take part from here on
    shutil.rmtree(root / "outputs")
    import cv2
    import mlflow.pyfunc
    import pandas as pd

    capfd.readouterr()
    model = mlflow.pyfunc.load_model(f"models:/{MODEL}@realtime")
    assert "Warning" not in capfd.readouterr().err
    image = tiny.picture([(0, 2, 3), (2, 5, 5)], size=128)
    path = str(root / "scene.png")
    cv2.imwrite(path, image[:, :, ::-1])
    expected = [
        ("0", *(2 * side for side in tiny.box(2, 3)), 0, "red"),
        ("0", *(2 * side for side in tiny.box(5, 5)), 2, "blue"),
    ]

    table = model.predict(image)

    assert list(table.columns) == ["image", "x1", "y1", "x2", "y2", "score", "class_id", "class"]
    assert [str(kind) for kind in table.dtypes] == ["str", *["float64"] * 5, "int64", "str"]
    found = [tuple(row) for row in table.drop(columns="score").sort_values("class_id").to_numpy()]
    assert [(row[0], *row[5:]) for row in found] == [(row[0], *row[5:]) for row in expected]
    np.testing.assert_allclose([row[1:5] for row in found], [row[1:5] for row in expected], atol=1e-4)
    np.testing.assert_allclose(table["score"], tiny.SCORE, atol=0.01)

    same = table.drop(columns="image")
    for given, names in (
        (path, [path]),
        ([image, path], ["0", path]),
        (np.stack([image, image]), ["0", "1"]),
        (np.array([path, path]), [path, path]),
        (pd.DataFrame({"file": [path]}), [path]),
        (image.astype(np.int64), ["0"]),
        (image.tolist(), ["0"]),
        (Path(path), [path]),
        (Path(path).read_bytes(), ["0"]),
        (base64.b64encode(Path(path).read_bytes()).decode(), ["0"]),
        (pd.DataFrame({"file": [base64.b64encode(Path(path).read_bytes()).decode()]}), ["0"]),
        ([Path(path).read_bytes(), image], ["0", "1"]),
    ):
        found = model.predict(given)
        assert list(found["image"].unique()) == list(dict.fromkeys(names))
        pd.testing.assert_frame_equal(found.drop(columns="image"), pd.concat([same] * len(names), ignore_index=True))
    assert len(model.predict(image, params={"max_det": 1})) == 1
    assert len(model.predict(image, params={"conf": 0.999})) == 0
    with pytest.raises(ValueError, match=r"missing\.png: no such file"):
        model.predict(str(root / "missing.png"))
    with pytest.raises(ValueError, match="expected a uint8 image"):
        model.predict(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="image 0: is no image that can be read"):
        model.predict(base64.b64encode(b"no image, but long enough to be a file").decode())


def test_the_logged_model_needs_neither_torch_nor_tensorflow(root: Path) -> None:
    [record] = register_run(root, {VARIANT: {}})
    folder = Path(open_store(root).file_place(record, "int8.tflite")).parents[2]
    needed = {line.partition("==")[0] for line in (folder / "requirements.txt").read_text().split()}
    assert needed == {"mlflow", "numpy", "pandas", "opencv-python", "ai-edge-litert"}
    assert sorted(path.name for path in (folder / "code").iterdir()) == ["ethos_runtime"]
    assert not list(folder.rglob("__pycache__"))
