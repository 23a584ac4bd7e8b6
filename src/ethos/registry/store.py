"""The model registry: versions, aliases, tags and files, in MLflow; beside `ethos.registry.runs` its only importer."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from ethos.catalog import PARAMS_FILE
from ethos.errors import StoreError, unknown
from ethos.registry.faults import speaking
from ethos.registry.records import CANDIDATE, FOLDER, READY, VersionRecord, from_tags
from ethos.registry.runs import Tracking, locate, tag_filter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

LEDGER_RUN_TAG = "ledger.run"
ABOUT_MODEL = (
    "Detectors for Arm Ethos NPUs. An alias names the version that serves a scenario; the ledger, mirrored in the "
    "run that the tag ledger.run names, says why."
)
EXAMPLE_SIDE = 64  # pixels
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # MLflow's codes of what is not there


@dataclass(frozen=True)
class ModelRecord:
    """A registered model: its tags, and the version that each alias points to."""

    name: str
    tags: dict[str, str]
    aliases: dict[str, int]


class Store(Tracking):
    """A tracking store together with its model registry."""

    # --- the model ---

    def model(self, name: str) -> ModelRecord | None:
        """Return a registered model, None if there is none of that name."""
        from mlflow.exceptions import MlflowException

        with speaking(self.tracking_uri):
            try:
                found = self._client.get_registered_model(name)
            except MlflowException as error:
                if error.error_code in ABSENT:
                    return None
                raise
        aliases = {alias: int(version) for alias, version in found.aliases.items()}
        return ModelRecord(name, dict(found.tags or {}), aliases)

    def models(self) -> list[str]:
        """Return the names of the registered models, at most a hundred."""
        with speaking(self.tracking_uri):
            return sorted(model.name for model in self._client.search_registered_models(max_results=100))

    def tag_model(self, name: str, key: str, value: str) -> None:
        """Set a tag of a registered model."""
        with speaking(self.tracking_uri):
            self._client.set_registered_model_tag(name, key, value)

    def ledger_run(self, model: ModelRecord) -> str:
        """Return the run that mirrors the model's ledger; a model made by hand gets one here."""
        if LEDGER_RUN_TAG not in model.tags:
            self.tag_model(model.name, LEDGER_RUN_TAG, self._create_ledger_run(model.name))
        found = self.model(model.name)
        return model.tags.get(LEDGER_RUN_TAG) or (found.tags[LEDGER_RUN_TAG] if found else "")

    def _create_model(self, name: str) -> None:
        """Create a registered model together with its ledger's run; of several processes one does."""
        from mlflow.exceptions import MlflowException

        run_id = self._create_ledger_run(name)
        with speaking(self.tracking_uri):
            try:
                self._client.create_registered_model(name, {LEDGER_RUN_TAG: run_id}, ABOUT_MODEL)
            except MlflowException as error:
                self._client.delete_run(run_id)
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise

    def _create_ledger_run(self, model: str) -> str:
        with self.run(f"promotion ledger of {model}", {"ethos.ledger": model}) as run:
            return run.run_id

    # --- versions ---

    def log_model(self, folder: Path, code: Path, name: str, run_id: str, tags: Mapping[str, str]) -> str:
        """Store a folder of files as a logged pyfunc model; return its id.

        Args:
            folder: The files. Its own name must be `candidate`.
            code: The package that runs them: a folder with a pyfunc.py.
            name: What people see.
            run_id: The run that the model comes from.
            tags: Tags of the logged model.
        """
        import mlflow.pyfunc
        from mlflow.entities import LoggedModelOutput
        from mlflow.models.model import Model

        if folder.name != CANDIDATE:
            raise ValueError(f"the folder must be named {CANDIDATE!r}, got {folder.name!r}")
        with speaking(self.tracking_uri), tempfile.TemporaryDirectory(prefix="ethos-") as temporary:
            logged = self._client.create_logged_model(
                self.experiment_id, name=name, source_run_id=run_id, tags=dict(tags), model_type="detector"
            )
            local = Path(temporary) / "model"
            model = Model(
                artifact_path=logged.artifact_location,
                run_id=run_id,
                model_uuid=logged.model_id,
                model_id=logged.model_id,
            )
            with warnings.catch_warnings():
                # advice about type hints and input examples, for people at a prompt
                warnings.simplefilter("ignore", UserWarning)
                mlflow.pyfunc.save_model(
                    path=str(local),
                    mlflow_model=model,
                    python_model=str(code / "pyfunc.py"),
                    code_paths=[str(code)],
                    artifacts={CANDIDATE: str(folder)},
                    pip_requirements=_requirements(),
                    signature=_signature(),
                    input_example=_input_example(),
                )
            for cache in list(local.rglob("__pycache__")):
                shutil.rmtree(cache)
            self._client.log_model_artifacts(logged.model_id, str(local))
            self._client.finalize_logged_model(logged.model_id, "READY")
            self._client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        return str(logged.model_id)

    def create_version(
        self, model: str, model_id: str, run_id: str, tags: Mapping[str, str], description: str
    ) -> VersionRecord:
        """Register a logged model as the next version of `model`, which is created when it is new."""
        if self.model(model) is None:
            self._create_model(model)
        with speaking(self.tracking_uri):
            version = self._client.create_model_version(
                model,
                source=f"models:/{model_id}",
                run_id=run_id,
                tags=dict(tags),
                description=description,
                model_id=model_id,
            )
        return _record(version)

    def link_version(self, model_id: str, record: VersionRecord) -> None:
        """Name a version in its logged model, where MLflow's pages look for it; a server has done so already."""
        from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

        with speaking(self.tracking_uri):
            named = json.loads(self._client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
            if all((entry["name"], int(entry["version"])) != (record.model, record.version) for entry in named):
                entry = {"name": record.model, "version": str(record.version)}
                self._client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps([*named, entry])})

    def version(self, model: str, version: int) -> VersionRecord:
        """Return a version; StoreError if there is none."""
        found = self.find_version(model, version)
        if found is None:
            raise StoreError(f"'{model}' has no version {version}", "see which there are: ethos select --candidates")
        return found

    def by_alias(self, model: str, alias: str) -> VersionRecord | None:
        """Return the version that an alias points to, None if there is no such alias or model."""
        from mlflow.exceptions import MlflowException

        with speaking(self.tracking_uri):
            try:
                return _record(self._client.get_model_version_by_alias(model, alias))
            except MlflowException as error:
                if error.error_code in ABSENT:
                    return None
                raise

    def find_version(self, model: str, version: int) -> VersionRecord | None:
        """Return a version, None if there is none or it was deleted."""
        from mlflow.exceptions import MlflowException

        with speaking(self.tracking_uri):
            try:
                return _record(self._client.get_model_version(model, str(version)))
            except MlflowException as error:
                if error.error_code in ABSENT:
                    return None
                raise

    def versions(self, model: str, tags: Mapping[str, str] | None = None) -> list[VersionRecord]:
        """Return the versions of a model that have all these tags, oldest first."""
        found = self._all(model, tags)
        return sorted((_record(version) for version in found), key=lambda record: record.version)

    def _all(self, model: str, tags: Mapping[str, str] | None = None) -> list[Any]:
        wanted = " AND ".join(filter(None, [f"name = '{model}'", tag_filter(tags or {})]))
        found: list[Any] = []
        token = None
        with speaking(self.tracking_uri):
            while True:
                page = self._client.search_model_versions(wanted, page_token=token)
                found.extend(page)
                token = page.token
                if not token:
                    return found

    def created(self, model: str) -> dict[int, datetime]:
        """Return when each version of a model was made, in UTC."""
        return {
            int(each.version): datetime.fromtimestamp(each.creation_timestamp / 1000, UTC) for each in self._all(model)
        }

    def ready(self, model: str) -> list[VersionRecord]:
        """Return the ready versions of a model, oldest first.

        Raises:
            SpecError: There is no such model; the nearest names are listed.
            StoreError: It has no ready version.
        """
        records = self.versions(model, {READY: "true"})
        if not records and self.model(model) is None and (known := self.models()):
            raise unknown("model", model, known, where=f"{PARAMS_FILE}: registry.model_name")
        if not records:
            raise StoreError(f"no version of '{model}' is registered", "register some: dvc repro")
        return records

    def tag_version(self, record: VersionRecord, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        with speaking(self.tracking_uri):
            for key, value in tags.items():
                self._client.set_model_version_tag(record.model, str(record.version), key, value)

    def set_alias(self, record: VersionRecord, alias: str) -> None:
        """Let an alias point to a version."""
        with speaking(self.tracking_uri):
            self._client.set_registered_model_alias(record.model, alias, str(record.version))

    def delete_version(self, record: VersionRecord) -> None:
        """Delete a version; its files stay."""
        with speaking(self.tracking_uri):
            self._client.delete_model_version(record.model, str(record.version))

    # --- files of a version ---

    def file_place(self, record: VersionRecord, name: str) -> str:
        """Return where a file of a version lies: a path where the store is on this machine, else a URI."""
        place = self._folder_uri(record)
        local = _local_path(place)
        return str(local / name) if local else f"{place}/{name}"

    def fetch(self, record: VersionRecord, name: str, destination: Path) -> Path:
        """Copy a file of a version to `destination`, which is returned; StoreError if it is not there."""
        place = self.file_place(record, name)
        destination.parent.mkdir(parents=True, exist_ok=True)
        if Path(place).is_absolute():
            if not Path(place).is_file():
                raise StoreError(f"{record.label}: {name} is gone: {place}", "register it again: dvc repro")
            shutil.copyfile(place, destination)
            return destination
        import mlflow.artifacts

        with tempfile.TemporaryDirectory(prefix="ethos-") as temporary, speaking(f"{record.label}: {name}"):
            found = mlflow.artifacts.download_artifacts(
                artifact_uri=place, dst_path=temporary, tracking_uri=self.tracking_uri
            )
            shutil.copyfile(found, destination)
        return destination

    def remote_size(self, record: VersionRecord, name: str) -> int | None:
        """Return the bytes of a file of a version in a store elsewhere, None if it is not there."""
        import mlflow.artifacts

        with speaking(f"{record.label}: {name}"):
            listed = mlflow.artifacts.list_artifacts(
                artifact_uri=self._folder_uri(record), tracking_uri=self.tracking_uri
            )
        sizes = {str(entry.path).rpartition("/")[2]: entry.file_size for entry in listed if not entry.is_dir}
        return None if name not in sizes else int(sizes[name] or 0)

    @contextmanager
    def files(self, record: VersionRecord) -> Iterator[Path]:
        """Give the folder with a version's files for the block; it may be the store's own: read only.

        Raises:
            StoreError: The files are not there.
        """
        place = self._folder_uri(record)
        local = _local_path(place)
        if local is not None:
            if not local.is_dir():
                raise StoreError(f"{record.label}: its files are gone: {local}", "register it again: dvc repro")
            yield local
            return
        import mlflow.artifacts

        with tempfile.TemporaryDirectory(prefix="ethos-") as temporary:
            with speaking(f"{record.label}: {place}"):
                fetched = mlflow.artifacts.download_artifacts(
                    artifact_uri=place, dst_path=temporary, tracking_uri=self.tracking_uri
                )
            yield Path(fetched)

    def _folder_uri(self, record: VersionRecord) -> str:
        with speaking(self.tracking_uri):
            place = self._client.get_model_version_download_uri(record.model, str(record.version))
        return f"{place}/{FOLDER}"


def open_store(root: Path | None = None, experiment: str = "ethos", create: bool = True) -> Store:
    """Return the store that MLFLOW_TRACKING_URI names, else the project's embedded one.

    Args:
        root: The project's folder; found from the working directory when absent.
        experiment: The experiment's name.
        create: Make the embedded store when it is missing.

    Raises:
        StoreError: It cannot be reached, read or written, or is missing and may not be created.
    """
    uri, artifacts = locate(root, create)
    return Store(uri, experiment, artifacts)


def _record(version: Any) -> VersionRecord:
    return from_tags(
        version.name, int(version.version), version.tags or {}, version.run_id or "", tuple(version.aliases or ())
    )


def _local_path(uri: str) -> Path | None:
    parts = urlparse(uri)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(uri) if not parts.scheme else None


def _requirements() -> list[str]:
    """Return what the pyfunc needs, at the versions installed here; given, MLflow does not guess."""
    from importlib.metadata import version

    needed = ("mlflow", "numpy", "pandas", "opencv-python", "ai-edge-litert")
    return [f"{package}=={version(package)}" for package in needed]


def _input_example() -> Any:
    """Return what a server takes: a table with a picture as base64 text, here a grey one."""
    import cv2
    import numpy as np
    import pandas as pd

    _, encoded = cv2.imencode(".png", np.full((EXAMPLE_SIDE, EXAMPLE_SIDE, 3), 128, np.uint8))
    return pd.DataFrame({"image": [base64.b64encode(encoded.tobytes()).decode()]})


def _signature() -> Any:
    """Return the pyfunc's parameters and the table it returns.

    The input is left open: MLflow has no type that takes an array of any size as well as a path.
    """
    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

    columns: Iterable[tuple[str, str]] = (
        ("string", "image"),
        *(("double", name) for name in ("x1", "y1", "x2", "y2", "score")),
        ("long", "class_id"),
        ("string", "class"),
    )
    return ModelSignature(
        outputs=Schema([ColSpec(kind, name) for kind, name in columns]),
        params=ParamSchema(
            [
                ParamSpec("conf", "double", 0.25),
                ParamSpec("iou", "double", 0.7),
                ParamSpec("max_det", "long", 300),
            ]
        ),
    )
