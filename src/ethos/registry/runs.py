"""The tracking store: where it is, its identity, and runs that are logged to it in few calls.

Without MLFLOW_TRACKING_URI the store is embedded: SQLite and a folder under registry/. MLflow's usage statistics are
off. Importing MLflow takes seconds, so it is imported when a store is opened; this module and `ethos.registry.store`
are the only ones that do.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ethos.catalog import project_root
from ethos.errors import DamagedFile, StoreError
from ethos.files import read_json, write_json
from ethos.registry import embedded
from ethos.registry.faults import DATABASES, URI_VARIABLE, given_uri, speaking

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

IDENTITY_TAG = "ethos.identity"
PARENT_TAG = "mlflow.parentRunId"
# for a user who wants otherwise, a variable that is already set stays
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
}
# limits of one log_batch call (MLflow's REST documentation)
MAX_METRICS = 1000
MAX_PARAMS = 100
MAX_DIGEST = 36  # characters of a data set's digest
NOT_IN_NAMES = re.compile(r"[^\w\-./: ]")


@dataclass(frozen=True)
class Measured:
    """One value of a metric; `at` is in milliseconds since 1970, now if absent."""

    name: str
    value: float
    step: int = 0
    at: int | None = None


@dataclass(frozen=True)
class Run:
    """A run that is being logged."""

    run_id: str
    _client: Any = field(repr=False)
    _entities: Any = field(repr=False)  # mlflow.entities

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters; values are kept as text."""
        entries = [self._entities.Param(_name(name), str(value)) for name, value in params.items()]
        for start in range(0, len(entries), MAX_PARAMS):
            with speaking():
                self._client.log_batch(self.run_id, params=entries[start : start + MAX_PARAMS])

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0, model_id: str | None = None) -> None:
        """Log values of one step in one call; `model_id` also shows them with that logged model."""
        self.log_history([Measured(name, value, step) for name, value in metrics.items()], model_id)

    def log_history(self, history: Sequence[Measured], model_id: str | None = None) -> None:
        """Log values of many steps in few calls."""
        now = _now_ms()
        entries = [
            self._entities.Metric(
                _name(m.name), float(m.value), now if m.at is None else m.at, m.step, model_id=model_id
            )
            for m in history
        ]
        for start in range(0, len(entries), MAX_METRICS):
            with speaking():
                self._client.log_batch(self.run_id, metrics=entries[start : start + MAX_METRICS])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        with speaking():
            self._client.log_batch(self.run_id, tags=[self._entities.RunTag(key, value) for key, value in tags.items()])

    def tags(self) -> dict[str, str]:
        """Return the run's tags."""
        with speaking():
            return dict(self._client.get_run(self.run_id).data.tags)

    def history(self, metric: str) -> list[Measured]:
        """Return all values of a metric, with step and time."""
        with speaking():
            entries = self._client.get_metric_history(self.run_id, metric)
        return [Measured(metric, entry.value, entry.step, entry.timestamp) for entry in entries]

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Store a file with the run, below `folder`."""
        with speaking():
            self._client.log_artifact(self.run_id, str(path), folder or None)


class Tracking:
    """A tracking store, and one experiment in it.

    Args:
        tracking_uri: Where it is.
        experiment: Name of the experiment that runs belong to; it is created when first used.
        artifacts_uri: Where a new experiment keeps its artifacts; None leaves that to the server.

    Raises:
        StoreError: The store cannot be reached or used.
    """

    def __init__(self, tracking_uri: str, experiment: str, artifacts_uri: str | None = None) -> None:
        """Import MLflow and connect."""
        _import_mlflow(tracking_uri)
        from mlflow.tracking import MlflowClient

        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self._artifacts_uri = artifacts_uri
        self._experiment_id: str | None = None
        with speaking(tracking_uri):
            _check_database(tracking_uri)
            self._client = MlflowClient(tracking_uri, tracking_uri)

    # --- identity ---

    @property
    def experiment_id(self) -> str:
        """Return the experiment's id; it is created, with an identity, when the store has none."""
        if self._experiment_id is None:
            with speaking(self.tracking_uri):
                found = self._client.get_experiment_by_name(self.experiment)
                self._experiment_id = found.experiment_id if found else self._create_experiment()
        return self._experiment_id

    def _create_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        tags = {IDENTITY_TAG: secrets.token_hex(16)}
        try:
            return str(self._client.create_experiment(self.experiment, self._artifacts_uri, tags=tags))
        except MlflowException:
            # another process was first; anything else fails again here
            found = self._client.get_experiment_by_name(self.experiment)
            if found is None:
                raise
            return str(found.experiment_id)

    def identity(self) -> str:
        """Return the store's own id: it differs when the store was deleted and made anew, or is another one."""
        with speaking(self.tracking_uri):
            tags = self._client.get_experiment(self.experiment_id).tags
            if IDENTITY_TAG not in tags:
                self._client.set_experiment_tag(self.experiment_id, IDENTITY_TAG, secrets.token_hex(16))
                tags = self._client.get_experiment(self.experiment_id).tags
        return str(tags[IDENTITY_TAG])

    def write_identity(self, path: Path) -> None:
        """Write the identity to a JSON file; one that already says so is left alone."""
        document = {"schema": 1, "identity": self.identity()}
        try:
            if read_json(path) == document:
                return
        except (FileNotFoundError, DamagedFile):
            # written below
            pass
        write_json(path, document)

    def count_experiments(self) -> int:
        """Return how many experiments the store holds; nothing is created."""
        with speaking(self.tracking_uri):
            return len(self._client.search_experiments())

    # --- runs ---

    @contextmanager
    def run(
        self,
        name: str,
        tags: Mapping[str, str] | None = None,
        parent: str | None = None,
        go_on_with: str | None = None,
    ) -> Iterator[Run]:
        """Open a run for the block; it ends as finished, failed or killed as the block does.

        Args:
            name: What people see.
            tags: Tags of the run.
            parent: Id of the run that this one belongs to.
            go_on_with: Id of a run that is opened again in place of a new one; it must be known.
        """
        from mlflow import entities

        with speaking(self.tracking_uri):
            if go_on_with is None:
                wanted = {**(tags or {}), **({PARENT_TAG: parent} if parent else {})}
                created = self._client.create_run(self.experiment_id, tags=wanted, run_name=name)
            else:
                running = entities.RunStatus.to_string(entities.RunStatus.RUNNING)
                self._client.update_run(go_on_with, status=running)
                created = self._client.get_run(go_on_with)
        run = Run(created.info.run_id, self._client, entities)
        status = entities.RunStatus.FAILED
        try:
            yield run
            status = entities.RunStatus.FINISHED
        except KeyboardInterrupt:
            status = entities.RunStatus.KILLED
            raise
        finally:
            with speaking(self.tracking_uri):
                self._client.set_terminated(run.run_id, entities.RunStatus.to_string(status))

    def run_known(self, run_id: str) -> bool:
        """Return whether the store holds that run, not deleted."""
        from mlflow.exceptions import MlflowException

        with speaking(self.tracking_uri):
            try:
                run = self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return False
                raise
        return bool(run.info.lifecycle_stage == "active")

    def find_run(self, tags: Mapping[str, str]) -> str | None:
        """Return the id of the newest run with all these tags."""
        with speaking(self.tracking_uri):
            found = self._client.search_runs([self.experiment_id], filter_string=tag_filter(tags), max_results=1)
        return str(found[0].info.run_id) if found else None

    def log_dataset(self, run_id: str, dataset: Mapping[str, Any], context: str) -> None:
        """Name the data set of a run, from the document dataset.json; `context` is what it was used for."""
        from mlflow import entities

        counts = {key: dataset[key] for key in ("images", "boxes") if key in dataset}
        source = {key: str(dataset.get(key, "")) for key in ("sha256", "split_sha256", "attribution")}
        found = entities.Dataset(
            name=str(dataset["name"]),
            digest=str(dataset["sha256"])[:MAX_DIGEST],
            source_type="ethos",
            source=json.dumps(source),
            profile=json.dumps(counts),
        )
        tags = [entities.InputTag("mlflow.data.context", context)]
        with speaking(self.tracking_uri):
            self._client.log_inputs(run_id, [entities.DatasetInput(found, tags)])

    # --- values that are written once, and texts, of a run ---

    def claim(self, run_id: str, name: str, value: str) -> bool:
        """Set a parameter of a run unless it has another value already; return whether it now has this one.

        MLflow keeps a parameter's first value, whoever writes, so that one of several processes wins.
        """
        from mlflow.exceptions import MlflowException

        with speaking(self.tracking_uri):
            try:
                self._client.log_param(run_id, name, value)
            except MlflowException:
                # anything but another value there already is a failure of the store
                if self.params(run_id).get(name) is None:
                    raise
        return self.params(run_id).get(name) == value

    def params(self, run_id: str) -> dict[str, str]:
        """Return the parameters of a run."""
        with speaking(self.tracking_uri):
            return dict(self._client.get_run(run_id).data.params)

    def put_text(self, run_id: str, name: str, text: str) -> None:
        """Store a text as a file of a run; one of that name is replaced."""
        with speaking(self.tracking_uri):
            self._client.log_text(run_id, text, name)

    def get_text(self, run_id: str, name: str) -> str:
        """Return a text that `put_text` stored; StoreError if there is none."""
        import mlflow.artifacts

        with speaking(self.tracking_uri):
            place = self._client.get_run(run_id).info.artifact_uri
            return str(mlflow.artifacts.load_text(f"{place}/{name}"))

    def recorded(self, run_id: str) -> dict[str, Any] | None:
        """Return what a run recorded, None if the store does not know it.

        Its keys are `name`, `status`, `started` (ISO 8601), `seconds` (None while it is open), `tags`, `params`, and
        `metrics`: for each name the values by step, in the steps' order.
        """
        if not run_id or not self.run_known(run_id):
            return None
        with speaking(self.tracking_uri):
            run = self._client.get_run(run_id)
            histories = {name: self._client.get_metric_history(run_id, name) for name in run.data.metrics}
        return {
            **_headline(run),
            "params": dict(run.data.params),
            "metrics": {
                name: {str(each.step): each.value for each in sorted(history, key=lambda each: each.step)}
                for name, history in sorted(histories.items())
            },
        }

    def unfinished(self) -> list[dict[str, Any]]:
        """Return the headlines of all runs that did not end well, newest first: `name`, `status`, `run_id`, `tags`."""
        wanted = "attributes.status != 'FINISHED'"
        with speaking(self.tracking_uri):
            found = self._client.search_runs([self.experiment_id], filter_string=wanted, max_results=1000)
        return [_headline(run) for run in found]


def open_tracking(experiment: str, root: Path | None = None) -> Tracking:
    """Return the store that MLFLOW_TRACKING_URI names, else the project's embedded one, made when it is missing.

    Args:
        experiment: The experiment's name.
        root: The project's folder; found from the working directory when absent.

    Raises:
        StoreError: It cannot be reached, read or written.
    """
    uri, artifacts = locate(root, create=True)
    return Tracking(uri, experiment, artifacts)


def locate(root: Path | None, create: bool) -> tuple[str, str | None]:
    """Return the tracking URI and where a new experiment keeps artifacts (None: the server decides).

    Raises:
        StoreError: MLFLOW_TRACKING_URI is no address; or the embedded store cannot be written, or is missing and may
            not be made.
    """
    given = given_uri()
    if given.startswith(("http://", "https://", "file:", "databricks")):
        return given, None
    root = (root or project_root()).resolve()
    if given:
        # a database without a server names no place for files; MLflow's own default is the working directory
        return given, embedded.artifacts_uri(root)
    if not create and not embedded.database(root).is_file():
        raise StoreError(f"{embedded.DATABASE}: no registry yet", "fill it: dvc repro")
    if create:
        embedded.check_writable(root)
    embedded.relocate(root)
    return embedded.uri(root), embedded.artifacts_uri(root)


def _check_database(tracking_uri: str) -> None:
    """Connect once to a database server; MLflow would try again for minutes."""
    if not tracking_uri.startswith(DATABASES):
        return
    import sqlalchemy

    engine = sqlalchemy.create_engine(tracking_uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def _import_mlflow(tracking_uri: str) -> None:
    """Import MLflow with our settings and make `tracking_uri` its current one."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow

    # these report every database migration, every version while it is created, and every model while it is saved
    for chatty in ("alembic", "mlflow.store.model_registry.abstract_store", "mlflow.pyfunc"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # these print what is raised as well
    for doubled in ("mlflow.store.db.utils", "urllib3.connectionpool"):
        logging.getLogger(doubled).setLevel(logging.CRITICAL)
    before = os.environ.get(URI_VARIABLE)
    # a version's `models:/` source is looked up in the current store, whatever the client's own is
    mlflow.set_tracking_uri(tracking_uri)
    # MLflow also exports it, which would make the embedded store look like the user's choice
    if before is None:
        os.environ.pop(URI_VARIABLE, None)


def _headline(run: Any) -> dict[str, Any]:
    info = run.info
    return {
        "run_id": info.run_id,
        "name": info.run_name,
        "status": info.status,
        "started": datetime.fromtimestamp(info.start_time / 1000, UTC).isoformat(timespec="seconds"),
        "seconds": (info.end_time - info.start_time) / 1000 if info.end_time else None,
        "tags": {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")},
    }


def _name(name: str) -> str:
    """Return a metric's or parameter's name without the characters that MLflow refuses, such as brackets."""
    return NOT_IN_NAMES.sub("", name)


def _now_ms() -> int:
    return int(time.time() * 1000)


def tag_filter(tags: Mapping[str, str]) -> str:
    """Return the search expression for things with all these tags."""
    return " AND ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
