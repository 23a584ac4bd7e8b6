"""`ethos history` with `verify` and `replay`, and `ethos policy check`: what was decided, and what would be."""

from __future__ import annotations

from typing import Annotated

import typer

from ethos.console import AsJson, print_json, print_table

history_app = typer.Typer(help="Show the promotion ledger: what serves each scenario, since when and why.")
policy_app = typer.Typer(no_args_is_help=True, help="Work with registry/policy.yaml.")

OneScenario = Annotated[str | None, typer.Option(help="Scenario of registry/policy.yaml; all if absent.")]


@history_app.callback(invoke_without_command=True)
def history(
    context: typer.Context,
    scenario: OneScenario = None,
    at: Annotated[str | None, typer.Option(help="What was live then: 2026-05-31 (its end) or a time; UTC.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the promotion ledger: what serves each scenario, since when and why."""
    if context.invoked_subcommand is not None:
        return
    from ethos.cli.registry import open_registry
    from ethos.registry.history import history as read
    from ethos.registry.tables import ledger_table

    here = open_registry()
    document = read(here.store, here.policy, here.model, here.root, scenario, at)
    if as_json:
        print_json(document)
    else:
        print_table(ledger_table(document))


@history_app.command()
def verify(as_json: AsJson = False) -> None:
    """Check that no line of the ledger was altered, removed or inserted. Exit 1 if one was."""
    from ethos.cli.registry import open_registry
    from ethos.registry.history import verify as check

    here = open_registry()
    document = check(here.store, here.policy, here.model, here.root)
    if as_json:
        print_json(document)
    else:
        problems = "\n".join(document["problems"])
        typer.echo(problems or f"{document['events']} events, whole and as the registry has them")
    if not document["ok"]:
        raise typer.Exit(1)


@history_app.command()
def replay(scenario: OneScenario = None, as_json: AsJson = False) -> None:
    """Decide again from the inputs that the ledger recorded. Exit 1 if a decision comes out differently."""
    from ethos.cli.registry import open_registry
    from ethos.registry.history import replay_all
    from ethos.registry.tables import replayed

    here = open_registry()
    document = replay_all(here.store, here.policy, here.model, here.root, scenario)
    if as_json:
        print_json(document)
    else:
        print_table(replayed(document))
    if not document["ok"]:
        raise typer.Exit(1)


@policy_app.command()
def check(as_json: AsJson = False) -> None:
    """Check the policy against the registry, and say where pins and measurements disagree.

    Exit 1 if no version passes a scenario's gates, or none carries a figure that it names.
    """
    from ethos.cli.registry import open_registry
    from ethos.registry.review import review
    from ethos.registry.tables import policy_table

    here = open_registry()
    document = review(here.store, here.policy, here.model)
    if as_json:
        print_json(document)
    else:
        print_table(policy_table(document))
    if not document["ok"]:
        raise typer.Exit(1)
