"""plan: resolve a variant's specs, so that each later stage depends on what it uses and on nothing else.

outputs/teacher/VARIANT says who teaches the variant; where somebody does, the stage `teach` puts the network beside it.
The stage `train` depends on that folder, so that DVC trains a teacher first, and a student again after its teacher.

A misspelt or malformed spec stops here, before any work is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethos import catalog
from ethos.files import new_folder, write_json
from ethos.plan import prune_plan, quantize_plan, start_plan, train_plan, write_plan
from pipelines import OUTPUTS, run

if TYPE_CHECKING:
    from ethos.specs import Spec

START = "--start"


def main(variant: str) -> None:
    """Write outputs/plan/VARIANT and outputs/teacher/VARIANT, or outputs/plan/start with the argument --start."""
    params = catalog.load_params()
    plans: dict[str, Spec]
    if variant == START:
        plans = {"start.yaml": start_plan(params)}
    else:
        train = train_plan(params, variant)
        plans = {"train.yaml": train, "quantize.yaml": quantize_plan(params, variant)}
        write_json(OUTPUTS / "teacher" / variant / "teacher.json", {"schema": 1, "teacher": train.teacher})
        if variant in params.pruned:
            plans["prune.yaml"] = prune_plan(params, variant)
    with new_folder(OUTPUTS / "plan" / variant.lstrip("-")) as folder:
        for name, plan in plans.items():
            write_plan(folder / name, plan)


if __name__ == "__main__":
    raise SystemExit(run(main))
