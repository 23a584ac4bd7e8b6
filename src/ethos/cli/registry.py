"""`ethos register | select | promote | rollback | audit`: the model registry as users ask it."""

from __future__ import annotations

from functools import partial
from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args

import typer

from ethos.console import OUTPUTS, AsJson, one_of, print_json, print_table
from ethos.errors import SpecError

if TYPE_CHECKING:
    from ethos.registry.select import NothingPasses
    from ethos.registry.store import Store
    from ethos.specs import Policy

ScenarioName = Annotated[str, typer.Option(help="Scenario of registry/policy.yaml, such as realtime.")]


class Opened(NamedTuple):
    """The registry of the project one stands in."""

    store: Store
    policy: Policy
    model: str
    root: Path


def open_registry() -> Opened:
    """Open the project's registry, with its policy."""
    from ethos import catalog
    from ethos.registry.store import open_store

    params, policy, root = catalog.load_params().registry, catalog.load_policy(), catalog.project_root()
    return Opened(open_store(root, params.experiment, create=False), policy, params.model_name, root)


def select(
    scenario: ScenarioName,
    target: Annotated[str | None, typer.Option(help="Check gates on this target instead of the scenario's.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse anything but a pinned variant that passes all gates.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Decide afresh over all versions and show why not the others.")
    ] = False,
    candidates: Annotated[
        bool, typer.Option("--candidates", help="List all versions that a fresh decision looks at.")
    ] = False,
    download: Annotated[Path | None, typer.Option(help="Write the files to deploy into this new folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Answer which version to deploy for a scenario, and why."""
    from ethos import catalog

    if sum((explain, candidates, download is not None)) > 1:
        raise SpecError(
            "--explain, --candidates and --download exclude each other", "download what is live, or explain a decision"
        )
    if strict and (explain or candidates):
        raise SpecError("--strict is about what is live", "leave out --strict, or --explain and --candidates")
    if target is not None:
        catalog.load("target", target)
    if candidates:
        _show_candidates(scenario, target, as_json)
    elif explain:
        _show_explained(scenario, target, as_json)
    else:
        _show_live(scenario, target, strict, download, as_json)


def register(
    variant: Annotated[str, typer.Argument(help="Variant that the stages up to evaluate have run for.")],
    form: Annotated[str, typer.Option(help="Its form: dense or pruned.")] = "dense",
    as_json: AsJson = False,
) -> None:
    """Make what the stages left of a variant a version of the registered model; the same candidate stays one."""
    from ethos import catalog
    from ethos.registry.candidate import collect
    from ethos.registry.register import register as make
    from ethos.registry.store import open_store
    from ethos.registry.tables import registered
    from ethos.specs import Form

    one_of("form", form, get_args(Form))
    root, params = catalog.project_root(), catalog.load_params().registry
    catalog.load("variant", variant)
    candidate = collect(root / OUTPUTS, variant, form)
    record = make(open_store(root, params.experiment), candidate, params.model_name, root)
    _answer(record.document(), registered, as_json)


def promote(
    scenario: ScenarioName,
    version: Annotated[int | None, typer.Option(help="Promote this version; the policy decides if absent.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Promote the version though it fails a gate; needs --reason.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Why it is promoted all the same; kept in the ledger.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let a version serve a scenario: its gates are checked again, alias and stage tag set, the ledger appended."""
    from ethos.registry.promote import promote_scenario
    from ethos.registry.tables import promotion

    if force != bool(reason and reason.strip()):
        raise SpecError("--force and --reason go together", "give both: --force --reason TEXT")
    if force and version is None:
        raise SpecError("--force needs the version to promote", "name it: --version N")
    at = open_registry()
    event = promote_scenario(at.store, at.policy, at.model, scenario, at.root, version, reason)
    _answer({**event, "schema": 1}, promotion, as_json)


def rollback(
    scenario: ScenarioName,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the ledger.")] = None,
    as_json: AsJson = False,
) -> None:
    """Give a scenario back the version that served it before."""
    from ethos.registry.promote import rollback as go_back
    from ethos.registry.tables import promotion

    at = open_registry()
    event = go_back(at.store, at.policy, at.model, scenario, at.root, reason)
    _answer({**event, "schema": 1}, promotion, as_json)


def audit(
    version: Annotated[int | None, typer.Option(help="Check this version alone.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Check all versions, reports and ledger: the default.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check what the registry claims: hashes, scores computed anew, names, protocols, reports. Exit 1 on findings."""
    from ethos.registry.audit import audit as check
    from ethos.registry.tables import audited
    from ethos.reporting.evidence import Evidence
    from ethos.reporting.verify import problems

    if everything and version is not None:
        raise SpecError("--all and --version exclude each other", "give one of them")
    at = open_registry()
    outputs = at.root / OUTPUTS
    with Evidence(at.root, at.store, at.model) as evidence:
        reports = partial(problems, evidence, outputs)
        document = check(at.store, at.policy, at.model, at.root, outputs, version, reports=reports)
    _answer(document, audited, as_json)
    if not document["ok"]:
        raise typer.Exit(1)


def _show_live(scenario: str, target: str | None, strict: bool, folder: Path | None, as_json: bool) -> None:
    from ethos.registry.tables import selection

    at = open_registry()
    if folder is not None:
        from ethos.registry.download import download

        answer = download(at.store, at.policy, at.model, scenario, folder, strict, target, at.root)
    else:
        from ethos.registry.live import live

        answer = live(at.store, at.policy, at.model, scenario, strict, target, at.root)
    _answer(answer, selection, as_json)


def _show_explained(scenario: str, target: str | None, as_json: bool) -> None:
    from ethos.registry.explain import explain
    from ethos.registry.select import NothingPasses
    from ethos.registry.tables import selection

    at = open_registry()
    try:
        answer = explain(at.store, at.policy, at.model, scenario, target)
    except NothingPasses as error:
        _print_rejections(scenario, error, as_json)
        raise
    _answer(answer, selection, as_json)


def _show_candidates(scenario: str, target: str | None, as_json: bool) -> None:
    from ethos.errors import NothingSelectable
    from ethos.registry.explain import candidates
    from ethos.registry.tables import candidate_table

    at = open_registry()
    answer = candidates(at.store, at.policy, at.model, scenario, target)
    _answer(answer, candidate_table, as_json)
    if answer["version"] is None:
        raise NothingSelectable(answer["reason"], f"see why: ethos select --scenario {scenario} --explain")


def _print_rejections(scenario: str, error: NothingPasses, as_json: bool) -> None:
    from ethos.registry.tables import rejections

    rejected = [rejection.document() for rejection in error.rejected]
    if as_json:
        print_json({"schema": 1, "scenario": scenario, "reason": error.message, "rejected": rejected})
    elif rejected:
        print_table(rejections(rejected))


def _answer(document: dict[str, Any], table: Any, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        print_table(table(document))
