"""What processes of the concurrency tests do; each runs with one thing changed."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from registry_run import MODEL

from ethos import catalog
from ethos.errors import EthosError
from ethos.registry import journal, ledger
from ethos.registry.promote import promote_scenario
from ethos.registry.store import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import ForkServerContext
    from pathlib import Path

# method after or before which a process is killed, and how often it may be called before that
STEPS: dict[str, tuple[type, str, str, int]] = {
    "event stored, not claimed": (Store, "claim", "before", 1),
    "claimed, not in the ledger": (Store, "claim", "after", 1),
    "in the ledger, alias not set": (Store, "set_alias", "before", 1),
    "alias set, no decision tag": (Store, "set_alias", "after", 1),
    "decision tag set, no stage tag": (journal.Journal, "set_stages", "before", 1),
    "one stage tag set": (Store, "tag_version", "after", 2),
    "stages set, not mirrored": (journal.Journal, "set_stages", "after", 1),
    "mirrored, not noted as done": (Store, "tag_model", "before", 1),
}


def forkserver() -> ForkServerContext:
    """Return a context whose processes begin with MLflow imported."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["registry_race", "mlflow"])
    return context


def promote_and_die(root: Path, step: str, version: int) -> None:
    """Promote realtime to a version, and be killed at a step."""
    owner, name, when, count = STEPS[step]
    with _changed(owner, name, _killer(when, count)):
        promote(root, version)


def promote_at_once(root: Path, version: int, barrier: Any, outcomes: Any, environment: dict[str, str]) -> None:
    """Promote realtime to a version; the decision is made before any other process promotes."""
    os.environ.update(environment)

    def wait_first(original: Callable[..., Any]) -> Callable[..., Any]:
        def commit(self: Any, event: Any) -> Any:
            barrier.wait(60)
            return original(self, event)

        return commit

    with _changed(journal.Journal, "commit", wait_first):
        try:
            event = promote(root, version)
            outcomes.put((version, event["sha256"], ""))
        except EthosError as error:
            outcomes.put((version, "", str(error)))


def promote(root: Path, version: int) -> dict[str, Any]:
    """Promote realtime to a version, as the command does."""
    os.chdir(root)
    return promote_scenario(open_store(root), catalog.load_policy(), MODEL, "realtime", root, version, "test")


def consistent(root: Path) -> int:
    """Return the version that serves realtime, after checking that ledger, alias and stage tags agree."""
    store = open_store(root)
    model = store.model(MODEL)
    assert model is not None
    events = ledger.read(root / ledger.LEDGER)
    version = model.aliases["realtime"]
    assert [event["to"] for event in events if event["scenario"] == "realtime"][-1] == version
    assert model.tags[journal.DONE_TAG] == str(len(events))
    params = store.params(store.ledger_run(model))
    assert [params[name] for name in sorted(params)] == [event["sha256"] for event in events]
    assert store.get_text(store.ledger_run(model), journal.MIRROR) == (root / ledger.LEDGER).read_text()
    for record in store.versions(MODEL):
        stage = [name for name, served in model.aliases.items() if served == record.version]
        assert sorted(record.stage.split(",")) == (sorted(stage) or ["candidate"])
    return version


def _killer(when: str, count: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    left = [count]

    def change(original: Callable[..., Any]) -> Callable[..., Any]:
        def method(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*arguments, **named)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return method

    return change


@contextmanager
def _changed(owner: type, name: str, change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, change(original))
    try:
        yield
    finally:
        setattr(owner, name, original)
