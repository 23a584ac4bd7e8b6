"""The study of one pruning: what it gave, figure by figure, why it ended, and the channels of every layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.pruning.report import CPU, REAL_TIME_FPS
from ethos.registry.candidate import STUDY
from ethos.reporting.blocks import Block, Listing, Picture, Text
from ethos.reporting.figure import ABSENT
from ethos.reporting.pages.common import candidate_name, document_of, table

if TYPE_CHECKING:
    from ethos.registry.records import VersionRecord
    from ethos.reporting.blocks import Cell
    from ethos.reporting.evidence import Evidence
    from ethos.reporting.text_catalog import Texts


class Study:
    """What prune.json of a version tells; `found` is whether it is there, and if not that is noted as missing.

    Args:
        evidence: Where figures are read.
        texts: The language.
        record: A version of a pruned form.
    """

    def __init__(self, evidence: Evidence, texts: Texts, record: VersionRecord) -> None:
        self._evidence, self._texts, self._record = evidence, texts, record
        self._place = f"version/{record.version}/{STUDY}#"
        self._document = document_of(evidence, record, STUDY)
        self.found = bool(self._document)

    @property
    def missing(self) -> Block:
        """Return what a page says when there is no study."""
        return Text(self._texts("study.missing", file=STUDY), "warning")

    @property
    def limit(self) -> float:
        """Return how much mAP50 may fall."""
        return float(self._document["max_map50_drop"])

    def outcome(self) -> Block:
        """Return which step was kept, and why the schedule ended."""
        step, steps = (self._evidence.figure(f"{self._place}{each}", "count") for each in ("kept", "derived/steps"))
        reason = self._evidence.fact(f"{self._place}stopped")
        kept = self._texts.sentence("study.kept", step=step, steps=steps)
        return Text((*kept, " ", *self._texts.sentence("study.stopped", reason=reason)))

    def how(self) -> Block:
        """Return how the figures were taken, and by what they are ranked and marked."""
        facts = {key: self._evidence.fact(f"{self._place}scored/{key}") for key in ("by", "split", "imgsz")}
        limit = self._evidence.figure(f"{self._place}max_map50_drop", "points_given")
        rule = self._texts.sentence("study.rule", limit=limit, threshold=f"{REAL_TIME_FPS:g}")
        return Listing([self._texts.sentence("study.scored", **facts), self._speed(), rule])

    def _speed(self) -> Cell:
        """Return how frames a second were taken."""
        on = self._document["efficiency_on"]
        if on != CPU:
            compiler = self._evidence.fact(f"{self._place}dense/npu/{on}/compiler")
            return self._texts.sentence("study.fps_estimate", compiler=compiler, target=on)
        keys = ("runtime", "cpu", "threads", "batch", "dtype", "runs", "statistic")
        found = {key: self._evidence.fact(f"{self._place}dense/cpu/protocol/{key}") for key in keys}
        return self._texts.sentence("study.fps_measured", **found)

    def table(self) -> Block:
        """Return the study's table: the dense network, and each step as pruned and as trained again."""
        texts, targets = self._texts, list(self._document["dense"]["npu"])
        columns = [texts("v3.model"), texts("figure.parameters"), texts("figure.gmac"), "MB", "mAP50", "FPS"]
        columns += [texts("study.cycles_on", target=target) for target in targets]
        columns += [texts("v3.efficiency"), texts("study.rank"), texts("study.remarks")]
        rows = [self._row(number, row, targets) for number, row in enumerate(self._rows)]
        return table(self._evidence, columns, rows, texts("study.table", on=self._document["efficiency_on"]))

    @property
    def _rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._document["derived"]["rows"]
        return found

    def _row(self, number: int, row: dict[str, Any], targets: list[str]) -> list[Cell]:
        on, derived = self._document["efficiency_on"], f"{self._place}derived/rows/{number}"
        network, score = self._where(number)
        figure = self._evidence.figure
        return [
            self.label(number),
            figure(f"{network}/parameters", "count"),
            figure(f"{network}/macs", "gmac"),
            figure(f"{network}/mb", "mb_fine"),
            figure(score, "score"),
            figure(f"{network}/cpu/fps" if on == CPU else f"{network}/npu/{on}/fps", "fps"),
            *(figure(f"{network}/npu/{target}/cycles", "count") for target in targets),
            figure(f"{derived}/efficiency/{on}", "efficiency"),
            # what is over the accuracy limit has no rank
            figure(f"{derived}/rank", "count", optional=True),
            self._remarks(number, row),
        ]

    def _where(self, number: int) -> tuple[str, str]:
        """Return the locators of a row's figures and of its mAP50: the dense network first, then two rows a step."""
        if number == 0:
            return f"{self._place}dense", f"{self._place}dense/map50"
        iteration = f"{self._place}iterations/{(number - 1) // 2}"
        measured = f"{iteration}/measured"
        return measured, f"{iteration}/pruned_map50" if number % 2 else f"{measured}/map50"

    def label(self, number: int) -> str:
        """Return what a row is called."""
        if number == 0:
            return self._texts("study.dense")
        key = "study.as_pruned" if number % 2 else "study.trained"
        return self._texts(key, step=(number + 1) // 2)

    def _remarks(self, number: int, row: dict[str, Any]) -> str:
        kept = number == 2 * self._document["kept"]
        marks = {
            "study.kept_mark": kept,
            "study.over_limit": not row["within_limit"],
            "study.not_real_time": not row["real_time"],
            "study.pareto": row["pareto"],
        }
        return ", ".join(self._texts(f"{key}") for key, holds in marks.items() if holds) or ABSENT

    def recommendations(self) -> Block:
        """Return which network each scenario should take by the study's rule."""
        numbers = {row["model"]: number for number, row in enumerate(self._rows)}
        rows: list[list[Cell]] = [
            [scenario, self._texts("study.none_real_time") if model is None else self.label(numbers[model])]
            for scenario, model in self._document["derived"]["recommendations"].items()
        ]
        columns = [self._texts("history.scenario"), self._texts("study.recommended")]
        return table(self._evidence, columns, rows, self._texts("study.recommendations"))

    def picture(self) -> Block:
        """Return mAP50 over frames a second."""
        name, on = candidate_name(self._record), self._document["efficiency_on"]
        data = {"title": name, "on": on, "rows": self._rows}
        return Picture(f"v{self._record.version}-pruning", self._texts("picture.pruning", name=name), "pruning", data)

    def channels(self) -> Block:
        """Return input and output channels of every layer before and after."""
        rows: list[list[Cell]] = []
        for number, layer in enumerate(self._document["layers"]):
            place = f"{self._place}layers/{number}"
            ends = [f"{place}/{form}/{end}" for end in (0, 1) for form in ("dense", "pruned")]
            rows.append([layer["name"], *(self._evidence.figure(each, "count") for each in ends)])
        heads = ("layer", "in_before", "in_after", "out_before", "out_after")
        columns = [self._texts(f"study.{head}") for head in heads]
        return table(self._evidence, columns, rows, self._texts("study.channels"))
