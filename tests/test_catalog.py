"""Specs by name, and the text that each kind of mistake in them gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conftest import ROOT

from ethos.catalog import KINDS, load, load_params, load_policy, names, project_root, read_spec
from ethos.errors import CompilerError, DataError, EthosError, ModelError, NothingSelectable, SpecError, StoreError
from ethos.specs import Policy, Recipe, Variant, Weights

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.catalog import Kind

ALL_SPECS = [(kind, path.stem) for kind in KINDS for path in sorted((ROOT / "specs" / f"{kind}s").glob("*.yaml"))]
VARIANT = "level: level2\nactivation: relu\n"
POLICY = """\
scenarios:
  realtime:
    pin: level2_relu
    target: ethos-u65-512
    gates: [int8.map50 >= 0.5]
    objective: {minimise: npu.latency_ms}
"""


def refusal(folder: Path, text: str, kind: Kind = "variant") -> str:
    """Return the text of the error for a spec file with that content."""
    (folder / "specs" / f"{kind}s" / "mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load(kind, "mine")
    return str(caught.value)


# --- what is there ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), ALL_SPECS, ids=[f"{kind}-{name}" for kind, name in ALL_SPECS])
def test_every_spec_of_the_project_loads(kind: Kind, name: str) -> None:
    spec = load(kind, name)
    assert spec.name == name
    assert spec.description


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_specs_of_every_kind(kind: Kind) -> None:
    assert names(kind)
    assert names(kind) == sorted(names(kind))


def test_parameters_name_specs_that_exist() -> None:
    params = load_params()
    assert load("dataset", params.dataset)
    assert load("recipe", params.recipe)
    assert set(params.variants) <= set(names("variant"))
    assert set(params.targets) <= set(names("target"))


def test_policy_of_the_project_has_its_three_scenarios() -> None:
    assert list(load_policy().scenarios) == ["realtime", "balanced", "accuracy"]


def test_project_is_found_from_a_folder_below(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = project / "outputs" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert project_root() == project
    assert load("variant", "baseline").activation == "silu"


def test_specs_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load("variant", "baseline").level = "level4"  # type: ignore[misc]


# --- mistakes --------------------------------------------------------------------------------------------------------


def test_no_project_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError) as caught:
        project_root()
    assert str(caught.value) == (
        f"no project here: {tmp_path} and its parents hold no specs/ with params.yaml\n  fix: cd into it"
    )


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        (
            "variant",
            "level2_reul",
            "specs/variants: unknown variant 'level2_reul'\n"
            "  fix: did you mean level2_relu, level4_relu, level3_relu? known: baseline, level2_leaky, level2_relu, "
            "level3_leaky, level3_relu, level4_leaky, level4_relu, yolov8n_relu",
        ),
        (
            "recipe",
            "v4",
            "specs/recipes: unknown recipe 'v4'\n"
            "  fix: did you mean v3? known: demo, demo_qat, demo_recovery, demo_taught, demo_warm_start, "
            "prune_recovery, signs_cpu, signs_recovery, smoke, smoke_recovery, v3",
        ),
        (
            "dataset",
            "xyzzy",
            "specs/datasets: unknown dataset 'xyzzy'\n  fix: known: demo, signs15",
        ),
    ],
    ids=["near", "one-near", "none-near"],
)
@pytest.mark.usefixtures("project")
def test_unknown_name(kind: Kind, name: str, text: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(kind, name)
    assert str(caught.value) == text


def test_unknown_name_where_nothing_is_known(project: Path) -> None:
    for path in (project / "specs" / "recipes").iterdir():
        path.unlink()
    with pytest.raises(SpecError) as caught:
        load("recipe", "demo")
    assert str(caught.value) == "specs/recipes: unknown recipe 'demo'\n  fix: known: none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            VARIANT + "recepi: v3\n",
            "specs/variants/mine.yaml:3: unknown key 'recepi'\n"
            "  fix: did you mean recipe? known: activation, description, level, prune, quantize, recipe",
        ),
        (
            VARIANT + "quantize:\n  calibration_images: 32\n  per_chanel: true\n",
            "specs/variants/mine.yaml:5: unknown key 'per_chanel'\n"
            "  fix: did you mean per_channel, percentile, ranges? known: balance, bias_correction, calibration_from, "
            "calibration_images, converter, keep_float, max_kib_per_kparameter, operators, per_channel, percentile, "
            "ranges",
        ),
        (
            "# a comment\nlevel: level2\nactivation: gelu\n",
            "specs/variants/mine.yaml:3: activation: Input should be 'silu', 'relu' or 'leaky_relu', got 'gelu'\n"
            "  fix: correct that line",
        ),
        (
            VARIANT + "quantize:\n  calibration_images: many\n",
            "specs/variants/mine.yaml:4: quantize.calibration_images: Input should be a valid integer, unable to parse "
            "string as an integer, got 'many'\n  fix: correct that line",
        ),
        (
            VARIANT + "quantize: {calibration_images: 3}\n",
            "specs/variants/mine.yaml:3: quantize.calibration_images: Input should be greater than or equal to 16, "
            "got 3\n  fix: correct that line",
        ),
        (
            "activation: relu\n",
            "specs/variants/mine.yaml: key 'level' is missing\n  fix: add 'level:'",
        ),
        (
            VARIANT + "level: level3\n",
            "specs/variants/mine.yaml:3: key 'level' is given twice: 'level: level3'\n  fix: correct the YAML",
        ),
        (
            VARIANT + "quantize:\n  per_channel: true\n  per_channel: false\n",
            "specs/variants/mine.yaml:5: key 'per_channel' is given twice: 'per_channel: false'\n"
            "  fix: correct the YAML",
        ),
        (
            VARIANT + "quantize: {per_channel: true\n",
            "specs/variants/mine.yaml:4: expected ',' or '}', but got '<stream end>': end of file\n"
            "  fix: correct the YAML",
        ),
        (
            "level: level2\n\tactivation: relu\n",
            "specs/variants/mine.yaml:2: found character '\\t' that cannot start any token: 'activation: relu'\n"
            "  fix: correct the YAML",
        ),
        (
            "- level: level2\n",
            "specs/variants/mine.yaml: expected a mapping of keys, got list\n  fix: write 'key: value'",
        ),
        (
            "",
            "specs/variants/mine.yaml: expected a mapping of keys, got NoneType\n  fix: write 'key: value'",
        ),
        (
            VARIANT + "? [a]\n: b\n",
            "specs/variants/mine.yaml:3: a key must be plain text: '? [a]'\n  fix: correct the YAML",
        ),
        (
            "level: 'level2\0'\nactivation: relu\n",
            "specs/variants/mine.yaml: unacceptable character #x0000: special characters are not allowed\n"
            "  fix: correct the YAML",
        ),
        (
            "level: !!python/object/apply:os.system [ls]\n",
            "specs/variants/mine.yaml:1: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system': 'level: !!python/object/apply:os.system [ls]'\n"
            "  fix: correct the YAML",
        ),
        (
            VARIANT + "name: other\n",
            "specs/variants/mine.yaml: 'name' is set by the file's name\n  fix: remove 'name:'",
        ),
    ],
    ids=[
        "unknown-key",
        "unknown-key-below",
        "wrong-word",
        "wrong-type",
        "out-of-range",
        "missing-key",
        "key-twice",
        "key-twice-below",
        "open-bracket",
        "tab",
        "list",
        "empty",
        "key-no-text",
        "control-character",
        "python-tag",
        "name-given",
    ],
)
def test_mistakes_in_a_spec(project: Path, text: str, message: str) -> None:
    assert refusal(project, text) == message


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (
            "level",
            "steps: []\n",
            "specs/levels/mine.yaml:1: give 'base', 'extends' or both\n  fix: correct that line",
        ),
        (
            "level",
            "base: yolo11n\nsteps:\n  - replace_block: {}\n    light_head: {}\n",
            "specs/levels/mine.yaml:2: steps: a step is one name with its arguments, got ['light_head', "
            "'replace_block'], got [{'replace_block': {}, 'light_head': {}}]\n  fix: correct that line",
        ),
        (
            "recipe",
            "weights: {source: path}\nepochs: 1\nimgsz: 64\nbatch: 1\nlr0: 0.1\nlrf: 0.1\n",
            "specs/recipes/mine.yaml:1: weights: weights from 'path' take file or path_env, got nothing\n"
            "  fix: correct that line",
        ),
        (
            "recipe",
            "weights: {source: scratch}\nepochs: 1\nimgsz: 100\nbatch: 1\nlr0: 0.1\nlrf: 0.1\n",
            "specs/recipes/mine.yaml:3: imgsz: Input should be a multiple of 32, got 100\n  fix: correct that line",
        ),
        (
            "target",
            "compiler: vela\naccelerator: ethos-u55-128\nsystem_config: a\nmemory_mode: b\nmacs_per_cycle: 256\n"
            "clock_mhz: 500\n",
            "specs/targets/mine.yaml:1: macs_per_cycle is 256, which is not that of ethos-u55-128\n"
            "  fix: correct that line",
        ),
        (
            "dataset",
            "classes: [a]\nsource: {type: folder}\n",
            "specs/datasets/mine.yaml:2: source.folder: give exactly one of 'root' and 'root_env'\n"
            "  fix: correct that line",
        ),
        (
            "dataset",
            "classes: [a]\nsource:\n  type: drawn\n  size: 64\n  imagse: 40\n",
            "specs/datasets/mine.yaml:5: unknown key 'imagse'\n"
            "  fix: did you mean images, limits? known: file, format, images, limits, root, root_env, seed, "
            "sha256, size, type, url",
        ),
        (
            "dataset",
            "classes: [a]\nsource:\n  type: film\n",
            "specs/datasets/mine.yaml:2: source: Input tag 'film' found using 'type' does not match any of the "
            "expected tags: 'drawn', 'folder', 'archive', 'url'\n  fix: correct that line",
        ),
        (
            "dataset",
            "classes: [a]\nsource: {type: drawn, size: 64, images: 40}\nsplit:\n  track: '^x'\n",
            "specs/datasets/mine.yaml:4: split.track: 'track' needs at least one named group, such as (?P<track>...), "
            "got '^x'\n  fix: correct that line",
        ),
        (
            "dataset",
            "classes: [a]\nsource: {type: drawn, size: 64, images: 40}\nsplit:\n  track: '^(?P<a>x'\n",
            "specs/datasets/mine.yaml:4: split.track: not a regular expression: missing ), unterminated subpattern at "
            "position 1, got '^(?P<a>x'\n  fix: correct that line",
        ),
    ],
    ids=[
        "base-and-extends",
        "two-steps-in-one",
        "path-without-file",
        "not-a-multiple",
        "macs-disagree",
        "folder-without-root",
        "misspelt-and-missing",
        "unknown-source",
        "track-without-group",
        "track-no-regex",
    ],
)
def test_mistakes_that_span_keys(project: Path, kind: Kind, text: str, message: str) -> None:
    assert refusal(project, text, kind) == message


def test_a_file_that_is_not_text(project: Path) -> None:
    (project / "specs" / "variants" / "mine.yaml").write_bytes(b"\xff\xfe\x00level")
    with pytest.raises(SpecError, match=r"^specs/variants/mine\.yaml: cannot be read: 'utf-8' codec"):
        load("variant", "mine")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "int8.map50 >= 0.5",
            "int8.map50 over 0.5",
            "registry/policy.yaml:5: scenarios.realtime.gates: gate 'int8.map50 over 0.5' does not read FIGURE "
            "OPERATOR LIMIT [UNIT], as in 'int8.map50 >= 0.8', got ['int8.map50 over 0.5']\n  fix: correct that line",
        ),
        (
            "pin: level2_relu",
            "pin: level2_rel",
            "registry/policy.yaml: scenario realtime: unknown variant 'level2_rel'\n"
            "  fix: did you mean level2_relu, level4_relu, level3_relu? known: baseline, level2_leaky, level2_relu, "
            "level3_leaky, level3_relu, level4_leaky, level4_relu, yolov8n_relu",
        ),
        (
            "ethos-u65-512",
            "ethos-u65-1024",
            "registry/policy.yaml: scenario realtime: unknown target 'ethos-u65-1024'\n"
            "  fix: did you mean ethos-u85-1024, ethos-u65-512, ethos-u85-512? known: ethos-n78-1tops, "
            "ethos-n78-4tops, ethos-u55-128, ethos-u55-256, ethos-u55-64, ethos-u65-256, ethos-u65-512, "
            "ethos-u85-1024, ethos-u85-256, ethos-u85-512",
        ),
        (
            "{minimise: npu.latency_ms}",
            "{minimise: npu.latency_ms, maximise: int8.map50}",
            "registry/policy.yaml:6: scenarios.realtime.objective: give exactly one of 'minimise' and 'maximise'\n"
            "  fix: correct that line",
        ),
        (
            "    gates:",
            "    gatse:",
            "registry/policy.yaml:5: unknown key 'gatse'\n"
            "  fix: did you mean gates? known: description, gates, objective, pin, target",
        ),
        (
            POLICY.removeprefix("scenarios:"),
            " {}\n",
            "registry/policy.yaml:1: scenarios: Dictionary should have at least 1 item after validation, not 0\n"
            "  fix: correct that line",
        ),
    ],
    ids=["gate", "variant", "target", "objective", "unknown-key", "no-scenario"],
)
def test_mistakes_in_the_policy(project: Path, old: str, new: str, message: str) -> None:
    assert old in POLICY
    (project / "registry" / "policy.yaml").write_text(POLICY.replace(old, new))
    with pytest.raises(SpecError) as caught:
        load_policy()
    assert str(caught.value) == message


def test_no_policy(project: Path) -> None:
    (project / "registry" / "policy.yaml").unlink()
    with pytest.raises(SpecError) as caught:
        load_policy()
    assert str(caught.value) == "registry/policy.yaml: no such file\n  fix: create it, or check the name"


@pytest.mark.parametrize(
    "gate", ["int8.map50 >= 0.5", "npu.operators_cpu == 0", "npu.sram_kib<=1 MiB", "npu.fps > 20", "a-b.c < -1.5 %"]
)
def test_gates_that_read_well(tmp_path: Path, gate: str) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY.replace("int8.map50 >= 0.5", f"'{gate}'"))
    assert read_spec(tmp_path / "policy.yaml", Policy).scenarios["realtime"].gates == (gate,)


@pytest.mark.parametrize("gate", ["", "int8.map50", ">= 0.5", "int8.map50 => 0.5", "int8.map50 >= half", "a >= 1 b c"])
def test_gates_that_do_not(tmp_path: Path, gate: str) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY.replace("int8.map50 >= 0.5", f"'{gate}'"))
    with pytest.raises(SpecError, match=f"gate '{gate}' does not read"):
        read_spec(tmp_path / "policy.yaml", Policy)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"source": "scratch", "file": "a.pt"}, "'scratch' take nothing more, got \\['file'\\]"),
        ({"source": "official"}, "'official' take file, got nothing"),
        ({"source": "path", "file": "a.pt", "path_env": "A"}, "'path' take file or path_env, got"),
        (
            {"source": "warm_start", "level": "level2"},
            "'warm_start' take activation and level and recipe, got \\['level'\\]",
        ),
    ],
    ids=["scratch", "official", "path", "warm_start"],
)
def test_weights_need_what_their_source_takes(given: dict[str, str], wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted):
        Weights.model_validate(given)


def test_v3_recipe_is_the_published_one() -> None:
    recipe = load("recipe", "v3")
    assert isinstance(recipe, Recipe)
    assert (recipe.weights.source, recipe.weights.file) == ("official", "yolo11n.pt")
    published = {
        "epochs": 100,
        "batch": 16,
        "imgsz": 640,
        "optimizer": "SGD",
        "lr0": 0.003,
        "momentum": 0.9,
        "weight_decay": 0.001,
        "warmup_epochs": 5.0,
        "warmup_momentum": 0.8,
        "warmup_bias_lr": 0.1,
        "box": 7.5,
        "cls": 0.5,
        "dfl": 1.5,
        "patience": 25,
        "save_period": 10,
        "deterministic": True,
        "workers": 8,
        "hsv_h": 0.01,
        "hsv_s": 0.5,
        "hsv_v": 0.3,
        "translate": 0.05,
        "scale": 0.2,
        "fliplr": 0.5,
        "degrees": 0.0,
        "mosaic": 0.0,
        "mixup": 0.0,
        "close_mosaic": 10,
        "cos_lr": False,
        "amp": True,
        "nbs": 64,
    }
    assert {key: getattr(recipe, key) for key in published} == published
    # the last learning rate was about 0.0003
    assert recipe.lr0 * recipe.lrf == pytest.approx(0.0003)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EthosError, 1),
        (SpecError, 2),
        (DataError, 1),
        (ModelError, 1),
        (CompilerError, 1),
        (StoreError, 1),
        (NothingSelectable, 3),
    ],
)
def test_exit_codes(error: type[EthosError], code: int) -> None:
    assert error.exit_code == code
    assert str(error("what", "how")) == "what\n  fix: how"
    assert str(error("what")) == "what"


def test_paths_outside_the_working_directory_are_shown_in_full(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        read_spec(tmp_path / "absent.yaml", Variant)
    assert caught.value.message == f"{tmp_path}/absent.yaml: no such file"
