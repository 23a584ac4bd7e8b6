"""`ethos audit`: every kind of finding, on a registry made wrong in that way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tiny_network as tiny
from registry_run import MODEL, copy_project, new_project, register_run

from ethos import catalog
from ethos.evaluation.evaluate import assess
from ethos.evaluation.samples import load_samples
from ethos.files import read_json, write_json
from ethos.registry import ledger
from ethos.registry.audit import audit
from ethos.registry.candidate import collect
from ethos.registry.promote import promote
from ethos.registry.register import register
from ethos.registry.store import Store, open_store
from ethos.specs import ProtocolParams

if TYPE_CHECKING:
    from collections.abc import Callable

VARIANT = "level4_relu"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, network: Path) -> Path:
    """Return a project whose one version was scored on a data set that is there: squares that its network finds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        root = new_project(tmp_path_factory.mktemp("audit"))
        patch.chdir(root)
        _write_images(root / "outputs/dataset")
        register_run(root, {"level3_relu": {"network": network, "map50": 0.5}})
        outputs = root / "outputs"
        quantized = outputs / "quantize/level3_relu/dense"
        report = assess(
            quantized / "int8.tflite", load_samples(outputs / "dataset/data.yaml", "val"), ProtocolParams()
        ).document()
        scored = outputs / "evaluate/level3_relu/dense"
        for name in ("fp32", "int8"):
            write_json(scored / f"{name}.json", {**read_json(scored / f"{name}.json"), **_scores(report)})
        figures = {key: report[key] for key in ("map50", "map50_95")}
        drops = {"map50_drop": 0.0, "worst_class_drop": 0.0}
        write_json(scored / "metrics.json", {"fp32": figures, "int8": figures | drops})
        store = open_store(root)
        store.delete_version(store.version(MODEL, 1))
        record = register(store, collect(outputs, "level3_relu", "dense"), MODEL, root)
        promote(store, catalog.load_policy(), [record], root)
    return root


def _write_images(folder: Path) -> None:
    import cv2

    for side in ("images", "labels"):
        (folder / side).mkdir(parents=True)
    for number, (row, column) in enumerate([(2, 3), (5, 5), (4, 2)]):
        picture = tiny.picture([(number, row, column)])
        cv2.imwrite(str(folder / f"images/{number}.png"), picture[:, :, ::-1])
        x1, y1, x2, y2 = (value / 64 for value in tiny.box(row, column))
        label = f"{number} {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}\n"
        (folder / f"labels/{number}.txt").write_text(label)
    (folder / "data.yaml").write_text("val: images\nnames: [red, green, blue]\n")


def _scores(report: dict[str, Any]) -> dict[str, Any]:
    return {key: report[key] for key in ("protocol", "map50", "map50_95", "precision", "recall", "per_class", "images")}


@pytest.fixture
def root(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = copy_project(measured, tmp_path / "project")
    monkeypatch.chdir(root)
    return root


def audited(root: Path, version: int | None = None) -> dict[str, Any]:
    return audit(open_store(root), catalog.load_policy(), MODEL, root, root / "outputs", version)


def files(store: Store, version: int = 2) -> Path:
    return Path(store.file_place(store.version(MODEL, version), "int8.tflite")).parent


def test_a_registry_that_is_right_has_no_findings(root: Path) -> None:
    found = audited(root)
    assert (found["ok"], found["findings"], found["skipped"]) == (True, [], [])
    assert found["scored"] == found["checked"] == [2]
    assert open_store(root).version(MODEL, 2).figures["int8.map50"] > 0.9


def _edit_json(path: Path, change: Callable[[Any], object]) -> None:
    document = read_json(path)
    change(document)
    path.write_text(json.dumps(document))


def _alter(store: Store) -> None:
    (files(store) / "labels.txt").write_text("other")


def _lose(store: Store) -> None:
    (files(store) / "model.onnx").unlink()


def _lose_all(store: Store) -> None:
    shutil.rmtree(files(store))


def _edit_manifest(store: Store) -> None:
    _edit_json(files(store) / "manifest.json", lambda manifest: manifest.update(variant="level4_relu"))


def _flatter(store: Store) -> None:
    store.tag_version(store.version(MODEL, 2), {"int8.map50": "0.999"})


def _faster(store: Store) -> None:
    store.tag_version(store.version(MODEL, 2), {"npu.ethos-u65-512.latency_ms": "0.1"})


def _no_protocol(store: Store) -> None:
    store.tag_version(store.version(MODEL, 2), {"protocol": ""})


def _by_hand(store: Store) -> None:
    store._client.delete_registered_model_alias(MODEL, "accuracy")


def _cut(store: Store) -> None:
    assert store
    path = Path(ledger.LEDGER)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def _change_line(store: Store) -> None:
    assert store
    path = Path(ledger.LEDGER)
    path.write_text(path.read_text().replace('"who": ', '"who": "x", "was": '))


WRONG: dict[str, tuple[Callable[[Store], None], list[str], str]] = {
    "altered": (_alter, ["artifact_altered"], "labels.txt has SHA-256 "),
    "lost": (_lose, ["artifact_missing"], "model.onnx is gone"),
    "all lost": (_lose_all, ["artifact_missing"], "version 2 (level3_relu, dense): its files are gone: "),
    "manifest": (_edit_manifest, ["manifest"], "manifest.json is not the one that was registered"),
    "score": (_flatter, ["figure_altered", "score"], "tag int8.map50 is 0.999, its report has "),
    "figure": (_faster, ["figure_altered"], "tag npu.ethos-u65-512.latency_ms is 0.1, its report has 30.0"),
    "protocol": (_no_protocol, ["no_protocol"], "scores fp32.map50, "),
    "moved by hand": (_by_hand, ["alias"], "'accuracy' was moved by hand: the ledger has version 2, the alias None"),
    "ledger cut": (_cut, ["ledger"], ""),
    "ledger altered": (_change_line, ["ledger"], ""),
}


@pytest.mark.parametrize(("damage", "kinds", "detail"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_found(root: Path, damage: Callable[[Store], None], kinds: list[str], detail: str) -> None:
    damage(open_store(root))
    found = audited(root)
    assert not found["ok"]
    assert sorted({finding["kind"] for finding in found["findings"]}) == sorted(kinds)
    assert found["findings"][0]["kind"] == kinds[0]
    assert found["findings"][0]["detail"].startswith(detail)


def test_what_is_the_same_under_two_names(root: Path) -> None:
    # the two levels of V3 that were one graph: registered anew under another name, bytes and all
    network = root / "outputs/quantize/level3_relu/dense"
    [record] = register_run(root, {VARIANT: {"network": network, "map50": 0.5}})
    store = open_store(root)
    store.tag_version(record, {"graph.fingerprint": store.version(MODEL, 2).tags["graph.fingerprint"]})

    found = audited(root, record.version)

    details = {finding["kind"]: finding["detail"] for finding in found["findings"]}
    names = "version 2 (level3_relu, dense), version 3 (level4_relu, dense) have one "
    assert details["same_bytes"].startswith(f"{names}artifact.sha256: ")
    assert details["same_graph"].startswith(f"{names}graph.fingerprint: ")
    # its score was made up for a data set that is not here
    assert found["skipped"] == [
        {
            "version": 3,
            "what": "score",
            "reason": f"{root}/outputs/dataset holds another split or other labels than it was scored on (squares)",
        }
    ]


def test_a_version_that_is_not_ready_is_told(root: Path) -> None:
    store = open_store(root)
    store.tag_version(store.version(MODEL, 2), {"ready": "false"})
    register_run(root, {VARIANT: {}})
    [skipped] = audited(root, 2)["skipped"]
    assert (skipped["version"], skipped["what"]) == (2, "all")
