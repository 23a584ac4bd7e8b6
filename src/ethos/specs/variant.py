"""Specs of levels and variants: what is built, and how it is quantized."""

from __future__ import annotations

from typing import Annotated, Any, Literal

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
    """Full-integer post-training quantization: int8 input and output.

    Attributes:
        converter: What makes the TFLite file: onnx2tf through ONNX and TensorFlow, or litert_torch from PyTorch.
        calibration_images: Training images whose activations set the ranges; all there are if there are fewer.
        calibration_from: A folder of images, or a text file that lists one a line, instead of the training side.
        per_channel: One weight scale for each output channel instead of one for each tensor.
        ranges: How observed activations become a range: all of them, all but the `percentile`, or the range of least
            mean squared error. The network's outputs always keep all of theirs: the largest are what is detected.
        percentile: Share of activations, in per cent, that a range covers at either end; for `ranges: percentile`.
        bias_correction: Take the mean error that rounded weights cause out of the biases.
        keep_float: Layers left in float32, by name or shell pattern, as `ethos quantize --autopsy` names them.
        operators: Kinds of operators that the INT8 file may hold beside the known ones, such as HARD_SWISH.
        max_kib_per_kparameter: Largest INT8 file, in KiB for each thousand parameters.
    """

    converter: Literal["onnx2tf", "litert_torch"] = "onnx2tf"
    calibration_images: Annotated[int, Field(ge=16)] = 256
    calibration_from: str | None = None
    per_channel: bool = True
    ranges: Literal["min_max", "percentile", "mse"] = "min_max"
    percentile: Annotated[float, Field(gt=90.0, lt=100.0)] | None = None
    bias_correction: bool = False
    keep_float: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    max_kib_per_kparameter: Annotated[float, Field(gt=0.0)] = 1.5

    @model_validator(mode="after")
    def _percentile_where_used(self) -> Quantize:
        if (self.percentile is not None) != (self.ranges == "percentile"):
            raise ValueError("'percentile' and 'ranges: percentile' go together")
        return self


class Variant(NamedSpec):
    """A level with an activation, and how it is trained and quantized.

    `recipe` overrides the run's recipe for this variant alone.
    """

    level: str
    activation: Activation
    recipe: str | None = None
    quantize: Quantize = Quantize()
