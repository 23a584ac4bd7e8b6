"""Specs of levels and variants: what is built, and how it is quantized."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from ethos.specs.base import Activation, NamedSpec, Spec


class Level(NamedSpec):
    """An ordered list of steps on a YOLO graph; each step is one mapping `{step_name: {argument: value}}`.

    With `extends`, the steps are appended to those of the named level and `base` is inherited unless it is given.
    """

    base: str | None = None
    extends: str | None = None
    steps: tuple[dict[str, dict[str, Any] | None], ...] = ()

    @model_validator(mode="after")
    def _base_or_extends(self) -> Level:
        if self.base is None and self.extends is None:
            raise ValueError("give 'base', 'extends' or both")
        return self

    @field_validator("steps")
    @classmethod
    def _one_step_each(cls, steps: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        for step in steps:
            if len(step) != 1:
                raise ValueError(f"a step is one name with its arguments, got {sorted(step)}")
        return steps


class Quantize(Spec):
    """Full-integer post-training quantization: int8 input and output."""

    calibration_images: Annotated[int, Field(ge=16)] = 256
    per_channel: bool = True
    max_kib_per_kparameter: Annotated[float, Field(gt=0.0)] = 2.0


class Variant(NamedSpec):
    """A level with an activation, and how it is trained and quantized.

    `recipe` overrides the run's recipe for this variant alone.
    """

    level: str
    activation: Activation
    recipe: str | None = None
    quantize: Quantize = Quantize()
