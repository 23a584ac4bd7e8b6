"""Verify activations: of a variant or model file as it is built, of an exported file as its operators show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos import catalog
from ethos.errors import ModelError, some_of
from ethos.files import read_json, sha256_file
from ethos.model.activations import ACTIVATIONS, activation_uses
from ethos.model.census import LayerUse, census, count, onnx_nodes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from ethos.specs import Activation

# what stands beside an exported file and says from what it was made
RECORDS = ("quantize.json", "manifest.json")
CLASSES = ("a", "b")


def verify_variant(name: str) -> dict[str, Any]:
    """Return the activations of a variant, built as for training.

    Raises:
        SpecError: The variant, or what it names, is unknown or malformed.
        ModelError: The network does not hold the declared activation everywhere.
    """
    from ethos.model.levels import Architecture, build, resolve_level

    variant = catalog.load("variant", name)
    base, steps = resolve_level(variant.level)
    model = build(Architecture(base=base, steps=steps, activation=variant.activation, names=CLASSES))
    return _report(name, "variant", _layers_of(model), variant.activation, "spec")


def verify_model_file(path: Path, expected: Activation | None = None) -> dict[str, Any]:
    """Return the activations of the network that a model file of Ultralytics gives.

    Args:
        path: The YAML file.
        expected: What it should hold; by default what it asks for, under whichever key.

    Raises:
        SpecError: It is no model file, or asks for an activation that no spec can declare.
        ModelError: Its layers are no network.
    """
    from ethos.model.model_file import IGNORED_KEY, KEY, build_model_file, declared_in, read_model_file

    document = read_model_file(path)
    declared = expected or declared_in(document, path)
    model = build_model_file(document, path)
    report = _report(str(path), "model file", _layers_of(model), declared, "--activation" if expected else "file")
    if IGNORED_KEY in document:
        report["problems"].insert(0, f"'{IGNORED_KEY}:' has no effect in Ultralytics, write '{KEY}:'")
    return report | {"ok": not report["problems"]}


def verify_file(path: Path, expected: Activation | None = None) -> dict[str, Any]:
    """Return the activations of an exported file.

    Args:
        path: An .onnx or .tflite file.
        expected: What it should hold; by default what quantize.json or manifest.json beside it declares for it.

    Raises:
        ModelError: The file is missing, damaged, or has been compiled for an NPU.
        DamagedFile: The record beside it is no JSON document.
    """
    layers = _layers_in(path)
    recorded, source = _recorded(path)
    declared = expected or (recorded or {}).get("declared")
    uses = recorded["uses"] if recorded else None
    kind = path.suffix.removeprefix(".")
    report = _report(str(path), kind, layers, declared, "--activation" if expected else source, uses)
    return {**report, "sha256": sha256_file(path)}


def require_export(folder: Path, record: Mapping[str, Any], files: Iterable[str]) -> None:
    """Refuse exported files whose operators disagree with the network that they were made from.

    Args:
        folder: Where the files are.
        record: The declared activation (`declared`), and how many layers of the network use it (`uses`).
        files: Names of .onnx and .tflite files.

    Raises:
        ModelError: A file holds another activation, or holds it in more or fewer layers.
    """
    for name in files:
        report = _report(name, "", _layers_in(folder / name), record["declared"], "", record["uses"])
        if report["problems"]:
            raise ModelError(f"{name}: {'; '.join(report['problems'])}", "report the level, activation and converters")


def _layers_of(model: Any) -> list[LayerUse]:
    modules = dict(model.named_modules(remove_duplicate=False))
    return [LayerUse(name, type(modules[name]).__name__, written) for name, written in activation_uses(model)]


def _layers_in(path: Path) -> list[LayerUse]:
    if path.suffix == ".onnx":
        return census(onnx_nodes(path))
    from ethos.npu.activations import tflite_nodes
    from ethos.npu.tflite import read_graph

    return census(tflite_nodes(read_graph(path)))


def _recorded(path: Path) -> tuple[dict[str, Any] | None, str]:
    """Return what a record beside the file declares for exactly these bytes, and the record's name."""
    for name in RECORDS:
        beside = path.parent / name
        if not beside.is_file():
            continue
        document = read_json(beside)
        if not isinstance(document, dict) or not document.get("activation"):
            continue
        if document.get("files", {}).get(path.name, {}).get("sha256") == sha256_file(path):
            return document["activation"], name
    return None, ""


def _report(
    subject: str,
    kind: str,
    layers: Sequence[LayerUse],
    declared: Activation | None,
    source: str,
    uses: int | None = None,
) -> dict[str, Any]:
    """Return what was found and what is wrong with it; without a declaration, several activations are wrong."""
    found = count(layers)
    problems = _problems(layers, found, declared, uses)
    return {
        "schema": 1,
        "subject": subject,
        "kind": kind,
        "declared": declared,
        "declared_by": source if declared else None,
        "uses_expected": uses,
        "uses": sum(found.values()),
        "found": found,
        "ok": not problems,
        "problems": problems,
        "layers": [{"name": each.name, "operator": each.operator, "activation": each.activation} for each in layers],
    }


def _problems(
    layers: Sequence[LayerUse], found: Mapping[str, int], declared: Activation | None, uses: int | None
) -> list[str]:
    if not found:
        return ["no layer has an activation"]
    if declared is None:
        mixed = ", ".join(f"{written} in {number}" for written, number in found.items())
        return [f"several activations: {mixed} layers"] if len(found) > 1 else []
    wanted = ACTIVATIONS[declared].written
    others = [layer for layer in layers if layer.activation not in (wanted, None)]
    problems = []
    if others:
        listed = some_of([f"{layer.name} has {layer.activation}" for layer in others])
        problems.append(f"activation '{declared}' is declared, but {listed}")
    if uses is not None and found.get(wanted, 0) != uses:
        problems.append(f"{wanted} in {found.get(wanted, 0)} layers, the network has it in {uses}")
    return problems
