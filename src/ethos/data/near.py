"""Pictures that look alike: a difference hash for each, and all pairs of hashes within a distance.

The search is exact. If the bits are divided into d + 3 bands, two hashes that differ in at most d bits agree in three
whole bands or more, and two of these are in one half of the bands. So only hashes that agree in two bands of one half
are compared; sorting finds them. Where many do, their other bits are divided again.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    Codes = NDArray[np.uint8]
    Pairs = NDArray[np.int64]
    Words = NDArray[np.uint64]

HASH_SIDE = 16
BITS = HASH_SIDE * HASH_SIDE
BYTES = BITS // 8
HALVES = 2  # a division into more parts would take fewer, but shorter keys
WORD_BITS = 64
CROWD = 512  # hashes that share a key; from here on dividing them again costs less than comparing all
SAMPLE = 256
BATCH = 1 << 18  # pairs
ALIKE_SHARE = 0.02  # where more of a crowd's pairs than this are near, comparing all is what there is to do


def look_of(image: Image.Image) -> str:
    """Return a picture's difference hash (ImageHash's dhash) as 64 hex digits; empty for one without any structure."""
    import imagehash

    found = imagehash.dhash(image, HASH_SIDE)
    return str(found) if found.hash.any() else ""


def codes_of(looks: Sequence[str]) -> Codes:
    """Return hashes given in hex as bytes [n, 32]."""
    return np.frombuffer(bytes.fromhex("".join(looks)), dtype=np.uint8).reshape(-1, BYTES)


def near_pairs(codes: Codes, distance: int) -> Iterator[tuple[Pairs, NDArray[np.uint8]]]:
    """Yield all pairs of hashes that differ in at most `distance` bits, each once, in batches.

    Args:
        codes: Hashes [n, 32] as bytes. Give equal ones once: their pairs grow with the square of their number.
        distance: Bits.

    Yields:
        Places of the pairs [k, 2], the lower first, and their distances [k].
    """
    words = np.ascontiguousarray(codes).view(np.uint64)
    columns = np.ascontiguousarray(codes.T)
    # neighbours in a picture go together, and bands of them would tell less apart
    mixed = np.random.default_rng(0).permutation(BITS)
    yield from _search(columns, words, mixed, distance, may_divide=True)


def _search(
    columns: Codes, words: Words, bits: NDArray[np.int64], distance: int, *, may_divide: bool
) -> Iterator[tuple[Pairs, NDArray[np.uint8]]]:
    """Yield the near pairs among hashes that agree in all bits but `bits`."""
    count = columns.shape[1]
    # a key of two bands and a hash's place are sorted as one number
    widest = (WORD_BITS - max(count - 1, 1).bit_length()) // 2
    chosen = [bits[start :: distance + HALVES + 1][:widest] for start in range(distance + HALVES + 1)]
    bands = [_band(columns, each) for each in chosen]
    masks = [_mask(each) for each in chosen]
    keys = [pair for half in range(HALVES) for pair in combinations(range(half, len(bands), HALVES), 2)]
    for number, (one, other) in enumerate(keys):
        key = (bands[one].astype(np.uint64) << np.uint64(len(chosen[other]))) | bands[other]
        rest = bits[~np.isin(bits, np.concatenate([chosen[one], chosen[other]]))]
        for pairs, apart in _sharing(columns, words, key, rest, distance, may_divide):
            # a pair that agrees in an earlier key's bands was found there
            differing = (words[pairs[:, 0]] ^ words[pairs[:, 1]]).T
            same = [np.bitwise_or.reduce(differing & mask, axis=0) == 0 for mask in masks]
            new = np.ones(len(pairs), dtype=bool)
            for earlier in keys[:number]:
                new &= ~(same[earlier[0]] & same[earlier[1]])
            yield np.sort(pairs[new], axis=1), apart[new]


def _mask(chosen: NDArray[np.int64]) -> Words:
    """Return words [4, 1] in which the chosen bits are set."""
    flags = np.zeros(BITS, dtype=np.uint8)
    flags[chosen] = 1
    return np.packbits(flags).view(np.uint64)[:, None]


def _band(columns: Codes, chosen: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the chosen bits of each hash as a number."""
    band = np.zeros(columns.shape[1], dtype=np.uint32)
    for bit in chosen.tolist():
        band = (band << np.uint32(1)) | ((columns[bit // 8] >> np.uint8(7 - bit % 8)) & np.uint8(1))
    return band


def _sharing(
    columns: Codes,
    words: Words,
    key: Words,
    rest: NDArray[np.int64],
    distance: int,
    may_divide: bool,
) -> Iterator[tuple[Pairs, NDArray[np.uint8]]]:
    """Yield the near pairs among hashes with the same key; they agree in all bits but `rest`."""
    ordered, order = _in_order(key)
    follows = ordered[1:] == ordered[:-1]
    for start, end in _crowds(follows):
        members = order[start:end]
        if may_divide and not _mostly_alike(words[members], distance):
            follows[start : end - 1] = False
            inner = _search(np.ascontiguousarray(columns[:, members]), words[members], rest, distance, may_divide=False)
            yield from ((members[pairs], apart) for pairs, apart in inner)
    yield from _compare(words, order, follows, distance)


def _crowds(follows: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return where runs of more than `CROWD` hashes with one key start and end."""
    edges = np.diff(np.r_[False, follows, False].astype(np.int8))
    starts, lasts = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    large = lasts - starts >= CROWD
    return list(zip(starts[large].tolist(), (lasts[large] + 1).tolist(), strict=True))


def _in_order(key: Words) -> tuple[Words, NDArray[np.int64]]:
    """Return keys in ascending order with their places; sorting plain numbers is many times faster than `argsort`."""
    width = np.uint64(max(len(key) - 1, 1).bit_length())
    numbered = (key << width) | np.arange(len(key), dtype=np.uint64)
    numbered.sort()
    return numbered >> width, (numbered & ((np.uint64(1) << width) - np.uint64(1))).astype(np.int64)


def _mostly_alike(words: Words, distance: int) -> bool:
    """Return whether many pairs of a crowd are near, by comparing hashes spread over it."""
    step = max(len(words) // SAMPLE, 1)
    some = words[: step * SAMPLE : step]
    near = np.bitwise_count(some ^ np.roll(some, 1, axis=0)).sum(axis=1) <= distance
    return float(near.mean()) > ALIKE_SHARE


def _compare(
    words: Words, order: NDArray[np.int64], follows: NDArray[np.bool_], distance: int
) -> Iterator[tuple[Pairs, NDArray[np.uint8]]]:
    """Yield the near pairs by comparing each hash with all others of its key: the next in order, the next but one...

    Args:
        words: The hashes.
        order: Their places, those of one key together.
        follows: For each place in the order but the last, whether the next one has the same key.
        distance: Bits.
    """
    at = np.flatnonzero(follows)
    step = 1
    waiting: list[tuple[Pairs, NDArray[np.uint8]]] = []
    while len(at):
        first, second = order[at], order[at + step]
        apart = np.bitwise_count(words[first] ^ words[second]).sum(axis=1)
        near = apart <= distance
        waiting.append((np.stack([first[near], second[near]], axis=1), apart[near].astype(np.uint8)))
        if sum(len(pairs) for pairs, _ in waiting) > BATCH:
            yield _joined(waiting)
            waiting = []
        at = at[at + step < len(follows)]
        at = at[follows[at + step]]
        step += 1
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[tuple[Pairs, NDArray[np.uint8]]]) -> tuple[Pairs, NDArray[np.uint8]]:
    return np.concatenate([pairs for pairs, _ in batches]), np.concatenate([apart for _, apart in batches])
