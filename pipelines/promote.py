"""Stage `promote`: let the policy choose each scenario's version among those of this run."""

from __future__ import annotations

from ethos import catalog
from ethos.errors import StoreError
from ethos.files import read_json, write_json
from ethos.registry import policy
from ethos.registry.promote import promote
from ethos.registry.records import from_document
from ethos.registry.store import open_store
from pipelines import OUTPUTS, run


def main() -> None:
    """Write outputs/promote/decisions.json."""
    params, scenarios = catalog.load_params(), catalog.load_policy()
    policy.check(scenarios)
    files = [OUTPUTS / f"register/{variant}/{form}.json" for variant, form in params.candidates]
    if missing := [file for file in files if not file.is_file()]:
        raise StoreError(f"{missing[0]}: is missing, it is not registered", "run: dvc repro")
    records = [from_document(read_json(file)) for file in files]
    store = open_store(experiment=params.registry.experiment)
    write_json(OUTPUTS / "promote/decisions.json", promote(store, scenarios, records, catalog.project_root()))


if __name__ == "__main__":
    raise SystemExit(run(main))
