"""What the project declares: every spec, what they name, the data set, and the starting weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ethos import catalog
from ethos.doctor.finding import Finding, Subject
from ethos.errors import DataError, EthosError, ModelError
from ethos.files import read_json
from ethos.specs import ArchiveSource, DrawnSource, FolderSource, UrlSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ethos.catalog import Kind
    from ethos.specs import Dataset

UNREAD = "not checked, since params.yaml cannot be read"
SECONDS = 5.0


def specs(subject: Subject) -> Iterator[Finding]:  # noqa: ARG001 - every check is called alike
    """Every spec can be read, names others that exist, and the run's plans can be made."""
    broken = 0
    for check in _spec_checks():
        try:
            check()
        except EthosError as error:
            broken += 1
            yield Finding("specs", "error", error.message, error.fix)
    if not broken:
        counts = ", ".join(f"{len(catalog.names(kind))} {kind}s" for kind in catalog.KINDS)
        yield Finding("specs", "ok", f"{counts}, policy and parameters are valid")


def _spec_checks() -> Iterator[Callable[[], object]]:
    from ethos.registry import policy

    readable: set[tuple[Kind, str]] = set()
    for kind in catalog.KINDS:
        for name in catalog.names(kind):
            yield partial(_note, readable, kind, name)
    # what cannot be read has been said; what it names is of no interest then
    for kind, name in sorted(readable):
        if kind in REFERENCES:
            yield partial(REFERENCES[kind], name)
    yield lambda: policy.check(catalog.load_policy())
    yield from _run_checks()


def _note(readable: set[tuple[Kind, str]], kind: Kind, name: str) -> None:
    """Read a spec; note that it could be read."""
    catalog.load(kind, name)
    readable.add((kind, name))


def _run_checks() -> Iterator[Callable[[], object]]:
    """Yield the checks of what params.yaml names."""
    from ethos.plan import start_plan, train_plan

    try:
        params = catalog.load_params()
    except EthosError:
        yield catalog.load_params
        return
    yield partial(start_plan, params)
    for variant in params.variants:
        yield partial(train_plan, params, variant)
    for target in params.targets:
        yield partial(catalog.load, "target", target)


def _level(name: str) -> None:
    from ethos.model.levels import check_steps, resolve_level

    check_steps(resolve_level(name)[1])


def _variant(name: str) -> None:
    variant = catalog.load("variant", name)
    catalog.load("level", variant.level)
    if variant.recipe is not None:
        catalog.load("recipe", variant.recipe)


def _recipe(name: str) -> None:
    weights = catalog.load("recipe", name).weights
    if weights.level is not None:
        catalog.load("level", weights.level)
    if weights.recipe is not None:
        catalog.load("recipe", weights.recipe)


REFERENCES: dict[Kind, Callable[[str], None]] = {"level": _level, "variant": _variant, "recipe": _recipe}


# --- data set and weights --------------------------------------------------------------------------------------------


def dataset(subject: Subject) -> Iterator[Finding]:
    """The data set is materialised, or can be."""
    if subject.params is None:
        yield Finding("data set", "warn", UNREAD, "correct params.yaml")
        return
    spec = catalog.load("dataset", subject.params.dataset)
    record = subject.root / "outputs" / "dataset" / "dataset.json"
    known = read_json(record, "name", "sha256") if record.is_file() else {}
    here = f"materialised (SHA-256 {known['sha256'][:12]})" if known.get("name") == spec.name else ""
    try:
        obtainable = _obtainable(spec)
    except DataError as error:
        # a stage that has run needs its source only when something changes
        detail = f"{spec.name}: {here + ', but ' if here else ''}{error.message}"
        yield Finding("data set", "warn" if here else "error", detail, error.fix)
    else:
        yield Finding("data set", "ok", f"{spec.name}: {here or obtainable}")


def _obtainable(spec: Dataset) -> str:
    """Return how the data set is come by.

    Raises:
        DataError: Its source is not there.
    """
    from ethos.data.data_file import DATA_FILE
    from ethos.data.folder import find_root
    from ethos.data.found import in_project

    match spec.source:
        case DrawnSource():
            return f"{spec.source.images} images are drawn"
        case FolderSource():
            root = find_root(spec.source)
            if spec.source.format == "yolo" and not (root / DATA_FILE).is_file():
                raise DataError(f"{root}: holds no {DATA_FILE}", f"name the folder that holds {DATA_FILE}")
            return f"from {root}"
        case ArchiveSource():
            archive = in_project(spec.source.file)
            if not archive.is_file():
                raise DataError(f"{archive}: no such file", "correct 'source.file' in the data set's spec")
            return f"from {archive}"
        case UrlSource():
            return _answering(spec.source.url)


def _answering(url: str) -> str:
    import requests

    try:
        answer = requests.head(url, timeout=SECONDS, allow_redirects=True)
    except requests.RequestException as error:
        raise DataError(f"{url}: {type(error).__name__}", "connect to the network, or correct the address") from None
    # some servers refuse to give the head alone
    if answer.status_code >= 400 and answer.status_code != requests.codes.not_allowed:
        raise DataError(f"{url}: the server answers {answer.status_code}", "correct the address in the data set's spec")
    return f"from {url}"


def weights(subject: Subject) -> Iterator[Finding]:
    """The weights from which the run's recipe starts are there, or can be made."""
    from ethos.training.start import cached, locate

    if subject.params is None:
        yield Finding("weights", "warn", UNREAD, "correct params.yaml")
        return
    wanted = catalog.load("recipe", subject.params.recipe).weights
    file = Path(wanted.file or "")
    if wanted.source == "official" and not file.is_file() and not cached(file).is_file():
        detail = f"{file} is not here, it is fetched from the network when the run starts"
        yield Finding("weights", "warn", detail, "on a machine without network name a local file in the recipe")
        return
    made = {"scratch": "random", "warm_start": f"trained by the run, recipe {wanted.recipe}"}
    try:
        yield Finding("weights", "ok", made.get(wanted.source) or str(locate(wanted)))
    except ModelError as error:
        here = (subject.root / "outputs" / "start" / "start.json").is_file()
        yield Finding("weights", "warn" if here else "error", error.message, error.fix)
