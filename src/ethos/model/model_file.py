"""A model file of Ultralytics (YAML with backbone and head): the network that it really gives.

Ultralytics takes the activation from `activation:` alone and ignores other keys, such as `act:`, without a word.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from ethos.errors import ModelError, SpecError
from ethos.model.activations import ACTIVATIONS
from ethos.model.levels import PARTS, construct

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.model.levels import Network
    from ethos.specs import Activation

KEY, IGNORED_KEY = "activation", "act"
DEFAULT_CLASSES = 80
SCALE = re.compile(r"yolov?\d+(?P<scale>[a-z])")
# what does not change the meaning of an expression such as torch.nn.LeakyReLU(negative_slope=0.1, inplace=True)
DECORATION = re.compile(r"^(torch\.)?nn\.|inplace=(True|False)|negative_slope=|\s")


def read_model_file(path: Path) -> dict[str, Any]:
    """Return a model file's keys.

    Raises:
        SpecError: It is missing, no YAML, or lists no layers.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file", "give the path of a model file, or the name of a variant") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError(f"{path}: not a readable YAML file: {' '.join(str(error).split())}", "correct it") from None
    parts = [document.get(part) for part in PARTS] if isinstance(document, dict) else [None]
    if not all(isinstance(layers, list) and layers and all(map(_is_layer, layers)) for layers in parts):
        raise SpecError(
            f"{path}: no model file: 'backbone' and 'head' must list layers",
            "write a layer as [from, repeats, name, [arguments]]",
        )
    return dict(document)


def _is_layer(layer: Any) -> bool:
    return isinstance(layer, list) and len(layer) == 4 and isinstance(layer[3], list)


def declared_in(document: dict[str, Any], path: Path) -> Activation | None:
    """Return the activation that a model file asks for, be it under the key that is ignored; None if it names none.

    Raises:
        SpecError: It is none of those that a spec can declare.
    """
    expression = document.get(KEY, document.get(IGNORED_KEY))
    if expression is None:
        return None
    wanted = _plain(str(expression))
    for name, kind in ACTIVATIONS.items():
        if _plain(kind.expression) == wanted:
            return name
    raise SpecError(
        f"{path}: activation {expression!r} is none that a spec can declare",
        f"use {', '.join(kind.expression for kind in ACTIVATIONS.values())}",
    )


def build_model_file(document: dict[str, Any], path: Path) -> Network:
    """Return the network as Ultralytics builds it; the expression under `activation` is looked up, never evaluated.

    Raises:
        SpecError: The activation is none that a spec can declare.
        ModelError: The layers are no network.
    """
    from ethos.model.engine import prepare

    prepare()
    graph = {key: value for key, value in document.items() if key not in {KEY, IGNORED_KEY}}
    if KEY in document and (declared := declared_in(document, path)):
        graph[KEY] = ACTIVATIONS[declared].expression
    classes = document.get("nc", DEFAULT_CLASSES)
    if not isinstance(classes, int) or classes < 1:
        raise ModelError(f"{path}: nc is {classes!r}", "give the number of classes")
    graph["scale"] = _scale(document, path)
    return construct(graph, classes)


def _scale(document: dict[str, Any], path: Path) -> str | None:
    """Return the scale that the file's name states, as yolo11s.yaml does, else the first in the file."""
    scales = document.get("scales")
    if not isinstance(scales, dict) or not scales:
        return None
    names = [str(scale) for scale in scales]
    stated = SCALE.search(path.stem)
    return stated["scale"] if stated and stated["scale"] in names else names[0]


def _plain(expression: str) -> str:
    return DECORATION.sub("", expression).replace(",)", ")")
