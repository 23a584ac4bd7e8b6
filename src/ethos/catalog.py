"""Specs by kind and name: `load("level", "level2")` reads specs/levels/level2.yaml.

A mistake is answered with file, line and what was expected.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, overload

import yaml
from pydantic import ValidationError

from ethos.errors import SpecError, unknown
from ethos.files import shown
from ethos.specs import AnySpec, Dataset, Level, NamedSpec, Params, Policy, Recipe, Spec, Target, Variant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_core import ErrorDetails

Kind = Literal["dataset", "level", "variant", "recipe", "target"]
KINDS: dict[Kind, type[NamedSpec]] = {
    "dataset": Dataset,
    "level": Level,
    "variant": Variant,
    "recipe": Recipe,
    "target": Target,
}
POLICY_FILE = "registry/policy.yaml"
PARAMS_FILE = "params.yaml"


def project_root() -> Path:
    """Return the project's folder: the nearest one above the working directory that holds specs/ and params.yaml.

    Raises:
        SpecError: None of them does.
    """
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "specs").is_dir() and (folder / PARAMS_FILE).is_file():
            return folder
    raise SpecError(f"no project here: {Path.cwd()} and its parents hold no specs/ with params.yaml", "cd into it")


@overload
def load(kind: Literal["dataset"], name: str) -> Dataset: ...
@overload
def load(kind: Literal["level"], name: str) -> Level: ...
@overload
def load(kind: Literal["variant"], name: str) -> Variant: ...
@overload
def load(kind: Literal["recipe"], name: str) -> Recipe: ...
@overload
def load(kind: Literal["target"], name: str) -> Target: ...
def load(kind: Kind, name: str) -> NamedSpec:
    """Return the spec of that kind and name.

    Raises:
        SpecError: There is no such file (the nearest names are listed), or it is malformed.
    """
    path = spec_path(kind, name)
    if not path.is_file():
        raise unknown(kind, name, names(kind), where=f"specs/{kind}s")
    return read_spec(path, KINDS[kind], name=name)


def names(kind: Kind) -> list[str]:
    """Return the names of all specs of a kind, sorted."""
    return sorted(path.stem for path in (project_root() / "specs" / f"{kind}s").glob("*.yaml"))


def spec_path(kind: Kind, name: str) -> Path:
    """Return the file in which a spec of that kind and name is kept."""
    return project_root() / "specs" / f"{kind}s" / f"{name}.yaml"


def load_params() -> Params:
    """Return params.yaml."""
    return read_spec(project_root() / PARAMS_FILE, Params)


def load_policy() -> Policy:
    """Return registry/policy.yaml; every scenario's pin and target must exist.

    Raises:
        SpecError: The file is missing or malformed, or names an unknown variant or target.
    """
    policy = read_spec(project_root() / POLICY_FILE, Policy)
    for scenario_name, scenario in policy.scenarios.items():
        where = f"{POLICY_FILE}: scenario {scenario_name}"
        if scenario.pin not in names("variant"):
            raise unknown("variant", scenario.pin, names("variant"), where=where)
        if scenario.target not in names("target"):
            raise unknown("target", scenario.target, names("target"), where=where)
    return policy


def read_spec(path: Path, model: type[AnySpec], **given: Any) -> AnySpec:
    """Return the YAML file as a spec; `given` fields are set by the caller and may not stand in the file.

    Raises:
        SpecError: The file is missing, no mapping, not YAML, or does not fit the model; with file and line.
    """
    place = shown(path)
    text, document = _read_mapping(path, place)
    if repeated := sorted(set(given) & set(document)):
        raise SpecError(f"{place}: '{repeated[0]}' is set by the file's name", f"remove '{repeated[0]}:'")
    form = cast("type[AnySpec]", model.form_of(document))
    try:
        return form.model_validate({**document, **given})
    except ValidationError as error:
        # a misspelt key is often why another one is missing
        problem = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        raise _explain(problem, place, text, _keys_at(form, problem["loc"][:-1]) - set(given)) from None


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, and keys that are no plain text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key.value}' is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read_mapping(path: Path, place: str) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{place}: no such file", "create it, or check the name") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{place}: cannot be read: {error}", "it must be a readable UTF-8 text file") from None
    try:
        document = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line if error.problem_mark else 0
        raise SpecError(f"{place}:{line + 1}: {error.problem}: {_snippet(text, line)}", "correct the YAML") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{place}: {str(error).splitlines()[0]}", "correct the YAML") from None
    if not isinstance(document, dict):
        raise SpecError(f"{place}: expected a mapping of keys, got {type(document).__name__}", "write 'key: value'")
    return text, document


def _snippet(text: str, line: int) -> str:
    lines = text.splitlines()
    return f"'{lines[line].strip()}'" if line < len(lines) else "end of file"


def _explain(problem: ErrorDetails, place: str, text: str, known: set[str]) -> SpecError:
    """Return the error for one of pydantic's problems, with the line of its key; `known` are the keys beside it."""
    location = [part for part in problem["loc"] if not str(part).startswith("function-")]
    line = _line_of(yaml.compose(text, Loader=yaml.SafeLoader), location)
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        return unknown("key", str(location[-1]), known, where=f"{place}:{line}")
    if problem["type"] == "missing":
        return SpecError(f"{place}: key '{key}' is missing", f"add '{location[-1]}:'")
    wanted = problem["msg"].removeprefix("Value error, ")
    got = f", got {problem['input']!r}" if not isinstance(problem["input"], dict) else ""
    return SpecError(f"{place}:{line}: {key + ': ' if key else ''}{wanted}{got}", "correct that line")


def _keys_at(model: type[Spec], location: Sequence[int | str]) -> set[str]:
    """Return the keys that a spec takes at `location`; where it takes one of several models, those of all."""
    models = [model]
    for part in location:
        fields = [each.model_fields[part] for each in models if isinstance(part, str) and part in each.model_fields]
        # an index, a free key or a tagged union's tag changes nothing
        models = [inner for field in fields for inner in _models_in(field.annotation)] or models
    return {key for each in models for key in each.model_fields}


def _models_in(annotation: Any) -> list[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _line_of(node: yaml.Node | None, location: list[int | str]) -> int:
    """Return the 1-based line of the deepest part of `location` that the YAML document holds."""
    line = node.start_mark.line if node else 0
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                continue  # a tagged union's tag is in pydantic's location but not in the file
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
    return line + 1
