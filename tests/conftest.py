"""What several test modules share: a project folder of one's own, and a data set of forty small drawn images."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# read when torch is imported; threads that spin while they wait take ten times as long on a busy machine
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from ethos.data.source import materialise
from ethos.specs import Dataset, DrawnSource, Recipe, Split, Weights

if TYPE_CHECKING:
    from quantized import Quantized

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("Stop", "Yield", "Red Light")
SIDE = 64


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the project's specs, parameters and policy, which is also the working directory."""
    folder = tmp_path / "project"
    (folder / "registry").mkdir(parents=True)
    shutil.copytree(ROOT / "specs", folder / "specs")
    for name in ("params.yaml", "registry/policy.yaml"):
        shutil.copyfile(ROOT / name, folder / name)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def network(tiny_files: Path) -> Path:
    """Return a folder with the INT8 file and contract of a network that finds red, green and blue squares."""
    return tiny_files


@pytest.fixture(scope="session")
def promoted_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with three promoted versions, to be copied and not changed."""
    from registry_run import new_project, promote_run

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        root = new_project(tmp_path_factory.mktemp("promoted"))
        patch.chdir(root)
        promote_run(root)
    return root


@pytest.fixture
def promoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, promoted_once: Path) -> Path:
    """Return a copy of that project, which is also the working directory."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from registry_run import copy_project

    root = copy_project(promoted_once, tmp_path / "project")
    monkeypatch.chdir(root)
    return root


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a materialised data set: 40 drawn images of 64 px, three classes."""
    source = DrawnSource(type="drawn", images=40, size=SIDE, seed=0)
    spec = Dataset(name="tiny", source=source, classes=CLASSES, split=Split(track=r"^(?P<scene>scene_\d+)"))
    folder = tmp_path_factory.mktemp("data") / "dataset"
    materialise(spec, folder)
    return folder


@pytest.fixture(scope="session")
def smoke() -> Recipe:
    """Return a recipe of one short epoch."""
    return Recipe(
        name="smoke",
        weights=Weights(source="scratch"),
        epochs=1,
        imgsz=SIDE,
        batch=8,
        nbs=8,
        optimizer="AdamW",
        lr0=0.002,
        lrf=0.1,
        warmup_epochs=0.0,
        fliplr=0.0,
        amp=False,
        close_mosaic=0,
        workers=0,
        device="cpu",
    )


@pytest.fixture(scope="session")
def quantized(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path, smoke: Recipe) -> Quantized:
    """Return a network trained for one short epoch, and its files."""
    from quantized import Quantized

    return Quantized(tmp_path_factory.mktemp("quantize"), tiny_dataset, smoke)


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with promoted versions and its written report; read only."""
    from report_project import evidence_of, make_project

    from ethos.reporting.site import write_site
    from ethos.reporting.text_catalog import Texts

    root = make_project(tmp_path_factory.mktemp("report"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        with evidence_of(root) as evidence:
            write_site(evidence, Texts(), root / "outputs" / "report")
    return root


@pytest.fixture
def report_project(reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of it to change, which is also the working directory."""
    from registry_run import copy_project

    root = copy_project(reported, tmp_path / "copy")
    monkeypatch.chdir(root)
    return root


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of `tiny_network.build`: detectors of known behaviour as TFLite files."""
    from tiny_network import build

    folder = tmp_path_factory.mktemp("tiny")
    build(folder)
    return folder
