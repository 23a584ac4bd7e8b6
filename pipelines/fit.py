"""Stage `fit`: compile every variant with random weights, so that one that cannot fit stops the run before training."""

from __future__ import annotations

from ethos.catalog import load, load_params
from ethos.files import new_folder, write_json
from ethos.fit import candidate_of, fit, misfits, refuse_misfits
from ethos.plan import TrainPlan, read_plan
from pipelines import OUTPUTS, run


def main() -> None:
    """Write outputs/fit: report.json, also where a variant does not fit, and passed.json where all do.

    Later stages depend on passed.json alone, which is always the same: a changed figure is no reason to train again.
    """
    params = load_params()
    plans = {name: read_plan(OUTPUTS / "plan" / name / "train.yaml", TrainPlan) for name in params.variants}
    targets = [load("target", name) for name in params.targets]
    document = fit({name: candidate_of(plan) for name, plan in plans.items()}, targets)
    with new_folder(OUTPUTS / "fit") as folder:
        write_json(folder / "report.json", document)
        if not misfits(document):
            write_json(folder / "passed.json", {"schema": 1, "fits": True})
    refuse_misfits(document)


if __name__ == "__main__":
    raise SystemExit(run(main))
