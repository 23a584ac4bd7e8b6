"""The pre-flight: what is right says so, and each thing that can be wrong is broken once."""

from __future__ import annotations

import json
import platform
import shutil
import socket
import sqlite3
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from conftest import ROOT
from registry_run import new_project
from test_cli import ethos  # noqa: F401 - a fixture

from ethos.catalog import load_params
from ethos.doctor import machine
from ethos.doctor.examine import CHECKS, answer, examine
from ethos.doctor.finding import Subject
from ethos.errors import SpecError
from ethos.npu import vela

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from test_cli import Outcome

SECRET = "s3cr3t-w0rd"


@pytest.fixture
def whole(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project with all that the pre-flight looks at."""
    for name in ("pyproject.toml", "requirements.lock", "dvc.yaml"):
        shutil.copyfile(ROOT / name, project / name)
    (project / ".dvc").mkdir()
    (project / ".dvc/config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    for name in ("MLFLOW_TRACKING_URI", "SIGNS15_ROOT", "COCO_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    return project


def findings(root: Path, name: str, **options: Any) -> list[tuple[str, str, str]]:
    """Return status, detail and fix of one check's findings."""
    try:
        params = load_params()
    except SpecError:
        params = None
    given = {"fast": True, "memory_gib": 0.0, "disk_gib": 0.0, **options}
    found = answer({"cuda": "torch"}.get(name, name), Subject(root, params, **given))
    return [(each.status, each.detail, each.fix) for each in found if each.name == name]


def problem(root: Path, name: str, **options: Any) -> tuple[str, str, str]:
    """Return the one finding of a check that is not in order; it has a fix."""
    (found,) = [each for each in findings(root, name, **options) if each[0] != "ok"]
    assert found[2]
    assert "\n" not in found[1]
    return found


def set_params(root: Path, **changes: Any) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text()) | changes
    (root / "params.yaml").write_text(yaml.safe_dump(params))


# --- in order --------------------------------------------------------------------------------------------------------


def test_a_whole_project_passes_each_check(whole: Path) -> None:
    report = examine(whole, fast=False)
    assert [each for each in report["checks"] if each["status"] == "error"] == []
    assert (report["schema"], report["ok"], report["fast"]) == (1, True, False)
    said = {each["name"]: each["detail"] for each in report["checks"]}
    assert set(CHECKS) | {"cuda"} == set(said)
    assert said["python"].startswith(platform.python_version())
    assert said["vela"] == f"{vela.version()}, a small network compiles for 3 targets"
    assert "stages" in said["dvc"]
    assert "CPU threads" in said["cuda"] or "GiB" in said["cuda"]


def test_the_fast_form_starts_neither_torch_nor_compiler(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("was started")

    monkeypatch.setattr(vela, "Run", refuse)
    monkeypatch.setattr(machine, "_probe", refuse)
    assert findings(whole, "vela") == [("ok", f"{vela.version()}, not tried", "")]
    assert findings(whole, "torch")[0][1].endswith(", not tried")


# --- the machine -----------------------------------------------------------------------------------------------------


def test_another_python(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "python_version", lambda: "3.9.18")
    assert problem(whole, "python") == ("error", "3.9.18, not >=3.11,<3.12", "make install PYTHON=python3.11")


@pytest.mark.parametrize(("name", "option"), [("memory", "memory_gib"), ("disk", "disk_gib")])
@pytest.mark.parametrize(("factor", "status"), [(1e6, "error"), (None, "warn"), (0.0, "ok")])
def test_too_little_of_it(whole: Path, name: str, option: str, factor: float | None, status: str) -> None:
    import psutil

    there = psutil.virtual_memory().available if name == "memory" else shutil.disk_usage(whole).free
    wanted = there / 2**30 / 1.5 if factor is None else factor
    statuses = {each[0] for each in findings(whole, name, **{option: wanted})}
    assert statuses == {status}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("torch==2.13.0", None),
        ("torch==2.13.0+cu126", None),
        ("pytest==1.2.3", "warn"),
        ("no-such-package-here==1.0", "warn"),
    ],
    ids=["same", "other-build", "other-version", "missing"],
)
def test_packages_against_the_lock(whole: Path, line: str, text: str | None) -> None:
    name = line.partition("==")[0]
    lock = whole / "requirements.lock"
    lines = [each for each in lock.read_text().splitlines() if not each.startswith(f"{name}==")]
    lock.write_text("\n".join([*lines, line]) + "\n")
    if text is None:
        assert [each[0] for each in findings(whole, "packages")] == ["ok"]
    else:
        status, detail, _ = problem(whole, "packages")
        assert status == text
        assert name in detail


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('"numpy>=2,<3"', '"numpy>=99"', r"not >=99"),
        ('"numpy>=2,<3"', '"no-such-package-here>=1"', "no-such-package-here is missing"),
    ],
    ids=["version", "missing"],
)
def test_packages_against_what_the_project_needs(whole: Path, old: str, new: str, text: str) -> None:
    file = whole / "pyproject.toml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    status, detail, fix = problem(whole, "packages")
    assert status == "error"
    assert text in detail
    assert "requirements.lock" in fix


@pytest.mark.parametrize(
    ("name", "content", "check", "text"),
    [
        ("requirements.lock", None, "packages", "requirements.lock: no such file"),
        ("requirements.lock", "numpy\n", "packages", "requirements.lock:1: expected NAME==VERSION, got 'numpy'"),
        ("pyproject.toml", None, "python", "pyproject.toml: cannot be read: "),
        ("pyproject.toml", "[", "python", "pyproject.toml: cannot be read: "),
    ],
)
def test_files_of_the_project_that_are_broken(
    whole: Path, name: str, content: str | None, check: str, text: str
) -> None:
    (whole / name).unlink()
    if content is not None:
        (whole / name).write_text(content)
    status, detail, _ = problem(whole, check)
    assert status == "error"
    assert detail.startswith(text)


def test_a_torch_that_does_not_load(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/torch.py").write_text("raise OSError('libcudart.so: cannot open shared object file')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'broken'}:{ROOT / 'src'}")
    set_params(whole, targets=["ethos-n78-4tops"])
    status, detail, fix = problem(whole, "torch", fast=False)
    assert status == "error"
    assert detail == "torch does not load: OSError: libcudart.so: cannot open shared object file"
    assert fix == "install again: make clean install"


@pytest.mark.parametrize(
    ("devices", "device", "status", "text"),
    [
        ([], "0", "error", "none, but the recipe wants device '0'"),
        ([], "", "ok", "none, training runs on 2 CPU threads"),
        (["NVIDIA X, 8.0 GiB"], "0", "ok", "NVIDIA X, 8.0 GiB"),
    ],
)
def test_the_device_of_the_recipe(
    whole: Path, monkeypatch: pytest.MonkeyPatch, devices: list[str], device: str, status: str, text: str
) -> None:
    state = {"torchvision": "torchvision", "devices": devices, "threads": 2}
    monkeypatch.setattr(machine, "_probe", lambda: state)
    with (whole / "specs/recipes/demo.yaml").open("a") as stream:
        stream.write(f"device: '{device}'\n")
    set_params(whole, targets=["ethos-n78-4tops"])
    assert [each[:2] for each in findings(whole, "cuda", fast=False)] == [(status, text)]


# --- services --------------------------------------------------------------------------------------------------------


def test_dvc_without_its_settings(whole: Path) -> None:
    shutil.rmtree(whole / ".dvc")
    status, detail, fix = problem(whole, "dvc")
    assert status == "error"
    assert detail == ".dvc/config: no such file"
    assert "dvc init" in fix


def test_dvc_without_git(whole: Path) -> None:
    (whole / ".dvc/config").write_text("")
    status, detail, fix = problem(whole, "dvc", fast=False)
    assert status == "error"
    assert detail.startswith("dvc stage list --name-only: ERROR: ")
    assert "ethos init" in fix


def test_a_broken_dvc_file(whole: Path) -> None:
    (whole / "dvc.yaml").write_text("stages: 3\n")
    set_params(whole, targets=["ethos-n78-4tops"])
    status, detail, _ = problem(whole, "dvc", fast=False)
    assert status == "error"
    assert "dvc.yaml" in detail


@pytest.mark.parametrize("kind", ["folder", "server", "s3"])
@pytest.mark.parametrize("there", [True, False])
def test_remotes(whole: Path, tmp_path: Path, kind: str, there: bool) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        url = {
            "folder": str(tmp_path / "far"),
            "server": f"ssh://me:{SECRET}@127.0.0.1:{port}/x",
            "s3": "s3://bucket/x",
        }
        if there:
            (tmp_path / "far").mkdir()
        else:
            server.close()
        with (whole / ".dvc/config").open("a") as stream:
            stream.write(f"['remote \"far\"']\n    url = {url[kind]}\n")
        ((status, detail, _),) = findings(whole, "dvc")
    assert status == ("ok" if there or kind == "s3" else "warn")
    assert SECRET not in detail
    assert "far" in detail


def test_the_embedded_store(tmp_path: Path, whole: Path) -> None:
    assert findings(whole, "mlflow") == [("ok", "no store yet, `ethos init` makes it", "")]
    set_params(whole, targets=["ethos-n78-4tops"])
    shutil.copyfile(new_project(tmp_path / "other") / "registry/mlflow.db", whole / "registry/mlflow.db")
    ((status, detail, _),) = findings(whole, "mlflow", fast=False)
    assert (status, detail) == ("ok", "embedded, registry/mlflow.db, 2 experiments")
    (whole / "registry/mlflow.db").write_bytes(b"no database at all, " * 100)
    status, detail, _ = problem(whole, "mlflow")
    assert status == "error"
    assert detail.endswith("mlflow.db: is no usable store: file is not a database")


def test_a_store_without_tables(whole: Path) -> None:
    sqlite3.connect(whole / "registry/mlflow.db").close()
    (whole / "registry/mlflow.db").touch()
    status, detail, _ = problem(whole, "mlflow")
    assert status == "error"
    assert "no such table: experiments" in detail


@pytest.mark.parametrize("fast", [True, False])
def test_a_server_that_does_not_answer(whole: Path, monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@127.0.0.1:{port}")
    set_params(whole, targets=["ethos-n78-4tops"])
    status, detail, fix = problem(whole, "mlflow", fast=fast)
    assert (status, detail) == ("error", f"http://127.0.0.1:{port} does not answer")
    assert "unset MLFLOW_TRACKING_URI" in fix


@pytest.mark.parametrize(
    "address", ["http://localhost:abc", f"http://me:{SECRET}@[::1", "postgresql://localhost:abc/x"]
)
def test_an_address_that_is_none(whole: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    status, detail, fix = problem(whole, "mlflow")
    assert status == "error"
    assert detail.startswith("MLFLOW_TRACKING_URI: not an address: ")
    assert SECRET not in detail
    assert "unset MLFLOW_TRACKING_URI" in fix


class Refusing(BaseHTTPRequestHandler):
    """A web server that is no MLflow server."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def web() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_server_that_is_no_mlflow(whole: Path, monkeypatch: pytest.MonkeyPatch, web: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@{web}")
    set_params(whole, targets=["ethos-n78-4tops"])
    assert [each[:2] for each in findings(whole, "mlflow")] == [("ok", f"http://me:***@{web}")]
    status, detail, _ = problem(whole, "mlflow", fast=False)
    assert status == "error"
    assert "501" in detail
    assert SECRET not in detail


def test_a_target_that_vela_refuses(whole: Path) -> None:
    spec = whole / "specs/targets/ethos-u65-512.yaml"
    spec.write_text(spec.read_text().replace("memory_mode: ", "memory_mode: No_Such_"))
    set_params(whole, targets=["ethos-u65-512", "ethos-u55-256"])
    status, detail, fix = problem(whole, "vela", fast=False)
    assert status == "error"
    assert detail.startswith("target ethos-u65-512: Vela refuses its configuration: ")
    assert "specs/targets/ethos-u65-512.yaml" in fix


def test_no_vela(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vela, "DISTRIBUTION", "no-such-package-here")
    assert problem(whole, "vela")[:2] == ("error", "Vela, the Ethos-U compiler, is not installed")


# --- what is declared ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        (
            "specs/variants/mine.yaml",
            "level: level2\nactivation: gelu\n",
            ["specs/variants/mine.yaml:2: activation: Input should be 'silu', 'relu' or 'leaky_relu', got 'gelu'"],
        ),
        ("specs/variants/mine.yaml", "level: level9\nactivation: relu\n", ["specs/levels: unknown level 'level9'"]),
        (
            "specs/variants/mine.yaml",
            "level: level2\nactivation: relu\nrecipe: v9\n",
            ["specs/recipes: unknown recipe 'v9'"],
        ),
        ("specs/levels/mine.yaml", "extends: mine\n", ["specs/levels: mine extends mine"]),
        ("specs/levels/mine.yaml", "base: yolo11n\nsteps: [{fly: {}}]\n", ["unknown level step 'fly'"]),
        ("specs/targets/mine.yaml", "compiler: gcc\n", ["specs/targets/mine.yaml"]),
        ("specs/datasets/mine.yaml", "classes: []\n", ["specs/datasets/mine.yaml"]),
        ("registry/policy.yaml", "scenarios: {}\nother: 3\n", ["registry/policy.yaml:2: unknown key 'other'"]),
        (
            "specs/recipes/mine.yaml",
            "weights: {source: warm_start, level: level9, activation: relu, recipe: demo}\nepochs: 1\nimgsz: 64\n"
            "batch: 1\nlr0: 0.1\nlrf: 0.1\n",
            ["specs/levels: unknown level 'level9'"],
        ),
    ],
    ids=["value", "level", "recipe", "circle", "step", "target", "data-set", "policy", "warm-start"],
)
def test_a_broken_spec_is_named(whole: Path, name: str, content: str, texts: list[str]) -> None:
    (whole / name).write_text(content)
    found = findings(whole, "specs")
    assert [each[0] for each in found] == ["error"] * len(texts)
    for (_, detail, fix), text in zip(found, texts, strict=True):
        assert detail.startswith(text)
        assert fix


def test_every_broken_spec_has_a_line_of_its_own(whole: Path) -> None:
    for name in ("one", "two"):
        (whole / f"specs/variants/{name}.yaml").write_text("level: level2\n")
    assert len([each for each in findings(whole, "specs") if each[0] == "error"]) == 2


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"dataset": "dmo"}, "unknown dataset 'dmo'"),
        ({"recipe": "dmo"}, "unknown recipe 'dmo'"),
        ({"variants": ["level9_relu"], "pruned": []}, "unknown variant 'level9_relu'"),
        ({"targets": ["ethos-u99"]}, "unknown target 'ethos-u99'"),
        ({"colour": "red"}, "unknown key 'colour'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_parameters_that_name_nothing(whole: Path, changes: dict[str, Any], text: str) -> None:
    set_params(whole, **changes)
    details = [detail for status, detail, _ in findings(whole, "specs") if status == "error"]
    assert any(text in detail for detail in details)


@pytest.mark.parametrize("name", ["data set", "weights"])
def test_what_depends_on_broken_parameters_says_so(whole: Path, name: str) -> None:
    (whole / "params.yaml").write_text("dataset: [\n")
    assert problem(whole, name)[:2] == ("warn", "not checked, since params.yaml cannot be read")


def test_a_data_set_whose_place_is_not_named(whole: Path) -> None:
    set_params(whole, dataset="signs15")
    status, detail, fix = problem(whole, "data set")
    assert (status, detail) == ("error", "signs15: environment variable SIGNS15_ROOT is not set")
    assert "export SIGNS15_ROOT=" in fix
    # one that has been materialised is enough until something changes
    (whole / "outputs/dataset").mkdir(parents=True)
    record = {"name": "signs15", "sha256": "ab" * 32}
    (whole / "outputs/dataset/dataset.json").write_text(json.dumps(record))
    status, detail, _ = problem(whole, "data set")
    assert (status, detail) == (
        "warn",
        "signs15: materialised (SHA-256 abababababab), but environment variable SIGNS15_ROOT is not set",
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"type": "folder", "root": "nowhere"}, "nowhere: no such folder"),
        ({"type": "folder", "root": "specs"}, "specs: holds no data.yaml"),
        ({"type": "archive", "file": "a.zip"}, "a.zip: no such file"),
        ({"type": "url", "url": "http://{web}/a.zip"}, "the server answers 501"),
        ({"type": "url", "url": "http://127.0.0.1:1/a.zip"}, "ConnectionError"),
    ],
    ids=["folder", "no-data", "archive", "url", "no-server"],
)
def test_a_data_set_that_is_not_there(whole: Path, source: dict[str, str], text: str, web: str) -> None:
    given = {key: value.format(web=web) for key, value in source.items()}
    (whole / "specs/datasets/mine.yaml").write_text(yaml.safe_dump({"source": given, "classes": ["Stop"]}))
    set_params(whole, dataset="mine")
    status, detail, _ = problem(whole, "data set")
    assert status == "error"
    assert detail.endswith(text)


def test_the_key_in_an_address_is_not_shown(whole: Path, web: str) -> None:
    source = {"type": "url", "url": f"http://me:{SECRET}@{web}/a.zip?f=yolo&api_key={SECRET}&x=1"}
    (whole / "specs/datasets/mine.yaml").write_text(yaml.safe_dump({"source": source, "classes": ["Stop"]}))
    set_params(whole, dataset="mine")
    _, detail, fix = problem(whole, "data set")
    assert f"http://me:***@{web}/a.zip?f=yolo&api_key=***&x=1" in detail
    assert SECRET not in detail + fix


def test_weights_that_are_not_there(whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_params(whole, recipe="signs_cpu")
    status, detail, _ = problem(whole, "weights")
    assert (status, detail) == ("error", "weights: environment variable COCO_WEIGHTS is not set")
    (tmp_path / "a.pt").touch()
    monkeypatch.setenv("COCO_WEIGHTS", str(tmp_path / "a.pt"))
    assert findings(whole, "weights") == [("ok", str(tmp_path / "a.pt"), "")]


def test_official_weights_are_fetched_or_there(whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_params(whole, recipe="v3")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    status, detail, _ = problem(whole, "weights")
    assert (status, detail.partition(" ")[0]) == ("warn", "yolo11n.pt")
    (tmp_path / "ethos-vision-optimizer").mkdir()
    (tmp_path / "ethos-vision-optimizer/yolo11n.pt").touch()
    assert findings(whole, "weights")[0][0] == "ok"


# --- the command -----------------------------------------------------------------------------------------------------


def test_warnings_pass_and_errors_do_not(
    whole: Path,
    ethos: Callable[..., Outcome],  # noqa: F811 - the fixture
) -> None:
    set_params(whole, recipe="v3")
    passed = ethos("doctor", "--fast", "--memory", "0", "--disk", "0")
    assert (passed.code, passed.err) == (0, "")
    assert "warn   weights" in passed.out
    failed = ethos("doctor", "--fast", "--disk", "1000000")
    assert failed.code == 1
    assert "FAIL   disk" in failed.out
    assert "dvc gc" in failed.out
    document = json.loads(ethos("doctor", "--fast", "--disk", "1000000", "--json").out)
    assert (document["ok"], {"name", "status", "detail", "fix"} <= set(document["checks"][0])) == (False, True)


def test_make_repro_asks_first() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    recipe = lines[lines.index("repro: setup") + 1 :][:3]
    assert recipe == ["\tethos doctor --fast", "\tdvc repro", "\tethos summary"]


def test_the_probe_speaks_json(capsys: pytest.CaptureFixture[str]) -> None:
    from ethos.doctor.probe import main

    main()
    state = json.loads(capsys.readouterr().out)
    assert state["torchvision"] in ("torchvision", "stand-in")
    assert state["threads"] >= 1
    assert sys.modules["torch"].cuda.is_available() == bool(state["devices"])
