"""Weights on disk, without executable code: safetensors plus a description of the architecture.

A .pt file is a pickle and may run code when opened; it is read weights-only, with a stand-in for every layer
class that it names and a refusal of anything else.
"""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ethos.errors import DamagedFile, ModelError
from ethos.files import read_json, write_json
from ethos.model.levels import Architecture, Network, build

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

WEIGHTS_FILE = "weights.safetensors"
ARCHITECTURE_FILE = "architecture.json"
NETWORK_MODULES = ("torch.nn.modules.", "ultralytics.")
# what damaged or hostile pickles raise, somewhere in PyTorch
UNREADABLE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


@dataclass(frozen=True)
class Transfer:
    """How much of a network was filled from a file: tensors found, whole or as a part of wider ones, of all it has."""

    matched: int
    total: int


@dataclass(frozen=True)
class Checkpoint:
    """What a .pt file holds of a network.

    Attributes:
        tensors: Its weights by name.
        names: Class names in label order, if it has them.
        classes: Full names of the classes that it pickles.
        slopes: Negative slopes of its activations.
        base: Name of the graph file that it was built from, without suffix.
    """

    tensors: dict[str, Tensor]
    names: tuple[str, ...] | None
    classes: frozenset[str]
    slopes: frozenset[float]
    base: str | None


def save_model(folder: Path, model: Network, architecture: Architecture) -> None:
    """Write weights.safetensors (float32) and architecture.json into `folder`."""
    save_tensors(folder / WEIGHTS_FILE, model.state_dict())
    write_json(folder / ARCHITECTURE_FILE, architecture.model_dump(mode="json"))


def load_model(folder: Path) -> tuple[Network, Architecture]:
    """Return the network kept in `folder`, with all its weights, and its architecture.

    Raises:
        ModelError: A file is missing or damaged, or the weights do not fit the architecture to the last tensor.
    """
    fix = "run the stage that makes it again: dvc repro"
    try:
        architecture = Architecture.model_validate(read_json(folder / ARCHITECTURE_FILE))
    except FileNotFoundError:
        raise ModelError(f"{folder}: no {ARCHITECTURE_FILE}", fix) from None
    except DamagedFile as error:
        raise ModelError(error.message, fix) from None
    except ValueError as error:
        raise ModelError(f"{folder / ARCHITECTURE_FILE}: {str(error).splitlines()[0]}", fix) from None
    model = build(architecture)
    tensors = read_tensors(folder / WEIGHTS_FILE)
    try:
        model.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        raise ModelError(
            f"{folder}: weights do not fit the architecture: {str(error).splitlines()[-1].strip()}", fix
        ) from None
    return model, architecture


def transfer(model: Network, tensors: Mapping[str, Tensor]) -> Transfer:
    """Fill the model, in place, with every tensor that matches by name and shape, and with parts of wider ones."""
    from ethos.model.slices import take_slices

    found = take_slices(model, tensors).tensors
    model.load_state_dict(found, strict=False)
    return Transfer(len(found), len(model.state_dict()))


def shapes_of(model: Network) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a network."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def require_shapes(model: Network, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a network whose tensors are not of these shapes any more.

    Raises:
        ModelError: With the first tensor that differs.
    """
    found = shapes_of(model)
    for name in sorted({*found, *shapes}):
        if found.get(name) != shapes.get(name):
            raise ModelError(
                f"training changed the shape of {name} from {shapes.get(name)} to {found.get(name)}",
                "the engine built the network anew; use the version of ultralytics in requirements.lock",
            )


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors, floating point ones as float32.

    Raises:
        ModelError: The file cannot be written, such as on a full disk.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {
        name: (value.float() if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in tensors.items()
    }
    try:
        save_file(plain, path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be written: {error}", "free disk space and run it again") from None


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors: name, type, shape and bytes of each, in the order of the names."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        plain = value.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.numpy().tobytes())
    return digest.hexdigest()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a .safetensors or .pt file; no code in the file is run.

    Raises:
        ModelError: The file is missing, damaged, or a pickle that holds more than known layers and tensors.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file", "check the path, or use weights from 'scratch'")
    return _read_pickle(path) if path.suffix == ".pt" else _read_safetensors(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a readable safetensors file: {error}", "make or fetch the file again") from None
    return tensors


def read_checkpoint(path: Path) -> Checkpoint:
    """Return what a .pt file holds of a network; no code in the file is run.

    Raises:
        ModelError: As `read_tensors`.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file", "check the path")
    content, classes = _load_pickle(path)
    network = _network_of(content)
    slopes = {float(module.negative_slope) for module in _modules(network) if hasattr(module, "negative_slope")}
    graph = getattr(network, "yaml", None)
    named = str(graph.get("yaml_file", "")) if isinstance(graph, dict) else ""
    tensors = _named_tensors(content, path)
    return Checkpoint(
        tensors, _class_names(network), frozenset(classes), frozenset(slopes), PurePath(named).stem or None
    )


def _read_pickle(path: Path) -> dict[str, Tensor]:
    content, _ = _load_pickle(path)
    return _named_tensors(content, path)


def _load_pickle(path: Path) -> tuple[Any, list[str]]:
    """Return a pickle's content, a stand-in for every layer, and the names of the classes that it asks for."""
    import torch

    try:
        needed = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
        refused = [name for name in needed if not name.startswith(NETWORK_MODULES)]
        if refused:
            raise ModelError(
                f"{path}: refused, since opening it would use {', '.join(refused[:3])}",
                "export the weights as .safetensors, or save a checkpoint that holds nothing but the network",
            )
        # the classes themselves are never used: a constructor such as DetectionModel's evaluates text that it is given
        stand_in = _stand_in()
        with torch.serialization.safe_globals([(stand_in, name) for name in needed]):
            return torch.load(path, map_location="cpu", weights_only=True), needed
    except UNREADABLE as error:
        raise _unreadable(path, error) from None


def _named_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    try:
        tensors = _state_of(content)
    except UNREADABLE as error:
        raise _unreadable(path, error) from None
    if not tensors:
        raise ModelError(f"{path}: holds no weights", "use a detection checkpoint")
    return tensors


def _unreadable(path: Path, error: BaseException) -> ModelError:
    reason = str(error).partition("\n")[0]
    return ModelError(f"{path}: not a readable PyTorch file: {reason}", "make or fetch the file again")


def _network_of(content: Any) -> Any:
    """Return the stand-in of a checkpoint's network, its EMA where it has one; None if it holds tensors alone."""
    import torch

    if isinstance(content, dict):
        content = content.get("ema") or content.get("model")
    return content if isinstance(content, torch.nn.Module) else None


def _modules(network: Any) -> list[Any]:
    return list(network.modules()) if network is not None else []


def _class_names(network: Any) -> tuple[str, ...] | None:
    names = getattr(network, "names", None)
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        return tuple(str(names[number]) for number in range(len(names)))
    return None


def _stand_in() -> Any:
    """Return a class that takes the place of every layer and only holds what was pickled with it."""
    from torch import nn

    class Holder(nn.Module):
        pass

    return Holder


def _state_of(checkpoint: Any) -> dict[str, Tensor]:
    """Return the tensors of an Ultralytics checkpoint (its EMA where it has one), a module, or a plain state dict."""
    import torch

    if isinstance(checkpoint, dict):
        checkpoint = checkpoint.get("ema") or checkpoint.get("model") or checkpoint
    if isinstance(checkpoint, torch.nn.Module):
        checkpoint = checkpoint.float().state_dict()
    named = checkpoint if isinstance(checkpoint, dict) else {}
    return {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}
