"""`ethos select`: which version to deploy."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ethos.console import AsJson, print_json, print_table
from ethos.errors import SpecError

if TYPE_CHECKING:
    from ethos.registry.select import NothingPasses


def select(
    scenario: Annotated[str, typer.Option(help="Scenario of registry/policy.yaml, such as realtime.")],
    strict: Annotated[bool, typer.Option(help="Refuse anything but a pinned variant that passes all gates.")] = False,
    explain: Annotated[bool, typer.Option(help="Decide afresh over all versions and show why not the others.")] = False,
    download: Annotated[Path | None, typer.Option(help="Write the files to deploy into this new folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Answer which version to deploy for a scenario, and why."""
    from ethos import catalog
    from ethos.registry import live
    from ethos.registry.select import NothingPasses
    from ethos.registry.store import open_store

    params, policy = catalog.load_params().registry, catalog.load_policy()
    if explain and download:
        raise SpecError("--explain and --download exclude each other", "download what is live, or explain a decision")
    store = open_store(catalog.project_root(), params.experiment, create=False)
    if explain:
        try:
            answer = live.explain(store, policy, params.model_name, scenario)
        except NothingPasses as error:
            _print_rejections(scenario, error, as_json)
            raise
    elif download:
        answer = live.download(store, policy, params.model_name, scenario, download, strict)
    else:
        answer = live.live(store, policy, params.model_name, scenario, strict)
    if as_json:
        print_json(answer)
    else:
        _print_selection(answer)


def _print_rejections(scenario: str, error: NothingPasses, as_json: bool) -> None:
    from ethos.registry.tables import rejections

    rejected = [rejection.document() for rejection in error.rejected]
    if as_json:
        print_json({"schema": 1, "scenario": scenario, "reason": error.message, "rejected": rejected})
    elif rejected:
        print_table(rejections(rejected))


def _print_selection(answer: dict[str, Any]) -> None:
    from ethos.registry.tables import selection

    print_table(selection(answer))
