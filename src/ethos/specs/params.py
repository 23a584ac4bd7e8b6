"""What a run varies: params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from ethos.specs.base import Form, Fraction, Positive, Spec


class ProtocolParams(Spec):
    """Post-processing of every score in a run."""

    conf: Fraction = 0.001
    iou: Fraction = 0.7
    max_det: Positive = 300


class RegistryParams(Spec):
    """Names in MLflow."""

    model_name: str = "traffic-sign-detector"
    experiment: str = "ethos"


class Params(Spec):
    """What a run varies (params.yaml). `pruned` are the variants that also have a pruned form."""

    dataset: str
    recipe: str
    seed: Annotated[int, Field(ge=0)] = 0
    variants: Annotated[tuple[str, ...], Field(min_length=1)]
    pruned: tuple[str, ...] = ()
    # variants whose recipe names a teacher, each with that teacher
    students: Annotated[dict[str, str], Field(default_factory=dict)]
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    protocol: ProtocolParams = ProtocolParams()
    registry: RegistryParams = RegistryParams()

    @model_validator(mode="after")
    def _students_and_teachers_are_variants(self) -> Params:
        for student, teacher in self.students.items():
            for name in (student, teacher):
                if name not in self.variants:
                    raise ValueError(f"students: '{name}' is not among the variants")
            if student == teacher:
                raise ValueError(f"students: '{student}' cannot be its own teacher")
        return self

    @model_validator(mode="after")
    def _pruned_are_variants(self) -> Params:
        if strangers := [name for name in self.pruned if name not in self.variants]:
            raise ValueError(f"pruned: '{strangers[0]}' is not among the variants")
        return self

    @property
    def candidates(self) -> tuple[tuple[str, Form], ...]:
        """Return what is quantized, analyzed, evaluated and registered: every variant, then the pruned forms."""
        dense: tuple[tuple[str, Form], ...] = tuple((variant, "dense") for variant in self.variants)
        return dense + tuple((variant, "pruned") for variant in self.pruned)
