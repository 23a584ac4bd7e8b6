"""Specs of levels and variants: what is built, and how it is pruned and quantized."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ethos.specs.base import Activation, Fraction, NamedSpec, Positive, Spec

Importance = Literal["magnitude", "bn_scale", "taylor"]


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
        balance: Scale what a lateral convolution gives, by powers of two and in its readers too, to suit the maps that
            it is joined with. Not done to a network that was trained with rounding.
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
    balance: bool = True
    keep_float: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    max_kib_per_kparameter: Annotated[float, Field(gt=0.0)] = 1.5

    @model_validator(mode="after")
    def _percentile_where_used(self) -> Quantize:
        if (self.percentile is not None) != (self.ranges == "percentile"):
            raise ValueError("'percentile' and 'ranges: percentile' go together")
        return self


class PruneGoal(Spec):
    """What pruning must reach: at most a share of the dense network's quantity, or at most a number.

    Cycles are Vela's estimate for `target`, parameters and MACs are counted, all for the input size of training.
    """

    quantity: Literal["macs", "parameters", "cycles"]
    share: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    at_most: Positive | None = None
    target: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> PruneGoal:
        if (self.share is None) == (self.at_most is None):
            raise ValueError("give exactly one of 'share' and 'at_most'")
        if (self.quantity == "cycles") != (self.target is not None):
            raise ValueError("'target' names the NPU of cycles, and is for nothing else")
        return self


class Prune(Spec):
    """Structured pruning of a trained network.

    Attributes:
        method: Which groups of channels give how many. `cost`: those that save most of the goals' quantities for
            what they lose; `importance`: the least important, whatever they save; `uniform`: all the same share.
        ratio: Share of all channels to remove, instead of goals.
        goals: What must be reached, all of them.
        steps: Iterations, each pruned and trained again; 1 prunes in one go.
        channel_multiple: What is left of a group is a multiple of this.
        max_layer_ratio: Largest share of a group that may go.
        importance: Which of a group's channels go first.
        keep: Layers whose channels stay; a name stands for all layers below it.
        max_map50_drop: Stop when mAP50 has fallen by more.
        efficiency_on: Where frames a second are taken from for mAP50 x FPS / MB: measured on this machine's CPU, or
            Vela's estimate for a target.
        recovery: Recipe by which the pruned network is trained again, instead of the one that its recipe names.
        recovery_rounds: Trainings after each step.
    """

    method: Literal["cost", "importance", "uniform"] = "cost"
    ratio: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    goals: tuple[PruneGoal, ...] = ()
    steps: Positive = 1
    channel_multiple: Annotated[int, Field(ge=1, le=64)] = 16
    max_layer_ratio: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.75
    importance: Importance = "magnitude"
    keep: tuple[str, ...] = ()
    max_map50_drop: Fraction = 0.01
    efficiency_on: str = "cpu"
    recovery: str | None = None
    recovery_rounds: Annotated[int, Field(ge=1, le=2)] = 1

    @model_validator(mode="after")
    def _one_aim(self) -> Prune:
        if (self.ratio is None) == (not self.goals):
            raise ValueError("give exactly one of 'ratio' and 'goals'")
        return self


class Variant(NamedSpec):
    """A level with an activation, and how it is trained, pruned and quantized.

    `recipe` overrides the run's recipe for this variant alone. With `prune` it has a pruned form beside the dense one.
    """

    level: str
    activation: Activation
    recipe: str | None = None
    quantize: Quantize = Quantize()
    prune: Prune | None = None
