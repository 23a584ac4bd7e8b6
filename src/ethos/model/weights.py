"""Weights on disk, without executable code: safetensors plus a description of the architecture.

A .pt file is a pickle and may run code when opened; it is read weights-only, with a stand-in for every layer
class that it names and a refusal of anything else.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ethos.errors import ModelError
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
    """How much of a network was filled from a file: tensors matched by name and shape, of all it has."""

    matched: int
    total: int


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
    """Fill the model, in place, with every tensor that matches by name and shape."""
    own = model.state_dict()
    matching = {name: value for name, value in tensors.items() if name in own and own[name].shape == value.shape}
    model.load_state_dict(matching, strict=False)
    return Transfer(len(matching), len(own))


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors, floating point ones as float32."""
    from safetensors.torch import save_file

    save_file(
        {
            name: (value.float() if value.is_floating_point() else value).detach().cpu().contiguous()
            for name, value in tensors.items()
        },
        path,
    )


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


def _read_pickle(path: Path) -> dict[str, Tensor]:
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
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        tensors = _state_of(checkpoint)
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{path}: not a readable PyTorch file: {reason}", "make or fetch the file again") from None
    if not tensors:
        raise ModelError(f"{path}: holds no weights", "use a detection checkpoint")
    return tensors


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
