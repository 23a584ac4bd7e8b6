"""Where every figure of a report is read: versions, runs, ledger, policy, and the record of the data.

A locator is `PLACE#PATH`: the place names a document, the path walks into it, keys and positions parted by `/`.

| place | document |
|---|---|
| version/N | tags of version N |
| decision/N/SCENARIO | why version N serves a scenario, as promotion recorded it |
| version/N/FILE | a JSON file that is stored with version N, such as metrics/int8.json |
| version/N/prune.json | the same, with what `ethos.pruning.report.study` makes of it under `derived` |
| run/ID | what an MLflow run recorded: params, metrics by step, seconds, and what `history.derive` makes of them |
| outputs/FILE | a JSON file that a stage wrote |
| ledger | the promotion ledger's events |
| policy | registry/policy.yaml |
| v3 | what V3's reports say, in ethos/reporting/v3.yaml |
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos import catalog
from ethos.errors import StoreError
from ethos.files import read_json, sha256_file
from ethos.pruning.report import study
from ethos.registry import embedded, ledger
from ethos.registry.candidate import MANIFEST, STUDY
from ethos.registry.faults import given_uri
from ethos.registry.journal import Journal
from ethos.registry.records import DECISION_TAG, INT8
from ethos.reporting.cache import Recent
from ethos.reporting.figure import Fact, Figure, Origin, calculate
from ethos.reporting.history import derive
from ethos.reporting.origin import origin_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from types import TracebackType

    from ethos.registry.records import VersionRecord
    from ethos.registry.store import Store

OUTPUTS = "outputs"
REPORTED = Path(__file__).with_name("v3.yaml")
KEPT_DOCUMENTS = 48  # parsed files kept in memory


class Evidence:
    """All that a report may show. What is not there reads as None and is remembered in `absent`.

    Use it in a `with` block: files of a store on another machine are fetched and removed at its end.

    Args:
        root: The project's folder.
        store: The registry; None if there is none yet.
        model: Name of the registered model.
    """

    def __init__(self, root: Path, store: Store | None, model: str) -> None:
        self.root = root
        self.model = model
        self.absent: dict[str, None] = {}  # in the order found
        self._store = store
        self._folders: dict[int, Path | None] = {}
        self._documents: Recent[str, Any] = Recent(KEPT_DOCUMENTS)
        self._altered: set[str] = set()
        self._stack = ExitStack()

    def __enter__(self) -> Evidence:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # --- the registry ---

    @cached_property
    def records(self) -> list[VersionRecord]:
        """All versions, oldest first."""
        return self._store.versions(self.model) if self._store else []

    @cached_property
    def by_number(self) -> dict[int, VersionRecord]:
        """All versions by their numbers."""
        return {record.version: record for record in self.records}

    @cached_property
    def current(self) -> list[VersionRecord]:
        """The newest ready version of each variant and form under the protocol of the newest, in the run's order."""
        ready = [record for record in self.records if record.ready]
        newest = {(r.variant, r.form): r for r in ready if r.protocol_sha256 == ready[-1].protocol_sha256}
        order = {name: place for place, name in enumerate(self.params.variants)}
        return sorted(newest.values(), key=lambda r: (order.get(r.variant, len(order)), r.variant, r.form))

    @cached_property
    def live(self) -> dict[str, int]:
        """The version that serves each scenario of the policy; scenarios without one are left out."""
        found = (
            {name: self._store.by_alias(self.model, name) for name in self.policy["scenarios"]} if self._store else {}
        )
        return {name: record.version for name, record in found.items() if record}

    @cached_property
    def created(self) -> dict[int, datetime]:
        """When each version was made."""
        return self._store.created(self.model) if self._store else {}

    @cached_property
    def unfinished(self) -> list[dict[str, Any]]:
        """Runs that are open or did not end well."""
        return self._store.unfinished() if self._store else []

    @property
    def tracking_uri(self) -> str:
        """Where the runs are."""
        return self._store.tracking_uri if self._store else ""

    @property
    def experiment_id(self) -> str:
        """The experiment that runs belong to."""
        return self._store.experiment_id if self._store else ""

    def folder(self, version: int) -> Path | None:
        """Return the folder of a version's files, None if they are gone."""
        if version not in self._folders:
            self._folders[version] = None
            record = self.by_number.get(version)
            if record and self._store:
                try:
                    self._folders[version] = self._stack.enter_context(self._store.files(record))
                except StoreError:
                    self._note(f"version/{version}/{MANIFEST}")
        return self._folders[version]

    # --- the project ---

    @cached_property
    def params(self) -> Any:
        """The project's params.yaml."""
        return catalog.load_params()

    @cached_property
    def policy(self) -> dict[str, Any]:
        """The policy as a document."""
        return catalog.load_policy().model_dump(mode="json")

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """The ledger's events of this model in this store, oldest first; StoreError if it was altered."""
        if self._store is None:
            return []
        return Journal(self._store, self.model, self.root / ledger.LEDGER, tuple(self.policy["scenarios"])).refresh()

    def moved_by_hand(self, scenario: str) -> bool:
        """Return whether a scenario's alias is not where the ledger left it."""
        told = next((event["to"] for event in reversed(self.events) if event["scenario"] == scenario), None)
        return bool(told != self.live.get(scenario))

    @cached_property
    def reported(self) -> dict[str, Any]:
        """What V3's reports say."""
        return reported()

    # --- reading ---

    def document(self, place: str) -> Any:
        """Return the document of a place, None if it is not there."""
        if place not in self._documents:
            self._documents[place] = self._load(place)
        return self._documents[place]

    def read(self, locator: str, optional: bool = False) -> Any:
        """Return what a locator points to; None, and a line in `absent` unless it is optional, if it is not there."""
        place, _, path = locator.partition("#")
        found = self.document(place)
        if found is not None:
            for key in _keys(place, path):
                found = _step(found, key)
                if found is None:
                    break
        if found is None and not optional:
            self._note(locator if self.document(place) is not None else place)
        return found

    def figure(
        self, locator: str, style: str, *others: str, operation: str = "value", optional: bool = False
    ) -> Figure:
        """Return the figure that a locator, or an operation over several, gives.

        Args:
            locator: Where the first value is; it also says what the figure is bound to.
            style: Name of its format.
            others: Where the other values are.
            operation: What is made of them.
            optional: Whether it may be absent.
        """
        sources = (locator, *others)
        values = [_number(self.read(source, optional)) for source in sources]
        value = calculate(operation, values)
        return Figure(value, sources, style, operation, self.origin(locator) if value is not None else Origin())

    def fact(self, locator: str, optional: bool = False) -> Fact | str:
        """Return the text that a locator points to, a dash if there is none."""
        value = self.read(locator, optional)
        if value is None or value == "":
            return "-"
        return Fact(fact_text(value), (locator,), self.origin(locator))

    def origin(self, locator: str) -> Origin:
        """Return what a figure at a locator is bound to."""
        place, _, path = locator.partition("#")
        kind, _, rest = place.partition("/")
        number = rest.partition("/")[0]
        record = self.by_number.get(int(number)) if kind == "version" and number.isdigit() else None
        return origin_of(place, path, self.document(place), record)

    def note(self, locator: str) -> None:
        """Remember that something is not there."""
        self._note(locator)

    def take_absent(self) -> list[str]:
        """Return what was not there since the last call, and forget it."""
        found, self.absent = list(self.absent), {}
        return found

    def _note(self, locator: str) -> None:
        self.absent[f"{locator} (altered)" if locator in self._altered else locator] = None

    def _load(self, place: str) -> Any:
        kind, _, rest = place.partition("/")
        loaders: dict[str, Callable[[str], Any]] = {
            "version": self._load_version,
            "decision": self._load_decision,
            "run": self._load_run,
            "outputs": lambda name: _read(self.root / OUTPUTS / name),
            "ledger": lambda _: self.events,
            "policy": lambda _: self.policy,
            "v3": lambda _: self.reported,
        }
        return loaders[kind](rest)

    def _load_decision(self, rest: str) -> Any:
        number, _, scenario = rest.partition("/")
        record = self.by_number.get(int(number))
        told = record.tags.get(f"{DECISION_TAG}.{scenario}") if record else None
        return json.loads(told) if told else None

    def _load_run(self, run_id: str) -> Any:
        found = self._store.recorded(run_id) if self._store else None
        return found and {**found, "derived": derive(found["metrics"])}

    def _load_version(self, rest: str) -> Any:
        number, _, name = rest.partition("/")
        record = self.by_number.get(int(number))
        if record is None:
            return None
        if not name:
            return record.tags
        folder = self.folder(record.version)
        if folder is None or not (folder / name).is_file():
            return None
        if name != MANIFEST:
            entry = (self.document(f"version/{number}/{MANIFEST}") or {}).get("files", {}).get(name)
            if entry is None or sha256_file(folder / name) != entry["sha256"]:
                self._altered.add(f"version/{number}/{name}")
                return None
        found = _read(folder / name)
        return {**found, "derived": study(found)} if name == STUDY and found else found

    def artifact(self, version: int, name: str = INT8) -> Path | None:
        """Return the path of a version's file, None if it is not there."""
        folder = self.folder(version)
        path = folder / name if folder else None
        return path if path and path.is_file() else None


def open_evidence(root: Path) -> Evidence:
    """Return the evidence of a project, with an empty registry where there is no embedded store yet.

    Raises:
        StoreError: The store cannot be reached or read.
    """
    from ethos.registry.store import open_store

    params = catalog.load_params().registry
    there = given_uri() or embedded.database(root).is_file()
    store = open_store(root, params.experiment, create=False) if there else None
    return Evidence(root, store, params.model_name)


def reported() -> dict[str, Any]:
    """Return what V3's reports say."""
    import yaml

    document: dict[str, Any] = yaml.safe_load(REPORTED.read_text(encoding="utf-8"))
    return document


def fact_text(value: Any) -> str:
    """Return a recorded value as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _keys(place: str, path: str) -> list[str]:
    # a tag's name is one key, whatever stands in it
    if place.startswith("version/") and place.count("/") == 1:
        return [path]
    # a slash within a key is written ~1, as in JSON pointers (RFC 6901)
    return [key.replace("~1", "/") for key in path.split("/")]


def _step(found: Any, key: str) -> Any:
    if isinstance(found, dict):
        return found.get(key)
    if isinstance(found, list) and key.isdigit() and int(key) < len(found):
        return found[int(key)]
    return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None
