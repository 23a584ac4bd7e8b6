"""`ethos init` and `ethos summary`: before a run, and after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from ethos.console import OUTPUTS, AsJson, print_json, print_table

if TYPE_CHECKING:
    from ethos.specs import Policy


def init() -> None:
    """Create what is missing for a run: the MLflow store and DVC's settings where there is no git."""
    from ethos import catalog
    from ethos.registry import policy
    from ethos.registry.faults import hide_password
    from ethos.registry.runs import open_tracking
    from ethos.workspace import prepare_dvc

    root = catalog.project_root()
    policy.check(catalog.load_policy())
    for line in prepare_dvc(root):
        typer.echo(line)
    store = open_tracking(catalog.load_params().registry.experiment, root)
    store.write_identity(root / "registry" / "store.json")
    typer.echo(f"tracking store ready: {hide_password(store.tracking_uri)}")


def summary(as_json: AsJson = False) -> None:
    """Print what the last run gave, and the version selected for each scenario."""
    from ethos import catalog
    from ethos.registry.tables import selections
    from ethos.reporting.summary import PROVENANCE, cells, headings, read_summary, start_sentence
    from ethos.reporting.tables import plain_table

    params = catalog.load_params()
    found = read_summary(catalog.project_root() / OUTPUTS, params.candidates, params.targets)
    answers = _answers(catalog.load_policy())
    if as_json:
        from dataclasses import asdict

        print_json({"schema": 1, **asdict(found), "scenarios": answers})
        return
    title = f"{found.dataset['name']}: {found.dataset['images']['val']} validation images"
    print_table(plain_table(title, headings(found), [cells(found, row) for row in found.rows]))
    typer.echo(f"{start_sentence(found)}\n{PROVENANCE}\n")
    print_table(selections(answers))


def _answers(policy: Policy) -> list[dict[str, Any]]:
    """Return the live version of every scenario; a scenario without one says why."""
    from ethos import catalog
    from ethos.errors import NothingSelectable
    from ethos.registry.live import live
    from ethos.registry.store import open_store

    params = catalog.load_params().registry
    root = catalog.project_root()
    store = open_store(root, params.experiment, create=False)
    answers = []
    for name in policy.scenarios:
        try:
            answers.append(live(store, policy, params.model_name, name, root=root))
        except NothingSelectable as error:
            answers.append({"scenario": name, "reason": error.message})
    return answers
