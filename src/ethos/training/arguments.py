"""A recipe and a data set as the engine takes them, with all that reaches outside the run switched off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ethos.specs import Recipe

# save_period is the engine's too, but ours keeps plain tensors
NOT_ENGINE_ARGUMENTS = {
    "name",
    "description",
    "weights",
    "save_period",
    "teacher",
    "teacher_cls",
    "teacher_dfl",
    "qat",
    "recovery",
    "notify",
}
SIDES = ("train", "val")


def engine_arguments(recipe: Recipe, scratch: Path, seed: int) -> dict[str, Any]:
    """Return the recipe as Ultralytics' train arguments."""
    return {
        **recipe.model_dump(exclude=NOT_ENGINE_ARGUMENTS),
        "device": recipe.device or None,
        "seed": seed,
        "task": "detect",
        "mode": "train",
        "model": "network.yaml",
        "pretrained": False,
        "save_dir": str(scratch),
        "exist_ok": True,
        "plots": False,
        "save": False,
        "verbose": False,
        "erasing": 0.0,
        "auto_augment": None,
    }


def view_of(dataset: Path, scratch: Path) -> Path:
    """Return a folder that shows the data set through links; the engine writes its label cache beside the labels."""
    view = scratch / "dataset"
    for kind in ("images", "labels"):
        (view / kind).mkdir(parents=True)
        for side in SIDES:
            (view / kind / side).symlink_to((dataset / kind / side).resolve(), target_is_directory=True)
    return view


def engine_data(root: Path, names: Sequence[str]) -> dict[str, Any]:
    """Return the data set as the engine's data dictionary; its own reader would fetch a font."""
    return {
        "path": root,
        **{side: str(root / "images" / side) for side in SIDES},
        "names": dict(enumerate(names)),
        "nc": len(names),
        "channels": 3,
    }


def with_batch(recipe: Recipe, batch: int) -> Recipe:
    """Return the recipe with another batch and the same effective batch, weight decay included.

    The engine adds up max(1, round(nbs / batch)) batches before it steps, and multiplies the weight decay by
    batch * steps / nbs.
    """
    effective = recipe.batch * max(1, round(recipe.nbs / recipe.batch))
    decay = recipe.weight_decay * effective / recipe.nbs
    return recipe.model_copy(update={"batch": batch, "nbs": effective, "weight_decay": decay})
