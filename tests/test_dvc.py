"""dvc.yaml against the code: DVC reads it, every stage has its module, and its deps name all that the module uses."""

from __future__ import annotations

import ast
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grimp
import pytest
import yaml
from conftest import ROOT

from ethos import catalog
from pipelines import dataset, plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGES = ("ethos", "ethos_runtime", "pipelines")
MODULES = sorted(path.stem for path in (ROOT / "pipelines").glob("*.py") if path.stem != "__init__")
# code that a stage does not run but copies into what it makes
COPIED = {stage: {Path("src/ethos_runtime")} for stage in ("register", "register-pruned")}
# a stage over a mapping has its definition under `do`
STAGES: dict[str, dict[str, Any]] = {
    name: stage.get("do", stage)
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items()
}
STUDENTS = {"level4_relu": "level4_leaky"}


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return every stage by its full name, such as train@level2_relu, as DVC's own loader resolves it."""
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("dvc")
    shutil.copyfile(ROOT / "dvc.yaml", folder / "dvc.yaml")
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (folder / "params.yaml").write_text(yaml.safe_dump(params | {"students": STUDENTS}), encoding="utf-8")
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    with Repo(str(folder)) as repo:
        return {stage.name: stage for stage in repo.index.stages}


@cache
def used_modules(stage_module: str) -> frozenset[str]:
    """Return the modules of this project that a stage imports, directly or not, in functions too."""
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    return frozenset(graph.find_upstream_modules(f"pipelines.{stage_module}")) | {f"pipelines.{stage_module}"}


def file_of(module: str) -> Path | None:
    """Return a module's file relative to the project, None for a package's __init__ without code."""
    path = Path("" if module.startswith("pipelines") else "src", *module.split("."))
    if not (ROOT / path).is_dir():
        return path.with_suffix(".py")
    body = ast.parse((ROOT / path / "__init__.py").read_text(encoding="utf-8")).body
    return path / "__init__.py" if any(not isinstance(node, ast.Expr | ast.Assign) for node in body) else None


def files_of(stage: str) -> list[Path]:
    return [file for module in used_modules(module_of(stage)) if (file := file_of(module))]


def module_of(stage: str) -> str:
    command = STAGES[stage]["cmd"].split()
    assert command[:2] == ["python", "-m"]
    package, _, module = command[2].partition(".")
    assert package == "pipelines"
    return str(module)


def deps_of(stage: Any) -> set[Path]:
    return {Path(dependency.def_path) for dependency in stage.deps}


def covered(path: Path, deps: set[Path]) -> bool:
    return any(place in deps for place in (path, *path.parents))


def instances(resolved: dict[str, Any], name: str) -> Iterator[Any]:
    found = [stage for address, stage in resolved.items() if address.partition("@")[0] == name]
    assert found
    yield from found


# --- the file --------------------------------------------------------------------------------------------------------


def test_dvc_resolves_every_stage(resolved: dict[str, Any]) -> None:
    params = catalog.load_params()
    singles = {name for name, stage in STAGES.items() if "matrix" not in stage} - {"teach"}
    by_variant = {f"{name}@{variant}" for name in ("plan", "train") for variant in params.variants}
    by_variant |= {f"prune@{variant}" for variant in params.pruned}
    suffix = {"dense": "", "pruned": "-pruned"}
    by_form = {
        f"{name}{suffix[form]}@{variant}-{form}"
        for name in ("quantize", "analyze", "evaluate", "register")
        for variant, form in params.candidates
    }
    by_student = {f"teach@{student}" for student in STUDENTS}
    assert set(resolved) == singles | by_variant | by_form | by_student


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_says_what_it_does(stage: str) -> None:
    assert STAGES[stage]["desc"].endswith(".")


@pytest.mark.parametrize("stage", STAGES)
def test_every_command_is_a_module_that_is_there(stage: str) -> None:
    assert module_of(stage) in MODULES


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_a_stage(module: str) -> None:
    assert module in STAGES
    assert module_of(module) == module


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_on_code_and_specs_exist(stage: str, resolved: dict[str, Any]) -> None:
    made = {"outputs", "registry/store.json"}
    for instance in instances(resolved, stage):
        for path in deps_of(instance):
            assert path.parts[0] == "outputs" or str(path) in made or (ROOT / path).exists(), path


def test_outputs_that_are_read_are_made_by_a_stage(resolved: dict[str, Any]) -> None:
    made = {Path(out.def_path) for stage in resolved.values() for out in stage.outs}
    for address, stage in resolved.items():
        for path in deps_of(stage):
            if path.parts[0] == "outputs":
                assert covered(path, made) or any(path in out.parents for out in made), f"{address}: {path}"


def test_a_student_is_trained_after_its_teacher_and_again_when_that_changes(resolved: dict[str, Any]) -> None:
    ((student, teacher),) = STUDENTS.items()
    taught, brought = resolved[f"train@{student}"], resolved[f"teach@{student}"]
    (network,) = (Path(out.def_path) for out in brought.outs)
    # a change of what lies in a folder is a change of the folder
    assert any(place in deps_of(taught) for place in network.parents)
    assert deps_of(brought) & {Path(out.def_path) for out in resolved[f"train@{teacher}"].outs}
    others = [stage for address, stage in resolved.items() if address.startswith("train@") and stage is not taught]
    assert others
    assert not any(covered(network, deps_of(stage)) for stage in others)


def test_a_changed_pruning_registers_the_pruned_form_alone(resolved: dict[str, Any]) -> None:
    (variant, *_) = catalog.load_params().pruned
    dense, pruned = resolved[f"register@{variant}-dense"], resolved[f"register-pruned@{variant}-pruned"]
    made = {
        Path(out.def_path)
        for name in ("prune@{}", "quantize-pruned@{}-pruned", "analyze-pruned@{}-pruned", "evaluate-pruned@{}-pruned")
        for out in resolved[name.format(variant)].outs
    }
    concerned = made | {Path(f"outputs/plan/{variant}/prune.yaml")}
    assert not {path for path in concerned if covered(path, deps_of(dense))}
    # what is written for other readers than the registry
    left_out = {Path(f"outputs/prune/{variant}/metrics.json")}
    assert {path for path in concerned if not covered(path, deps_of(pruned))} == left_out
    # and it is compared with the dense form
    for stage in ("quantize", "analyze", "evaluate"):
        outs = {Path(out.def_path) for out in resolved[f"{stage}@{variant}-dense"].outs}
        assert all(covered(path, deps_of(pruned)) for path in outs)


# --- what stages use -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_name_all_code_that_a_stage_imports(stage: str, resolved: dict[str, Any]) -> None:
    files = files_of(stage)
    for instance in instances(resolved, stage):
        missing = sorted(str(file) for file in files if not covered(file, deps_of(instance)))
        assert missing == []


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_name_no_code_that_a_stage_does_not_import(stage: str, resolved: dict[str, Any]) -> None:
    files = files_of(stage)
    for instance in instances(resolved, stage):
        code = {path for path in deps_of(instance) if path.parts[0] in {"src", "pipelines"}} - COPIED.get(stage, set())
        unused = sorted(str(path) for path in code if not any(covered(file, {path}) for file in files))
        assert unused == []


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_name_the_kinds_of_specs_that_a_stage_loads(stage: str, resolved: dict[str, Any]) -> None:
    source = ast.parse((ROOT / "pipelines" / f"{module_of(stage)}.py").read_text(encoding="utf-8"))
    kinds = set()
    for node in ast.walk(source):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name == "load" and node.args and isinstance(node.args[0], ast.Constant):
                kinds.add(f"{node.args[0].value}s")
    for instance in instances(resolved, stage):
        named = {path.parts[1] for path in deps_of(instance) if path.parts[0] == "specs"}
        assert kinds <= named


@pytest.mark.parametrize(
    ("address", "main", "arguments"),
    [
        ("dataset", dataset.main, ()),
        ("plan-start", plan.main, ("--start",)),
        ("plan@level2_relu", plan.main, ("level2_relu",)),
        ("plan@level4_leaky", plan.main, ("level4_leaky",)),
    ],
    ids=["dataset", "plan-start", "plan-level2", "plan-level4"],
)
def test_dependencies_name_every_spec_that_is_read(
    address: str,
    main: Callable[..., None],
    arguments: tuple[str, ...],
    resolved: dict[str, Any],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (project / "specs" / "datasets" / "demo.yaml").write_text(
        "source: {type: drawn, images: 20, size: 64}\nclasses: [Stop, Yield]\n"
    )
    read: set[Path] = set()

    def spy(path: Path, *others: Any, **given: Any) -> Any:
        read.add(path.relative_to(project))
        return original(path, *others, **given)

    original = catalog.read_spec
    monkeypatch.setattr(catalog, "read_spec", spy)
    main(*arguments)
    assert len(read) > 1
    assert sorted(str(path) for path in read if not covered(path, deps_of(resolved[address]))) == []


@pytest.mark.parametrize("stage", STAGES)
def test_parameters_are_those_of_the_file(stage: str) -> None:
    params = catalog.load_params().model_dump()
    for entry in STAGES[stage].get("params", []):
        if isinstance(entry, str):
            value: Any = params
            for part in entry.split("."):
                assert part in value
                value = value[part]
