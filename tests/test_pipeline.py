"""The whole pipeline, real and small: what DVC reruns, what is registered, what is selected."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING

import pytest
import yaml
from pipeline_project import PRUNED, VARIANTS, Project

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.pipeline
PER_CANDIDATE = ("quantize", "analyze", "evaluate", "register")
COLLECTORS = {"promote", "report"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("pipeline"))
    made.run("ethos", "init")
    made.first_run = made.repro()
    made.commit("ran")
    return made


def stages_of(variant: str) -> set[str]:
    return {f"{stage}@{variant}-dense" for stage in PER_CANDIDATE}


def test_first_run_runs_every_stage(project: Project) -> None:
    wanted = {"dataset", "check", "plan-start", "fit", "start"} | COLLECTORS
    for variant in VARIANTS:
        wanted |= {f"plan@{variant}", f"train@{variant}"} | stages_of(variant)
    for variant in PRUNED:
        wanted |= {f"prune@{variant}", *(f"{stage}-pruned@{variant}-pruned" for stage in PER_CANDIDATE)}
    assert project.first_run == wanted


def test_second_run_does_nothing(project: Project) -> None:
    assert project.repro() == set()
    assert project.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."


@pytest.mark.parametrize("scenario", ["realtime", "accuracy"])
def test_select_follows_the_pin_and_names_the_file(project: Project, scenario: str) -> None:
    answer = json.loads(project.run("ethos", "select", "--scenario", scenario, "--json").stdout)
    pinned = yaml.safe_load((project.folder / "registry/policy.yaml").read_text())["scenarios"][scenario]["pin"]
    assert answer["variant"] == pinned
    form = answer["form"]
    file = project.folder / f"outputs/quantize/{pinned}/{form}/int8.tflite"
    assert answer["artifact"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert answer["stage"] == scenario
    recorded = json.loads((project.folder / f"outputs/evaluate/{pinned}/{form}/metrics.json").read_text())
    assert answer["int8"]["map50"] == recorded["int8"]["map50"]


def test_download_writes_verified_files(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    project.run("ethos", "select", "--scenario", "realtime", "--download", str(folder))
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("int8.tflite", "decode.json", "labels.txt", "vela/ethos-u65-512.tflite"):
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == manifest["files"][name]["sha256"]


def test_pyfunc_answers_by_alias(project: Project) -> None:
    image = next((project.folder / "outputs/dataset/images/val").iterdir())
    script = (
        "import mlflow, cv2, sys\n"
        "model = mlflow.pyfunc.load_model('models:/traffic-sign-detector@realtime')\n"
        f"table = model.predict(cv2.imread({str(image)!r})[..., ::-1].copy())\n"
        "print(list(table.columns))\n"
        "print('torch' in sys.modules, 'tensorflow' in sys.modules)\n"
    )
    uri = f"sqlite:///{project.folder / 'registry/mlflow.db'}"
    done = project.run("python", "-c", script, MLFLOW_TRACKING_URI=uri)
    columns, heavy = done.stdout.strip().splitlines()[-2:]
    assert columns == "['image', 'x1', 'y1', 'x2', 'y2', 'score', 'class_id', 'class']"
    assert heavy == "False False"


def test_summary_prints_every_candidate_and_selection(project: Project) -> None:
    document = json.loads(project.run("ethos", "summary", "--json").stdout)
    forms = [(row["variant"], row["form"]) for row in document["rows"]]
    assert forms == [*((variant, "dense") for variant in VARIANTS), *((variant, "pruned") for variant in PRUNED)]
    assert [answer["scenario"] for answer in document["scenarios"]] == ["realtime", "accuracy"]
    text = project.run("ethos", "summary").stdout
    assert all(variant in text for variant in VARIANTS)


def test_metrics_plots_and_dag(project: Project) -> None:
    metrics = json.loads(project.run("dvc", "metrics", "show", "--json").stdout)[""]["data"]
    assert "outputs/evaluate/level3_relu/dense/metrics.json" in metrics
    project.run("dvc", "plots", "show")
    page = (project.folder / "dvc_plots/index.html").read_text()
    assert all(f"{variant}, mAP50" in page for variant in VARIANTS)
    shutil.rmtree(project.folder / "dvc_plots")
    assert "train@level3_relu" in project.run("dvc", "dag", "--mermaid").stdout


def test_changed_variant_reruns_its_own_stages_only(project: Project) -> None:
    spec = project.folder / "specs/variants/level4_leaky.yaml"
    before = spec.read_text()
    spec.write_text(before + "quantize: {calibration_images: 20}\n")
    difference = json.loads(project.run("dvc", "params", "diff", "--json").stdout)
    assert "specs/variants/level4_leaky.yaml" in difference
    assert project.repro() == {"plan@level4_leaky", "fit"} | stages_of("level4_leaky") | COLLECTORS
    spec.write_text(before)
    # the outputs of the first run come back from DVC's cache; only what talks to the registry runs again
    assert project.repro() <= {"register@level4_leaky-dense"} | COLLECTORS


def test_experiment_with_a_changed_parameter(project: Project) -> None:
    project.commit("before the experiment")
    done = project.run("dvc", "exp", "run", "-S", "protocol.conf=0.01")
    ran = {line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage '")}
    assert {"evaluate@level3_relu-dense", "evaluate@level4_leaky-dense"} <= ran
    assert not any(stage.startswith(("train", "quantize", "analyze")) for stage in ran)
    protocol = json.loads((project.folder / "outputs/evaluate/level3_relu/dense/int8.json").read_text())["protocol"]
    assert protocol["conf"] == 0.01


def test_lost_store_is_filled_again_without_training(project: Project) -> None:
    (project.folder / "registry/mlflow.db").unlink()
    shutil.rmtree(project.folder / "registry/artifacts")
    project.run("ethos", "init")
    ran = project.repro()
    assert {f"register@{variant}-dense" for variant in VARIANTS} | {"promote"} <= ran
    assert not any(stage.startswith("train") for stage in ran)
    answer = json.loads(project.run("ethos", "select", "--scenario", "realtime", "--json").stdout)
    assert answer["variant"] == "level3_relu"


def test_failed_check_stops_before_training(tmp_path: Path) -> None:
    project = Project(tmp_path / "strict")
    spec = yaml.safe_load((project.folder / "specs/datasets/tiny.yaml").read_text())
    spec["checks"]["min_boxes_per_class"] = 1000
    project.write("specs/datasets/tiny.yaml", spec)
    project.run("ethos", "init")
    done = project.run("dvc", "repro", "start", expect=255)
    assert "class_both_sides" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project.folder / "outputs/start").exists()


def test_works_without_git(tmp_path: Path) -> None:
    project = Project(tmp_path / "archive", git=False)
    assert "no git here: DVC is set to run without it" in project.run("ethos", "init").stdout
    assert project.repro("dataset", "plan") == {"dataset", "plan@level3_relu", "plan@level4_leaky"}
    assert project.repro("dataset", "plan") == set()
