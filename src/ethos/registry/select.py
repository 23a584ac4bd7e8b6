"""Which version serves a scenario: a pure function of the versions and the policy."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from ethos.errors import NothingSelectable, SpecError
from ethos.evaluation.protocol import Protocol, require_same
from ethos.registry.policy import COSTS, Gate, cost, gates, objective_figure, objective_text, parse_gate, ranked, show
from ethos.registry.records import PROTOCOL_DOCUMENT_TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethos.registry.records import VersionRecord
    from ethos.specs import Scenario


@dataclass(frozen=True)
class Rejection:
    """A version that fails a gate; `gate` is the first one it fails, `value` None if the figure was not recorded."""

    version: int
    variant: str
    form: str
    gate: str
    value: float | None
    limit: float

    def document(self) -> dict[str, Any]:
        """Return the rejection as a JSON document."""
        return asdict(self)


@dataclass(frozen=True)
class Decision:
    """The version that serves a scenario.

    Attributes:
        by: `pin` if the pinned variant passed its gates, else `objective`.
        reason: Why this one, in one sentence.
        rejected: Every version that fails a gate.
        best: The best version by the objective among those that pass, whatever the pin says.
        tied: Versions that the objective cannot tell apart, within the best one's confidence interval; cheapest first.
        disagreement: Where measurements disagree with the pin, in one sentence with figures; else empty.
    """

    scenario: str
    chosen: VersionRecord
    by: Literal["pin", "objective"]
    reason: str
    rejected: tuple[Rejection, ...]
    best: VersionRecord
    disagreement: str = ""
    tied: tuple[VersionRecord, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return why this version was chosen, as a JSON document."""
        return {
            "by": self.by,
            "reason": self.reason,
            "disagreement": self.disagreement,
            "tied": [record.version for record in self.tied],
            "rejected": [rejection.document() for rejection in self.rejected],
        }


class NothingPasses(NothingSelectable):
    """No version passes; `rejected` says for each which gate it fails."""

    def __init__(self, message: str, fix: str, rejected: tuple[Rejection, ...] = ()) -> None:
        """Keep the rejections beside the text."""
        super().__init__(message, fix)
        self.rejected = rejected


def failing(record: VersionRecord, wanted: Sequence[Gate], target: str) -> list[Rejection]:
    """Return the gates that a version fails, in the policy's order."""
    values = [(gate, gate.value(record, target)) for gate in wanted]
    return [
        Rejection(record.version, record.variant, record.form, gate.text, value, gate.limit)
        for gate, value in values
        if not gate.holds(value)
    ]


def decide(name: str, scenario: Scenario, records: Sequence[VersionRecord]) -> Decision:
    """Return which of the versions serves a scenario.

    The pin decides among the versions that pass all gates; if none of the pinned variant passes, the objective decides
    among the others. Among several of one variant, its forms or its trainings, the objective decides, see `ranked`.

    Args:
        name: The scenario's name.
        scenario: Its pin, gates, target and objective.
        records: Ready versions, all scored under one protocol.

    Raises:
        NothingPasses: No version passes; the message holds the nearest miss.
        SpecError: A gate cannot be read or names an unknown figure, or the versions were scored under different
            protocols.
    """
    records = sorted(records, key=lambda record: record.version)
    same_protocol(records)
    wanted = gates(name, scenario)
    failures = {record.version: failing(record, wanted, scenario.target) for record in records}
    rejected = tuple(failed[0] for failed in failures.values() if failed)
    passing, tied = ranked([record for record in records if not failures[record.version]], scenario)
    if not passing:
        raise NothingPasses(
            _nearest_miss(name, list(failures.values())),
            "train longer or relax that gate in registry/policy.yaml, then: dvc repro",
            rejected,
        )
    pinned, tied_pinned = ranked([record for record in passing if record.variant == scenario.pin], scenario)
    best, chosen = passing[0], (pinned or passing)[0]
    return Decision(
        scenario=name,
        chosen=chosen,
        by="pin" if pinned else "objective",
        reason=_pin_reason(scenario, pinned, tied_pinned)
        if pinned
        else _reason(scenario, passing, tied, failures, records),
        rejected=rejected,
        best=best,
        disagreement=_disagreement(scenario, chosen, best, tied) if pinned and best.variant != scenario.pin else "",
        tied=tuple(tied),
    )


def comparable(records: Sequence[VersionRecord]) -> tuple[list[VersionRecord], list[VersionRecord]]:
    """Return the versions scored under the newest version's protocol, and the others."""
    newest = max(records, key=lambda record: record.version).protocol_sha256
    same = [record for record in records if record.protocol_sha256 == newest]
    return same, [record for record in records if record.protocol_sha256 != newest]


def same_protocol(records: Sequence[VersionRecord]) -> None:
    """Raise SpecError unless all versions were scored under one protocol; it says which field differs."""
    for record in records[1:]:
        if record.protocol_sha256 != records[0].protocol_sha256:
            try:
                require_same(_protocol(records[0]), _protocol(record))
            except SpecError as error:
                where = f"{records[0].label} and {record.label}"
                raise SpecError(f"{where}: {error.message}", error.fix) from None


def _protocol(record: VersionRecord) -> Protocol:
    return Protocol.from_document(json.loads(record.tags.get(PROTOCOL_DOCUMENT_TAG, "{}")))


def _pin_reason(scenario: Scenario, pinned: list[VersionRecord], tied: list[VersionRecord]) -> str:
    reason = f"{scenario.pin} is pinned (declared) and passes all {len(scenario.gates)} gates"
    return f"{reason}; of its {len(pinned)} versions, {_tie_words(scenario, tied)}" if tied else reason


def _reason(
    scenario: Scenario,
    passing: list[VersionRecord],
    tied: list[VersionRecord],
    failures: dict[int, list[Rejection]],
    records: Sequence[VersionRecord],
) -> str:
    """Return why the objective decided instead of the pin."""
    pinned = [failures[record.version][0] for record in records if record.variant == scenario.pin]
    if pinned:
        cause = f"the pinned {scenario.pin} fails {_told(pinned[-1])}"
    else:
        cause = f"no version of the pinned {scenario.pin} is registered"
    if tied:
        return f"{cause}; of those that pass, {_tie_words(scenario, tied)}"
    return f"{cause}; {passing[0].variant} has the {objective_text(scenario)} of those that pass"


def _tie_words(scenario: Scenario, tied: list[VersionRecord]) -> str:
    others = ", ".join(str(record.version) for record in tied[1:])
    name = objective_figure(scenario)
    return f"version {tied[0].version} is the cheapest; {name} of version {others} is within the confidence interval"


def _disagreement(scenario: Scenario, chosen: VersionRecord, best: VersionRecord, tied: list[VersionRecord]) -> str:
    objective = scenario.objective
    mine, theirs = chosen.figures_for(scenario.target), best.figures_for(scenario.target)
    if chosen in tied:
        if cost(chosen, scenario) == cost(best, scenario):
            return ""
        names, verb = [*COSTS], "is a tie within the confidence interval, and cheaper is"
    else:
        # where the objective itself is a tie, the tie-break is what separates the two
        names, verb = [name for name in (objective_figure(scenario), objective.tie_break) if name], ""
    told = next((name for name in names if mine.get(name) != theirs.get(name)), names[0])
    verb = verb or ("prefers" if told == names[0] else "is a tie, and its tie-break prefers")
    return (
        f"the objective ({objective_text(scenario)}) {verb} {best.label}: "
        f"{told} {show(told, theirs.get(told))} against {show(told, mine.get(told))} of the pinned {chosen.label}"
    )


def _nearest_miss(name: str, failures: list[list[Rejection]]) -> str:
    if not failures:
        return f"nothing to select for '{name}': no ready version"
    nearest = min(failures, key=lambda failed: (len(failed), max(_miss(rejection) for rejection in failed)))
    told = max(nearest, key=_miss)
    more = f", and {len(nearest) - 1} more" if len(nearest) > 1 else ""
    return (
        f"no version passes the gates of '{name}'; nearest: version {told.version} ({told.variant}, {told.form}) "
        f"fails {_told(told)}{more}"
    )


def _miss(rejection: Rejection) -> float:
    """Return how far a figure is from its limit, as a share of the limit."""
    if rejection.value is None:
        return float("inf")
    return abs(rejection.value - rejection.limit) / max(abs(rejection.limit), 1e-9)


def _told(rejection: Rejection) -> str:
    """Return the gate with the figure that fails it."""
    if rejection.value is None:
        return f"{rejection.gate} (not recorded)"
    return f"{rejection.gate} with {show(parse_gate(rejection.gate).figure, rejection.value)}"
