"""Starting weights: where the variants of a run begin, read once and kept as plain tensors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.errors import ModelError
from ethos.files import read_json, sha256_file, write_json
from ethos.model.engine import prepare
from ethos.model.weights import WEIGHTS_FILE, read_tensors, save_tensors
from ethos.training.train import train

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ethos.plan import StartPlan
    from ethos.specs import Weights
    from ethos.training.checkpoint import Checkpoints
    from ethos.training.epoch import Epoch

TENSORS_FILE, RECORD_FILE = "start.safetensors", "start.json"
INSTEAD = "use weights from path, warm_start or scratch in the recipe"


def make_start(
    plan: StartPlan,
    dataset: Path,
    into: Path,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Write start.json, and start.safetensors unless training starts from scratch, into `into`.

    A warm start is trained as `train_network` does, which says what the last three arguments are.

    Raises:
        ModelError: The weights file is missing, unreadable, or cannot be fetched.
    """
    weights = plan.weights
    record: dict[str, Any] = {"schema": 1, "source": weights.source}
    if plan.architecture is not None and plan.warm_up is not None:
        result = train(
            plan.architecture,
            plan.warm_up,
            dataset,
            into,
            seed=plan.seed,
            on_epoch=on_epoch,
            tell=tell,
            checkpoints=checkpoints,
        )
        (into / WEIGHTS_FILE).rename(into / TENSORS_FILE)
        record |= {
            "recipe": plan.warm_up.name,
            "epochs": len(result.epochs),
            "seconds": round(result.seconds, 1),
            "map50": result.best.map50,
            "sha256": sha256_file(into / TENSORS_FILE),
        }
    elif weights.source != "scratch":
        file = locate(weights)
        save_tensors(into / TENSORS_FILE, read_tensors(file))
        record |= {"file": file.name, "sha256": sha256_file(file)}
    write_json(into / RECORD_FILE, record)


def load_start(folder: Path) -> tuple[dict[str, Tensor] | None, dict[str, Any]]:
    """Return the run's starting weights, None for scratch, and the record of where they came from."""
    record: dict[str, Any] = read_json(folder / RECORD_FILE, "source")
    tensors = folder / TENSORS_FILE
    return (read_tensors(tensors) if tensors.is_file() else None), record


def locate(weights: Weights) -> Path:
    """Return the file that holds the weights; the official one is fetched by Ultralytics into its own place.

    Raises:
        ModelError: There is no such file, the environment variable is not set, or fetching failed.
    """
    if weights.path_env is not None:
        value = os.environ.get(weights.path_env)
        if not value:
            raise ModelError(
                f"weights: environment variable {weights.path_env} is not set", f"set it to a .pt file, or {INSTEAD}"
            )
        path = Path(value)
    else:
        path = Path(weights.file or "")
    if weights.source == "official" and not path.is_file():
        path = _fetch(path)
    if not path.is_file():
        raise ModelError(f"weights: no file {path}", f"check the path, or {INSTEAD}")
    return path


def cached(file: Path) -> Path:
    """Return where a file that Ultralytics publishes is kept once it has been fetched."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ethos-vision-optimizer"
    return folder / file.name


def _fetch(file: Path) -> Path:
    """Let Ultralytics fetch one of the files that it publishes, into the folder for caches."""
    prepare()
    from ultralytics.utils.downloads import attempt_download_asset

    place = cached(file)
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        return Path(attempt_download_asset(place))
    except Exception as error:  # noqa: BLE001 - the downloader raises whatever its backends raise
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"weights: {file.name} cannot be fetched: {reason}", f"connect to the network, or {INSTEAD}"
        ) from None
