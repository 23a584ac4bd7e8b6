"""Images of a side that have a relative among the training images, and scores without them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ethos import catalog
from ethos.data.check import as_it_is
from ethos.data.image import see
from ethos.data.manifest import MANIFEST_FILE
from ethos.data.split import RELATIONS, Item, counterparts
from ethos.errors import SpecError
from ethos.evaluation.bootstrap import Draws
from ethos.evaluation.matching import match
from ethos.evaluation.metrics import score
from ethos.evaluation.samples import Sample, SampleSet, load_samples
from ethos.files import sha256_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ethos.evaluation.evaluate import Scored
    from ethos.specs import Split

ANY = "any"
TRAIN = "train"
WHY = "related to a training image"


def related(data: SampleSet) -> dict[str, frozenset[Path]]:
    """Return the images that have a relative in train: by each relation of the split guard, and by any of them.

    The track expression and the distance of looks are those of the data set's spec, or of the first spec with the same
    classes.

    Raises:
        SpecError: The images are the training side itself.
        DataError: There is no training side.
    """
    if data.split == TRAIN:
        raise SpecError("'train' is what leaks are found against", "score another side, such as val")
    split = _split_of(data)
    samples = [*data.samples, *load_samples(data.root, TRAIN).samples]
    with ThreadPoolExecutor() as pool:
        items = list(pool.map(_item, samples))
    count = len(data.samples)
    sides = ["val" if place < count else "train" for place in range(len(samples))]
    found: dict[str, frozenset[Path]] = {}
    for relation in RELATIONS:
        places = counterparts(items, sides, relation, split)  # type: ignore[arg-type]  # two of the sides' literals
        found[relation] = frozenset(samples[place].image for place in range(count) if places[place] is not None)
    found[ANY] = frozenset().union(*found.values())
    return found


def _split_of(data: SampleSet) -> Split:
    if (data.root / MANIFEST_FILE).is_file():
        return catalog.load("dataset", data.dataset).split
    return as_it_is(data.root.parent, None).split


def _item(sample: Sample) -> Item:
    classes = tuple(int(number) for number in sample.labels[:, 0])
    return Item(sample.image.name, sha256_file(sample.image), classes, see(sample.image).look)


def leak_scores(scored: Scored, leaks: Mapping[str, frozenset[Path]]) -> dict[str, dict[str, Any]]:
    """Return for each relation how many images have a relative in train, and the scores without them.

    Means run over the classes that are left, whose number stands beside them. Figures are None where no image is left.
    """
    answer: dict[str, dict[str, Any]] = {}
    for relation, images in leaks.items():
        pairs = zip(scored.data.samples, scored.found, strict=True)
        kept = [result for sample, result in pairs if sample.image not in images]
        entry: dict[str, Any] = {"related": len(scored.found) - len(kept), "images": len(kept)}
        answer[relation] = entry | (_scores(kept, scored) if kept else {"classes": 0, "map50": None, "map50_95": None})
    return answer


def _scores(kept: list[Any], scored: Scored) -> dict[str, Any]:
    names, matches = scored.data.names, match(kept)
    figures = score(kept, names, matches)
    draws = Draws(matches, len(names), scored.draws.resamples, scored.draws.seed)
    classes = sum(entry.boxes > 0 for entry in figures.per_class)
    return {
        "classes": classes,
        "map50": figures.map50,
        "map50_95": figures.map50_95,
        "intervals": draws.document(),
    }
