"""The command line: help everywhere, light to start, and one clear line for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import typer
from conftest import ROOT
from registry_run import new_project

from ethos.cli import app, main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HEAVY = (
    "cv2",
    "great_expectations",
    "matplotlib",
    "mlflow",
    "numpy",
    "onnx",
    "pandas",
    "pydantic",
    "tensorflow",
    "torch",
    "ultralytics",
    "yaml",
)


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def ethos(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return a function that runs the command line in this process."""

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["ethos", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Outcome(code or 0, *capsys.readouterr())

    return call


def commands(group: Any = None, path: str = "ethos") -> Iterator[tuple[str, Any]]:
    """Yield every command and group with its full name."""
    found = typer.main.get_command(app) if group is None else group
    yield path, found
    for name, inner in getattr(found, "commands", {}).items():
        yield from commands(inner, f"{path} {name}")


TREE = dict(commands())


# --- help ------------------------------------------------------------------------------------------------------------


def test_the_tree_is_walked() -> None:
    assert {"ethos init", "ethos summary", "ethos select", "ethos analyze", "ethos evaluate"} < set(TREE)
    assert {"ethos doctor", "ethos verify"} < set(TREE)
    assert {"ethos specs list", "ethos specs show", "ethos data check"} < set(TREE)


@pytest.mark.parametrize("path", TREE)
def test_every_command_and_option_has_help(path: str) -> None:
    assert (TREE[path].help or "").endswith(".")
    for parameter in TREE[path].params:
        assert parameter.help, f"{path} {parameter.name}"


@pytest.mark.parametrize("path", TREE)
def test_help_is_shown(path: str, ethos: Callable[..., Outcome]) -> None:
    outcome = ethos(*path.split()[1:], "--help")
    assert outcome.code == 0
    assert "Usage: " in outcome.out
    assert outcome.err == ""


@pytest.mark.parametrize("path", [path for path, command in TREE.items() if not hasattr(command, "commands")])
def test_commands_that_answer_have_json(path: str) -> None:
    options = {option for parameter in TREE[path].params for option in parameter.opts}
    assert ("--json" in options) == (path not in {"ethos init", "ethos specs list", "ethos ui"})


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nsys.argv = ['ethos', '--help']\nfrom ethos.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Usage: ethos" in done.stdout
    assert set(HEAVY).isdisjoint(done.stderr.split())


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (
            ("select", "--scenario", "realtme"),
            1,
            "error: registry/mlflow.db: no registry yet\n  fix: fill it: dvc repro\n",
        ),
        (
            ("specs", "show", "level2_reul"),
            2,
            "error: specs/variants: unknown variant 'level2_reul'\n"
            "  fix: did you mean level2_relu, level4_relu, level3_relu? known: baseline, level2_leaky, level2_relu, "
            "level3_leaky, level3_relu, level4_leaky, level4_relu, yolov8n_relu\n",
        ),
        (
            ("specs", "show", "level2_relu", "--imgsz", "65"),
            2,
            "error: input side 65 is no multiple of 32\n  fix: give one, such as 640\n",
        ),
        (
            ("specs", "list", "variant"),
            2,
            "error: unknown kind of spec 'variant'\n"
            "  fix: did you mean variants? known: datasets, levels, recipes, targets, variants\n",
        ),
        (
            ("analyze", "a.tflite", "--target", "ethos-u66-512"),
            2,
            "error: specs/targets: unknown target 'ethos-u66-512'\n"
            "  fix: did you mean ethos-u65-512, ethos-u85-512, ethos-u65-256? known: ethos-n78-1tops, ethos-n78-4tops, "
            "ethos-u55-128, ethos-u55-256, ethos-u55-64, ethos-u65-256, ethos-u65-512, ethos-u85-1024, ethos-u85-256, "
            "ethos-u85-512\n",
        ),
        (
            ("analyze", "a.tflite"),
            1,
            "error: a.tflite: no such file\n  fix: give the path of a .tflite file\n",
        ),
        (
            ("data", "check", "--dataset", "dmo"),
            2,
            "error: specs/datasets: unknown dataset 'dmo'\n  fix: did you mean demo? known: demo, signs15\n",
        ),
        (
            ("summary",),
            1,
            "error: outputs/promote/decisions.json: no such output\n  fix: run the pipeline first: make repro\n",
        ),
    ],
    ids=["no-registry", "variant", "size", "kind", "target", "file", "dataset", "no-run"],
)
def test_mistakes_get_one_line_and_the_fix(
    arguments: tuple[str, ...], code: int, text: str, ethos: Callable[..., Outcome]
) -> None:
    assert ethos(*arguments) == Outcome(code, "", text)


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("select",),
        ("specs", "show"),
        ("specs", "show", "level2_relu", "--classes", "0"),
        ("specs", "show", "level2_relu", "--imgsz", "many"),
        ("evaluate", "a.tflite", "--conf", "3"),
        ("evaluate", "a.tflite", "--iou", "-1"),
    ],
    ids=" ".join,
)
def test_mistaken_arguments_are_exit_code_two(arguments: tuple[str, ...], ethos: Callable[..., Outcome]) -> None:
    outcome = ethos(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Usage: " in outcome.err
    assert "Traceback" not in outcome.err


def test_select_without_a_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ethos: Callable[..., Outcome]
) -> None:
    monkeypatch.chdir(new_project(tmp_path / "empty"))
    unknown = ethos("select", "--scenario", "realtme")
    assert unknown == Outcome(
        2,
        "",
        "error: registry/policy.yaml: unknown scenario 'realtme'\n"
        "  fix: did you mean realtime? known: accuracy, balanced, realtime\n",
    )
    assert ethos("select", "--scenario", "realtime") == Outcome(
        1,
        "",
        "error: no version of 'traffic-sign-detector' is registered\n  fix: register some: dvc repro\n",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "select --scenario realtime --explain --download somewhere",
            "--explain, --candidates and --download exclude each other\n"
            "  fix: download what is live, or explain a decision\n",
        ),
        (
            "select --scenario realtime --explain --strict",
            "--strict is about what is live\n  fix: leave out --strict, or --explain and --candidates\n",
        ),
        (
            "prune level3_relu --on cpu",
            "--on is about frames a second of a pruning that was made\n  fix: add --report or --into\n",
        ),
    ],
)
def test_options_that_exclude_each_other(ethos: Callable[..., Outcome], arguments: str, message: str) -> None:
    assert ethos(*arguments.split()) == Outcome(2, "", f"error: {message}")


def test_outside_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ethos: Callable[..., Outcome]) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = ethos("specs", "list")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: no project here: ")


def test_a_broken_spec_is_named_with_its_line(project: Path, ethos: Callable[..., Outcome]) -> None:
    (project / "specs" / "variants" / "mine.yaml").write_text("level: level2\nactivation: gelu\n")
    assert ethos("specs", "show", "mine") == Outcome(
        2,
        "",
        "error: specs/variants/mine.yaml:2: activation: Input should be 'silu', 'relu' or 'leaky_relu', got 'gelu'\n"
        "  fix: correct that line\n",
    )


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_traceback_on_request(place: str) -> None:
    arguments = ["specs", "show", "nobody"]
    arguments.insert(0 if place == "first" else 3, "--traceback")
    command = [sys.executable, "-c", "from ethos.cli import main; main()", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert "\nethos.errors.SpecError: specs/variants: unknown variant 'nobody'\n" in done.stderr


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("kind", ["datasets", "levels", "variants", "recipes", "targets"])
def test_specs_are_listed_with_their_descriptions(kind: str, ethos: Callable[..., Outcome]) -> None:
    outcome = ethos("specs", "list", kind)
    assert (outcome.code, outcome.err) == (0, "")
    for path in (ROOT / "specs" / kind).glob("*.yaml"):
        assert f" {path.stem} " in outcome.out


@pytest.mark.usefixtures("project")
def test_a_variant_is_shown_as_json(ethos: Callable[..., Outcome]) -> None:
    outcome = ethos("specs", "show", "level2_relu", "--imgsz", "64", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    document = json.loads(outcome.out)
    assert {"name", "parameters", "macs", "layers"} <= set(document)
    assert (document["schema"], document["name"]) == (1, "level2_relu")
    assert (document["classes"], document["parameters"]) == (15, 3_354_829)
    assert {"index", "module", "parameters", "macs"} <= set(document["layers"][0])


@pytest.mark.usefixtures("project")
def test_a_variant_is_shown_with_its_steps(ethos: Callable[..., Outcome]) -> None:
    outcome = ethos("specs", "show", "level3_relu", "--imgsz", "64")
    assert outcome.code == 0
    lines = {line.split()[0]: line.split() for line in outcome.out.splitlines() if "replace_block" in line}
    assert lines["1"][-4:-2] == ["3,354,829", "+762,064"]
    assert lines["2"][-4:-2] == ["3,565,389", "+210,560"]


@pytest.mark.usefixtures("project")
def test_a_variant_is_shown_as_a_table(ethos: Callable[..., Outcome]) -> None:
    outcome = ethos("specs", "show", "baseline", "--imgsz", "64")
    assert (outcome.code, outcome.err) == (0, "")
    assert "baseline: yolo11n, silu, 15 classes, 64 px" in outcome.out
    assert "2,592,765" in outcome.out
    assert outcome.out.count("C3k2") == 8
