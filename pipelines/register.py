"""Stage `register`: make a candidate a version of the registered model."""

from __future__ import annotations

from ethos import catalog
from ethos.files import write_json
from ethos.registry.candidate import collect
from ethos.registry.register import register
from ethos.registry.store import open_store
from pipelines import OUTPUTS, run


def main(variant: str, form: str) -> None:
    """Write outputs/register/VARIANT/FORM.json."""
    names = catalog.load_params().registry
    candidate = collect(OUTPUTS, variant, form)
    record = register(open_store(experiment=names.experiment), candidate, names.model_name, catalog.project_root())
    write_json(OUTPUTS / "register" / variant / f"{form}.json", record.as_registered().document())


if __name__ == "__main__":
    raise SystemExit(run(main))
