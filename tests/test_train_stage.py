"""The stage `train` as DVC runs it: killed in mid-epoch, it goes on, in the same MLflow run, to the same bits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import CLASSES
from pipeline_project import Project

from ethos.files import new_folder, read_json
from ethos.model.levels import Architecture, resolve_level
from ethos.model.weights import tensors_sha256
from ethos.plan import StartPlan, TrainPlan, write_plan
from ethos.registry.runs import open_tracking
from ethos.specs import Weights
from ethos.training.start import make_start
from ethos.training.train import train

if TYPE_CHECKING:
    from ethos.specs import Recipe

pytestmark = pytest.mark.pipeline
VARIANT = "level4_leaky"
STAGE = f"train@{VARIANT}"
PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def plan(smoke: Recipe) -> TrainPlan:
    base, steps = resolve_level("level4")
    # names of classes as in the tiny data set
    architecture = Architecture(base=base, steps=steps, activation="leaky_relu", names=CLASSES)
    recipe = smoke.model_copy(update={"epochs": 5, "batch": 4, "nbs": 8})
    return TrainPlan(
        variant=VARIANT, level="level4", architecture=architecture, recipe=recipe, from_start=False, seed=5
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path, plan: TrainPlan) -> Project:
    """Return a project with all that the stage depends on."""
    made = Project(tmp_path_factory.mktemp("stage"), git=False)
    (made.folder / ".dvc/config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    outputs = made.folder / "outputs"
    shutil.copytree(tiny_dataset, outputs / "dataset")
    for place in (f"plan/{VARIANT}", f"teacher/{VARIANT}", "check", "fit"):
        (outputs / place).mkdir(parents=True)
    write_plan(outputs / f"plan/{VARIANT}/train.yaml", plan)
    (outputs / f"teacher/{VARIANT}/teacher.json").write_text('{"schema": 1, "teacher": null}\n')
    for passed in ("check/report.json", "fit/passed.json"):
        (outputs / passed).write_text("{}\n")
    with new_folder(outputs / "start") as folder:
        make_start(StartPlan(weights=Weights(source="scratch"), seed=0), tiny_dataset, folder)
    return made


def kill_after_first_checkpoint(project: Project) -> int:
    """Start the stage and kill it, and DVC, while a later epoch is trained; return how many epochs were kept."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_"))},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{project.folder / 'src'}{os.pathsep}{project.folder}",
        "DVC_NO_ANALYTICS": "1",
    }
    running = subprocess.Popen(
        ["dvc", "repro", "-s", STAGE], cwd=project.folder, env=environment, start_new_session=True
    )
    checkpoints = project.folder / "outputs/checkpoints" / VARIANT
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not list(checkpoints.glob("*/last.pt")):
        assert running.poll() is None, "the stage ended before it wrote a checkpoint"
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.01)
    # by now the next epoch is under way
    time.sleep(0.15)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    import torch

    (last,) = checkpoints.glob("*/last.pt")
    return int(torch.load(last, weights_only=True)["epoch"])


@pytest.fixture(scope="module")
def kept(project: Project) -> int:
    kept = kill_after_first_checkpoint(project)
    assert not (project.folder / "outputs/models" / VARIANT / "dense").exists()
    assert project.repro("-s", STAGE) == {STAGE}
    return kept


def read(project: Project, name: str) -> Any:
    return read_json(project.folder / "outputs/train" / VARIANT / name)


def test_it_goes_on_and_ends_as_a_whole_training_would(
    project: Project, kept: int, plan: TrainPlan, tiny_dataset: Path, tmp_path: Path
) -> None:
    assert 1 <= kept < plan.recipe.epochs
    whole = train(plan.architecture, plan.recipe, tiny_dataset, tmp_path, seed=plan.seed)
    metrics = read(project, "metrics.json")
    assert metrics["epochs"] == plan.recipe.epochs
    assert metrics["tensors_sha256"] == whole.tensors_sha256
    rows = (project.folder / "outputs/train" / VARIANT / "epochs.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["epoch", "1", "2", "3", "4", "5"]
    # a schedule that began again would end at another rate
    assert float(rows[-1].split(",")[rows[0].split(",").index("lr")]) == pytest.approx(whole.epochs[-1].lr, rel=1e-5)


def test_it_is_one_run_in_which_each_epoch_stands_once(project: Project, kept: int) -> None:
    record = read(project, "run.json")
    assert record["resumed_after"] == [kept]
    assert (record["seed"], set(record["hardware"])) == (
        5,
        {"cpu", "cores", "memory_mib", "gpu", "torch_threads"},
    )
    tracking = open_tracking("ethos", project.folder)
    client = tracking._client
    (run,) = client.search_runs([tracking.experiment_id])
    assert (run.info.run_id, run.info.status) == (record["run_id"], "FINISHED")
    for metric in ("map50", "lr", "train_box_loss", "system/cpu_utilization_percentage"):
        steps = [entry.step for entry in client.get_metric_history(run.info.run_id, metric)]
        assert sorted(steps) == [1, 2, 3, 4, 5], metric
    assert run.data.tags["note.1"].startswith(f"goes on after epoch {kept} from outputs/checkpoints/{VARIANT}/")
    assert run.data.tags["tensors.sha256"] == read(project, "metrics.json")["tensors_sha256"]
    assert run.data.tags["version.torch"] == record["versions"]["torch"]


@pytest.mark.usefixtures("kept")
def test_nothing_stays_of_it(project: Project) -> None:
    assert list((project.folder / "outputs/checkpoints").iterdir()) == []
    assert project.repro("-s", STAGE) == set()


@pytest.mark.usefixtures("kept")
def test_the_hash_is_of_the_file_that_was_written(project: Project) -> None:
    from ethos.model.weights import read_tensors

    file = project.folder / "outputs/models" / VARIANT / "dense/weights.safetensors"
    assert read(project, "metrics.json")["tensors_sha256"] == tensors_sha256(read_tensors(file))
    assert json.loads((project.folder / "outputs/teacher" / VARIANT / "teacher.json").read_text())["teacher"] is None
