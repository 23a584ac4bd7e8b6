"""The ledger shared through the store: who comes first with an event number has it, and what was begun is finished.

An event counts once its hash is claimed as parameter `event.NUMBER` of the model's ledger run, which MLflow lets one
writer do. Before that its text is stored with the run, so that any process can finish what a killed one began: append
the event to the local ledger, set the alias, the stage tags and the decision tag, and mirror the ledger.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ethos.errors import StoreError
from ethos.registry import ledger
from ethos.registry.lock import locked
from ethos.registry.records import CANDIDATE, DECISION_TAG, decision_tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ethos.registry.store import ModelRecord, Store

Event = dict[str, Any]

log = logging.getLogger(__name__)

DONE_TAG = "ledger.done"  # of the registered model: number of the newest event that is finished
MIRROR = "ledger.jsonl"
SLOT = "event."
ATTEMPTS = 5
MOVED = "moved"


@dataclass(frozen=True)
class Journal:
    """The ledger of one model in one store.

    Attributes:
        store: The store.
        model: Name of the registered model.
        path: The local ledger.
        order: The policy's scenarios, in its order.
    """

    store: Store
    model: str
    path: Path
    order: tuple[str, ...]

    @property
    def begun(self) -> Path:
        """Return the file that is there while a process of this folder promotes; a killed one leaves it behind."""
        return self.path.with_suffix(".begun")

    def events(self) -> list[Event]:
        """Return what the local ledger says of the model in this store, oldest first."""
        chain = (self.store.identity(), self.model)
        return [event for event in ledger.read(self.path) if ledger.chain_of(event) == chain]

    def slots(self, model: ModelRecord) -> list[str]:
        """Return the hashes of all events that count, in order, as the store has them."""
        params = self.store.params(self.store.ledger_run(model))
        names = sorted(name for name in params if name.startswith(SLOT))
        return [params[name] for name in names]

    def refresh(self) -> list[Event]:
        """Return all events, after fetching what this folder lacks and finishing what another process began.

        Raises:
            StoreError: The ledger was altered, or is not that of the store.
        """
        with locked(self.path):
            model = self.store.model(self.model)
            events = self._refresh(model) if model else self.events()
            self.begun.unlink(missing_ok=True)
            return events

    def commit(self, event: Event) -> Event:
        """Append an event that moves an alias, and move it.

        Args:
            event: With `scenario`, `from` (the version that the decision was made against) and `to`.

        Returns:
            The event as written.

        Raises:
            StoreError: Another promotion of the scenario came first.
        """
        with locked(self.path):
            self.begun.touch()
            for _ in range(ATTEMPTS):
                model = self._model()
                events = self._refresh(model)
                model = self._model()
                if model.aliases.get(event["scenario"]) != event["from"]:
                    raise _overtaken(event["scenario"], events, model)
                if found := moved_by_hand(events, model, event["scenario"]):
                    noticed = {key: event[key] for key in ("at", "scenario", "model", "store")} | found
                    events = [*events, *filter(None, [self._append(model, events, noticed)])]
                if entry := self._append(model, events, event):
                    self._settle(model, [*events, entry], since=len(events))
                    self.begun.unlink()
                    return entry
        raise StoreError(f"{self.model}: the ledger is busy", "other machines are promoting: try again")

    def _model(self) -> ModelRecord:
        found = self.store.model(self.model)
        if found is None:
            raise StoreError(f"no version of '{self.model}' is registered", "register some: dvc repro")
        return found

    def _append(self, model: ModelRecord, events: list[Event], event: Event) -> Event | None:
        """Claim the next number for an event and write it; None if another process has that number."""
        entry = ledger.chained(event, events)
        run = self.store.ledger_run(model)
        number = len(events) + 1
        self.store.put_text(run, _file(number, entry["sha256"]), json.dumps(entry, ensure_ascii=False))
        if not self.store.claim(run, f"{SLOT}{number:06d}", entry["sha256"]):
            return None
        ledger.write(self.path, [entry])
        return entry

    def _refresh(self, model: ModelRecord) -> list[Event]:
        events = self.events()
        slots = self.slots(model)
        if events and not slots:
            self._adopt(model, events)
            slots = [event["sha256"] for event in events]
        for number, (event, wanted) in enumerate(zip(events, slots, strict=False), start=1):
            if event["sha256"] != wanted:
                raise _parted(self.path, number)
        if len(events) > len(slots):
            raise _parted(self.path, len(slots) + 1)
        missing = [self._fetch(model, number, slots[number - 1]) for number in range(len(events) + 1, len(slots) + 1)]
        if missing:
            ledger.write(self.path, missing)
        done = int(model.tags.get(DONE_TAG, "0"))
        if done < len(slots):
            self._settle(model, events + missing, since=done)
        return events + missing

    def _adopt(self, model: ModelRecord, events: list[Event]) -> None:
        """Enter events in the store that were written before it kept count."""
        run = self.store.ledger_run(model)
        for number, event in enumerate(events, start=1):
            self.store.put_text(run, _file(number, event["sha256"]), json.dumps(event, ensure_ascii=False))
            self.store.claim(run, f"{SLOT}{number:06d}", event["sha256"])

    def _fetch(self, model: ModelRecord, number: int, sha256: str) -> Event:
        event: Event = json.loads(self.store.get_text(self.store.ledger_run(model), _file(number, sha256)))
        if event.get("sha256") != sha256:
            raise _parted(self.path, number)
        return event

    def _settle(self, model: ModelRecord, events: list[Event], since: int) -> None:
        """Let aliases and tags say what the events after number `since` say; doing it again changes nothing."""
        newest = {event["scenario"]: event for event in events[since:]}
        for scenario, event in newest.items():
            record = self.store.find_version(self.model, event["to"]) if event["event"] != MOVED else None
            if record is None:
                continue
            if scenario not in record.aliases:
                self.store.set_alias(record, scenario)
            told = decision_tag(event.get("decision") or {})
            if record.tags.get(f"{DECISION_TAG}.{scenario}") != told:
                self.store.tag_version(record, {f"{DECISION_TAG}.{scenario}": told})
        self.set_stages({event[key] for event in events[since:] for key in ("from", "to") if event[key] is not None})
        text = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)
        self.store.put_text(self.store.ledger_run(model), MIRROR, text)
        self.store.tag_model(self.model, DONE_TAG, str(len(events)))
        slots = self.slots(model)
        if len(slots) > len(events):  # another machine went on meanwhile: its event is the newer one
            more = [self._fetch(model, number, slots[number - 1]) for number in range(len(events) + 1, len(slots) + 1)]
            ledger.write(self.path, more)
            self._settle(model, events + more, since=len(events))

    def set_stages(self, versions: Iterable[int]) -> None:
        """Set the `stage` tag of versions to the scenarios whose aliases point to them, else to `candidate`."""
        aliases = self._model().aliases
        for version in sorted(versions):
            record = self.store.find_version(self.model, version)
            stage = stage_of(version, aliases, self.order)
            if record is not None and record.stage != stage:
                self.store.tag_version(record, {"stage": stage})


def stage_of(version: int, aliases: dict[str, int], order: Sequence[str]) -> str:
    """Return the scenarios that a version serves, joined by commas in the policy's order; `candidate` if none."""
    return ",".join(name for name in order if aliases.get(name) == version) or CANDIDATE


def moved_by_hand(events: list[Event], model: ModelRecord, scenario: str) -> Event | None:
    """Return the event of an alias that is not where the ledger left it, None if it is."""
    last = next((event["to"] for event in reversed(events) if event["scenario"] == scenario), None)
    now = model.aliases.get(scenario)
    return {"event": MOVED, "who": "unknown", "from": last, "to": now} if last != now else None


def _file(number: int, sha256: str) -> str:
    return f"events/{number:06d}-{sha256}.json"


def _overtaken(scenario: str, events: list[Event], model: ModelRecord) -> StoreError:
    last = next((event for event in reversed(events) if event["scenario"] == scenario), None)
    now = model.aliases.get(scenario)
    by = f", by {last['who']} at {last['at']}" if last and last["to"] == now else ""
    return StoreError(
        f"another promotion came first: '{scenario}' is served by version {now} now{by}",
        f"see ethos history --scenario {scenario}; promote again if it is still wanted",
    )


def _parted(path: Path, number: int) -> StoreError:
    return StoreError(
        f"{path}: event {number} is not the store's: this ledger and the registry do not belong together",
        "restore the ledger, or move it away: the registry holds a copy, which the next command fetches",
    )
