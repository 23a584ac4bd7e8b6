"""The split into train and val: related images are found, grouped, and kept on one side.

Two images with the same value of any key of `KEYS`, or with nearly the same look, are related, and so are those that
relate to a common third. The split then divides groups, not images, so that each class comes close to the wanted share
on both sides. Groups with images of an earlier version keep their side.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethos.data.near import codes_of, near_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ethos.data.manifest import Side
    from ethos.specs import Split

    Keys = list[Hashable | None]

PLACE_BITS = 40  # an image's place in the lower bits of a number, its distance in the higher ones
ROBOFLOW_MARK = ".rf."
MISSING_CLASS_COST = 1000.0  # more than all deviations together can cost
IMAGE_COST = 50.0  # the share of images has a tolerance, those of classes need only be close
MAX_MOVES = 300
PAIRS_TRIED = 16
NO_GAIN = 1e-12


@dataclass(frozen=True)
class Item:
    """What the split knows of an image: its name, the hash of its bytes, each box's class, its difference hash."""

    name: str
    sha256: str
    classes: tuple[int, ...]
    look: str = ""


# --- keys: images that share one are related -------------------------------------------------------------------------


def by_bytes(items: Sequence[Item], split: Split) -> Keys:  # noqa: ARG001 - one signature for all keys
    """The same file."""
    return [item.sha256 for item in items]


def by_name(items: Sequence[Item], split: Split) -> Keys:  # noqa: ARG001 - one signature for all keys
    """The same original picture: Roboflow names each augmented copy NAME.rf.HASH."""
    return [name if mark else None for name, mark, _ in (item.name.partition(ROBOFLOW_MARK) for item in items)]


def by_track(items: Sequence[Item], split: Split) -> Keys:
    """The same track or sequence: all named groups of the spec's `track` expression are equal."""
    if split.track is None:
        return [None] * len(items)
    pattern = re.compile(split.track)
    return [found and tuple(found.groupdict().values()) for found in (pattern.search(item.name) for item in items)]


KEYS: dict[str, Callable[[Sequence[Item], Split], Keys]] = {
    "bytes": by_bytes,
    "name": by_name,
    "track": by_track,
}


NEAR = "near"
RELATIONS = (*KEYS, NEAR)


# --- groups ----------------------------------------------------------------------------------------------------------


def group(items: Sequence[Item], split: Split) -> list[str]:
    """Return each image's group: the name of the group's first image in the order of names."""
    parents = list(range(len(items)))

    def root(member: int) -> int:
        while parents[member] != member:
            parents[member] = parents[parents[member]]
            member = parents[member]
        return member

    looks = _Looks(items, split)
    for keys in (*(key(items, split) for key in KEYS.values()), looks.keys):
        first: dict[Hashable, int] = {}
        for member, key in enumerate(keys):
            if key is not None:
                parents[root(member)] = root(first.setdefault(key, member))
    for pairs, _ in looks.pairs():
        for one, other in pairs.tolist():
            parents[root(looks.first[one])] = root(looks.first[other])
    heads: dict[int, str] = {}
    for member, item in enumerate(items):
        head = root(member)
        heads[head] = min(heads.get(head, item.name), item.name)
    return [heads[root(member)] for member in range(len(items))]


def counterparts(
    items: Sequence[Item],
    sides: Sequence[Side],
    relation: str,
    split: Split,
    held: Side = "val",
    against: Sequence[Side] = ("train",),
) -> list[int | None]:
    """Return for each image on the side `held` the place of one that it is related to on the sides `against`.

    Args:
        items: The images.
        sides: Their sides.
        relation: One of `RELATIONS`; by look it is the nearest image.
        split: The spec of the split.
        held: The side whose images are asked for; others have None.
        against: The sides to look for a related image.
    """
    if relation == NEAR:
        found = _nearest(items, [side in against for side in sides], split)
    else:
        keys = KEYS[relation](items, split)
        seen: dict[Hashable, int] = {}
        for place, (key, side) in enumerate(zip(keys, sides, strict=True)):
            if key is not None and side in against:
                seen.setdefault(key, place)
        found = [seen.get(key) for key in keys]
    return [place if side == held else None for place, side in zip(found, sides, strict=True)]


class _Looks:
    """The different difference hashes of images; nothing where the split does not ask for them.

    Attributes:
        keys: For each image its hash, or None.
        different: The different hashes, in order.
        first: For each of them the place of its first image.
    """

    def __init__(self, items: Sequence[Item], split: Split) -> None:
        self.near = split.near
        self.keys: Keys = [item.look or None if split.near is not None else None for item in items]
        places: dict[str, int] = {}
        for place, key in enumerate(self.keys):
            if key is not None:
                places.setdefault(str(key), place)
        self.different = sorted(places)
        self.first = [places[look] for look in self.different]

    def pairs(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Yield pairs of different hashes that are near, as places in `different`, with their distances."""
        if self.near is not None and self.different:
            yield from near_pairs(codes_of(self.different), self.near)


def _nearest(items: Sequence[Item], targets: Sequence[bool], split: Split) -> list[int | None]:
    """Return for each image the place of the target image that looks most like it, if one is near; itself counts."""
    looks = _Looks(items, split)
    index = {look: place for place, look in enumerate(looks.different)}
    own = np.full(len(looks.different), -1)
    for place in reversed(range(len(items))):
        if targets[place] and looks.keys[place] is not None:
            own[index[str(looks.keys[place])]] = place
    # distance first, then place: one number that `minimum` can compare
    far = np.iinfo(np.int64).max
    best = np.where(own >= 0, own, far)
    for pairs, apart in looks.pairs():
        for here, there in ((0, 1), (1, 0)):
            reach = own[pairs[:, there]] >= 0
            value = (apart[reach].astype(np.int64) << PLACE_BITS) + own[pairs[reach, there]]
            np.minimum.at(best, pairs[reach, here], value)
    mask = (1 << PLACE_BITS) - 1
    return [
        None if key is None or best[index[str(key)]] == far else int(best[index[str(key)]]) & mask for key in looks.keys
    ]


# --- division --------------------------------------------------------------------------------------------------------


def divide(
    items: Sequence[Item],
    groups: Sequence[str],
    classes: int,
    split: Split,
    fixed: Mapping[str, Side] | None = None,
) -> list[Side]:
    """Return each image's side, the same for all images of a group; groups in `fixed` have theirs already.

    Groups are placed one by one, those with the rarest classes and the most images first, each where it brings the
    counts of images and of boxes closer to their goals; then groups move, one or two at a time, as long as that helps.
    The order among equals comes from `split.seed`. A class in two groups or more comes on both sides wherever moving
    a group or two can bring that about.
    """
    names = sorted(set(groups))
    counts = _count(items, groups, names, classes)
    goal = counts.sum(axis=0) * split.val_fraction
    cost = _Cost(counts, goal)
    kept = dict(fixed or {})
    free = np.array([name not in kept for name in names])
    in_val = np.array([kept.get(name) == "val" for name in names])
    placed, val = counts[~free].sum(axis=0), counts[in_val].sum(axis=0)
    for place in _order(names, counts, split.seed):
        if not free[place]:
            continue
        placed += counts[place]
        both = np.stack([val, val + counts[place]])
        in_val[place] = bool(np.argmin(cost.deviation(both, placed * split.val_fraction)))
        val = both[int(in_val[place])]
    _improve(in_val, counts, cost, free)
    chosen = {name for name, here in zip(names, in_val, strict=True) if here}
    return ["val" if name in chosen else "train" for name in groups]


def _count(items: Sequence[Item], groups: Sequence[str], names: list[str], classes: int) -> NDArray[np.float64]:
    """Return [groups, 1 + classes]: images, then boxes of each class; classes out of range are left to the checks."""
    index = {name: place for place, name in enumerate(names)}
    counts = np.zeros((len(names), 1 + classes))
    for item, name in zip(items, groups, strict=True):
        row = counts[index[name]]
        row[0] += 1
        for kind in item.classes:
            if 0 <= kind < classes:
                row[1 + kind] += 1
    return counts


class _Cost:
    """How far a division is from its goal; every method takes val's counts [n, 1 + classes] and returns [n]."""

    def __init__(self, counts: NDArray[np.float64], goal: NDArray[np.float64]) -> None:
        self.goal = goal
        self.total = counts.sum(axis=0)
        self.divisible = (counts > 0).sum(axis=0) >= 2
        self.weight = np.where(np.arange(len(goal)) == 0, IMAGE_COST, 1.0)

    def deviation(self, val: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float64]:
        """Squared distance from a goal, in shares of the final goal."""
        off = (val - goal) / np.maximum(self.goal, 1.0)
        squared: NDArray[np.float64] = (self.weight * off**2).sum(axis=1)
        return squared

    def __call__(self, val: NDArray[np.float64]) -> NDArray[np.float64]:
        """Deviation from the final goal, and a high price for each class that could be on both sides and is not."""
        missing = (self.divisible & ((val == 0) | (val == self.total))).sum(axis=1)
        total: NDArray[np.float64] = self.deviation(val, self.goal) + MISSING_CLASS_COST * missing
        return total


def _order(names: list[str], counts: NDArray[np.float64], seed: int) -> list[int]:
    """Return the groups with the rarest classes first, the largest of those first, equals shuffled by the seed."""
    boxes = counts[:, 1:]
    totals = np.where(boxes > 0, boxes.sum(axis=0), np.inf)
    rarest = totals.min(axis=1, initial=np.inf)
    # a hash of the name rather than a shuffle: the order of old groups does not change when new ones come
    lots = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in names]
    return sorted(range(len(names)), key=lambda place: (rarest[place], -counts[place, 0], lots[place]))


def _improve(in_val: NDArray[np.bool_], counts: NDArray[np.float64], cost: _Cost, free: NDArray[np.bool_]) -> None:
    """Move free groups to the other side, one or two at a time and the best move first, until none helps."""
    if not free.any():
        return
    val = counts[in_val].sum(axis=0)
    now = float(cost(val[None])[0])
    for _ in range(MAX_MOVES):
        steps = np.where(in_val[:, None], -counts, counts)
        costs = np.where(free, cost(val + steps), np.inf)
        first = int(np.argmin(costs))
        move, best = [first], float(costs[first])
        if best >= now - NO_GAIN:
            move, best = _best_pair(val, steps, costs, cost, free)
        if best >= now - NO_GAIN:
            return
        in_val[move] = ~in_val[move]
        val, now = val + steps[move].sum(axis=0), best


def _best_pair(
    val: NDArray[np.float64],
    steps: NDArray[np.float64],
    costs: NDArray[np.float64],
    cost: _Cost,
    free: NDArray[np.bool_],
) -> tuple[list[int], float]:
    """Return the best pair of moves found, such as a swap, with its cost; the first is one of the best single moves."""
    pairs = []
    for first in np.argsort(costs, kind="stable")[:PAIRS_TRIED].tolist():
        both = np.where(free, cost(val + steps[first] + steps), np.inf)
        both[first] = np.inf
        second = int(np.argmin(both))
        pairs.append(([first, second], float(both[second])))
    return min(pairs, key=lambda pair: pair[1])
