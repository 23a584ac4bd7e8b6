"""The policy: scenarios with their pins, gates and objectives."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from ethos.specs.base import Spec

GATE = re.compile(
    r"^(?P<figure>[A-Za-z][\w.-]*)\s*(?P<operator><=|>=|<|>|==)\s*(?P<limit>-?\d+(\.\d+)?)\s*(?P<unit>[A-Za-z%]*)$"
)


class Objective(Spec):
    """The figure that ranks versions, and the one that breaks ties."""

    minimise: str | None = None
    maximise: str | None = None
    tie_break: str | None = None

    @model_validator(mode="after")
    def _one_direction(self) -> Objective:
        if (self.minimise is None) == (self.maximise is None):
            raise ValueError("give exactly one of 'minimise' and 'maximise'")
        return self


class Scenario(Spec):
    """A use of the detector: the variant pinned for it, the gates a version must pass, and the objective.

    A gate reads `FIGURE OPERATOR LIMIT [UNIT]`; `npu.*` figures are those of the scenario's target.
    """

    description: str = ""
    pin: str
    target: str
    gates: tuple[str, ...] = ()
    objective: Objective

    @field_validator("gates")
    @classmethod
    def _gates_parse(cls, gates: tuple[str, ...]) -> tuple[str, ...]:
        for gate in gates:
            if not GATE.match(gate):
                raise ValueError(f"gate '{gate}' does not read FIGURE OPERATOR LIMIT [UNIT], as in 'int8.map50 >= 0.8'")
        return gates


class Policy(Spec):
    """Which version serves which scenario."""

    scenarios: Annotated[dict[str, Scenario], Field(min_length=1)]
