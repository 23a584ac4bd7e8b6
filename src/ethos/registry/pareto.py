"""The Pareto front: versions that no other version beats in accuracy, latency and size at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethos.registry.records import figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethos.registry.records import VersionRecord

AXES = ("int8.map50", "npu.latency_ms", "size.int8_kib")


def front(records: Sequence[VersionRecord], target: str) -> list[VersionRecord]:
    """Return the versions on the front, the most accurate first; those that lack one of the three figures are left out.

    A version is beaten by one that is at least as good in each figure and better in one.
    """
    points = [(costs, record) for record in records if (costs := _costs(record, target)) is not None]
    kept: list[tuple[tuple[float, ...], VersionRecord]] = []
    # whatever beats a version sorts before it
    for costs, record in sorted(points, key=lambda point: (point[0], point[1].version)):
        if not any(_beats(other, costs) for other, _ in kept):
            kept.append((costs, record))
    return [record for _, record in kept]


def _costs(record: VersionRecord, target: str) -> tuple[float, ...] | None:
    """Return the three figures, each so that lower is better."""
    figures = record.figures_for(target)
    if any(name not in figures for name in AXES):
        return None
    return tuple(figures[name] if figure(name).better == "lower" else -figures[name] for name in AXES)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))
