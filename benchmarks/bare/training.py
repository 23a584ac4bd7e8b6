"""Ultralytics' own training on the same network, data and arguments as a stage of the pipeline.

python training.py PROJECT start|VARIANT
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from ethos.model.activations import ACTIVATIONS
from ethos.model.engine import prepare
from ethos.model.levels import GRAPH_STEPS, base_graph
from ethos.training.arguments import NOT_ENGINE_ARGUMENTS

prepare()  # without it the engine cannot validate beside a CPU-only torch

from ultralytics import YOLO  # noqa: E402

SKIPPED = NOT_ENGINE_ARGUMENTS | {"device"}


def main(project: Path, what: str) -> None:
    """Train as the stage does, through the engine's public interface."""
    plan = yaml.safe_load((project / f"outputs/plan/{what}/{'start' if what == 'start' else 'train'}.yaml").read_text())
    recipe = plan["warm_up"] if what == "start" else plan["recipe"]
    architecture = plan["architecture"]
    graph = base_graph(architecture["base"])
    graph |= {"activation": ACTIVATIONS[architecture["activation"]].expression, "nc": len(architecture["names"])}
    for step in architecture["steps"]:
        for name, arguments in step.items():
            if name in GRAPH_STEPS:
                GRAPH_STEPS[name](graph, **(arguments or {}))
    # the engine takes the scale from the file's name, or else the first that is listed
    graph["scales"] = {graph["scale"]: graph["scales"][graph["scale"]]}
    Path("network.yaml").write_text(yaml.safe_dump(graph))
    data = {"path": str(project.resolve() / "outputs/dataset"), "train": "images/train", "val": "images/val"}
    data["names"] = dict(enumerate(architecture["names"]))
    Path("data.yaml").write_text(yaml.safe_dump(data))
    arguments = {key: value for key, value in recipe.items() if key not in SKIPPED}
    YOLO("network.yaml", task="detect").train(
        data="data.yaml",
        seed=plan["seed"],
        plots=False,
        pretrained=False,
        project=str(Path.cwd()),
        erasing=0.0,
        **arguments,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
