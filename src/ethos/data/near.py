"""Pictures that look alike: a difference hash for each, and all pairs of hashes within a distance.

The search is exact. Two hashes that differ in at most d bits are equal in at least one of d + 1 bands of bits, so it
compares only hashes that share a band. Where many share one, their other bits are divided into bands again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    Codes = NDArray[np.uint8]
    Pairs = NDArray[np.int64]

HASH_SIDE = 16
BITS = HASH_SIDE * HASH_SIDE
BYTES = BITS // 8
MAX_BAND_BITS = 32
CROWD = 512  # hashes that share a band; from here on dividing them again costs less than comparing all
SAMPLE = 256
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
    yield from _search(columns, words, np.arange(BITS), distance, may_divide=True)


def _search(
    columns: Codes, words: NDArray[np.uint64], bits: NDArray[np.int64], distance: int, *, may_divide: bool
) -> Iterator[tuple[Pairs, NDArray[np.uint8]]]:
    """Yield the near pairs among hashes that agree in all bits but `bits`."""
    count = max(distance + 1, -(-len(bits) // MAX_BAND_BITS))
    # every count-th bit: neighbours in a picture go together, and a band of them would tell less apart
    bands = [bits[start::count] for start in range(count)]
    keys: list[NDArray[np.uint32]] = []
    for band in bands:
        key = _key(columns, band)
        order = np.argsort(key, kind="stable")
        for batch, apart in _sharing(columns, words, key, order, np.setdiff1d(bits, band), distance, may_divide):
            # a pair that shares an earlier band was found there
            new = np.ones(len(batch), dtype=bool)
            for earlier in keys:
                new &= earlier[batch[:, 0]] != earlier[batch[:, 1]]
            if new.any():
                yield np.sort(batch[new], axis=1), apart[new]
        keys.append(key)


def _key(columns: Codes, band: NDArray[np.int64]) -> NDArray[np.uint32]:
    key = np.zeros(columns.shape[1], dtype=np.uint32)
    for bit in band.tolist():
        key = (key << np.uint32(1)) | ((columns[bit // 8] >> np.uint8(7 - bit % 8)) & np.uint8(1))
    return key


def _sharing(
    columns: Codes,
    words: NDArray[np.uint64],
    key: NDArray[np.uint32],
    order: NDArray[np.int64],
    rest: NDArray[np.int64],
    distance: int,
    may_divide: bool,
) -> Iterator[tuple[Pairs, NDArray[np.uint8]]]:
    """Yield the near pairs among hashes with the same key; they agree in all bits but `rest`."""
    ordered = key[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.empty(0, np.int64)
    sizes = np.diff(np.r_[starts, len(ordered)])
    apart = np.zeros(len(ordered), dtype=bool)
    for start, size in zip(starts[sizes > CROWD].tolist(), sizes[sizes > CROWD].tolist(), strict=True):
        members = order[start : start + size]
        if may_divide and not _mostly_alike(words[members], distance):
            apart[start : start + size] = True
            inner = _search(np.ascontiguousarray(columns[:, members]), words[members], rest, distance, may_divide=False)
            for batch, apart_by in inner:
                yield members[batch], apart_by
    yield from _compare(words, ordered, order, np.flatnonzero(~apart), distance)


def _mostly_alike(words: NDArray[np.uint64], distance: int) -> bool:
    """Return whether many pairs of a crowd are near, by comparing hashes spread over it."""
    step = max(len(words) // SAMPLE, 1)
    some = words[: step * SAMPLE : step]
    near = np.bitwise_count(some ^ np.roll(some, 1, axis=0)).sum(axis=1) <= distance
    return float(near.mean()) > ALIKE_SHARE


def _compare(
    words: NDArray[np.uint64],
    ordered: NDArray[np.uint32],
    order: NDArray[np.int64],
    at: NDArray[np.int64],
    distance: int,
) -> Iterator[tuple[Pairs, NDArray[np.uint8]]]:
    """Yield the near pairs by comparing each hash with all others of its key: the next in order, the next but one..."""
    step = 1
    while True:
        at = at[at + step < len(order)]
        at = at[ordered[at] == ordered[at + step]]
        if not len(at):
            return
        first, second = order[at], order[at + step]
        apart = np.bitwise_count(words[first] ^ words[second]).sum(axis=1)
        near = apart <= distance
        if near.any():
            yield np.stack([first[near], second[near]], axis=1), apart[near].astype(np.uint8)
        step += 1
