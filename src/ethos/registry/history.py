"""What the promotion ledger tells: what served when, whether it is whole, and whether its decisions come out again."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any

from ethos.errors import SpecError
from ethos.registry import ledger
from ethos.registry.journal import MOVED, moved_by_hand
from ethos.registry.policy import find_scenario
from ethos.registry.promote import journal_of
from ethos.registry.replay import DIFFERENT, SAME, replay

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ethos.registry.journal import Event
    from ethos.registry.store import Store
    from ethos.specs import Policy

SCHEMA = 1


def history(
    store: Store, policy: Policy, model: str, root: Path, scenario: str | None = None, at: str | None = None
) -> dict[str, Any]:
    """Return the ledger's events as a document, with what serves each scenario.

    Args:
        store: The store, for what serves now.
        policy: The scenarios.
        model: Name of the registered model.
        root: The project's folder.
        scenario: Only this one.
        at: A date, which means its end, or a time, of ISO 8601; UTC unless it says otherwise. The events are then those
            until that time, and `live` says what served at it.

    Raises:
        SpecError: The scenario is unknown, or the time cannot be read.
        StoreError: The ledger was altered.
    """
    if scenario is not None:
        find_scenario(policy, scenario)
    until = None if at is None else parse_time(at)
    journal = journal_of(store, policy, model, root)
    own = journal.refresh()
    events = [event for event in ledger.read(journal.path) if event.get("model") == model]
    if until is not None:
        events = [event for event in events if datetime.fromisoformat(event["at"]) <= until]
    names = [scenario] if scenario else list(policy.scenarios)
    live = {name: _live(events, name) for name in names}
    found = store.model(model)
    if until is None and found is not None:
        for name in names:
            if moved := moved_by_hand(own, found, name):
                live[name] = {"version": moved["to"], "by": "hand", "ledger": moved["from"]}
    return {
        "schema": SCHEMA,
        "model": model,
        "at": until.isoformat() if until else None,
        "live": live,
        "events": [event for event in events if scenario in (None, event["scenario"])],
    }


def verify(store: Store, policy: Policy, model: str, root: Path) -> dict[str, Any]:
    """Return whether the ledger is whole and is the one that the store knows; what it lacks is fetched afterwards.

    Raises:
        StoreError: A line was altered, removed or inserted; or an event is not the store's.
    """
    journal = journal_of(store, policy, model, root)
    before = journal.events()
    everything = ledger.read(journal.path)
    after = journal.refresh()
    problems = []
    if len(after) > len(before):
        problems.append(
            f"{journal.path}: {len(after) - len(before)} of {len(after)} events were missing, cut off here or made on "
            "another machine; they were fetched from the registry"
        )
    return {"schema": SCHEMA, "model": model, "ok": not problems, "events": len(everything), "problems": problems}


def replay_all(store: Store, policy: Policy, model: str, root: Path, scenario: str | None = None) -> dict[str, Any]:
    """Return what deciding again from every event's recorded inputs gives; `ok` if no decision differs."""
    events = history(store, policy, model, root, scenario)["events"]
    results = [replay(event) for event in events]
    return {
        "schema": SCHEMA,
        "model": model,
        "ok": all(result["result"] != DIFFERENT for result in results),
        "same": sum(result["result"] == SAME for result in results),
        "different": sum(result["result"] == DIFFERENT for result in results),
        "events": results,
    }


def parse_time(text: str) -> datetime:
    """Return a time of ISO 8601; a date alone means its end. SpecError if it is neither."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise SpecError(f"'{text}' is no date or time", "write 2026-05-31 or 2026-05-31T14:00") from None
    if len(text) <= len("2026-05-31"):
        found = datetime.combine(found.date(), time.max)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def sentence(event: Event) -> str:
    """Return an event as one sentence."""
    before = f"version {event['from']}" if event["from"] is not None else "nothing"
    after = f"version {event['to']}" if event["to"] is not None else "nothing"
    if event["event"] == MOVED:
        return f"{event['scenario']}: found moved by hand from {before} to {after}"
    what = f"{after} ({event['variant']}, {event.get('form', 'dense')})"
    return f"{event['scenario']}: {event['event']} from {before} to {what} by {event['who']}: {ledger.reason(event)}"


def _live(events: Sequence[Event], scenario: str) -> dict[str, Any]:
    last = next((event for event in reversed(events) if event["scenario"] == scenario), None)
    if last is None:
        return {"version": None, "by": None}
    keys = ("variant", "artifact_sha256", "at", "who", "store")
    return {"version": last["to"], "by": last["event"], **{key: last.get(key) for key in keys}}
