"""Which operators of a network the driver of an Ethos-N78 takes.

One function per rule. Its docstring is the sentence that users read when it refuses an operator, with the limits of
n78.yaml in place of the braces; it returns whether it is kept and what was found instead. `RULES` at the foot lists the
rules of each kind of operator, `GENERAL` those of all; a new rule is one function and one line there.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ethos.npu.graph import NO_TENSOR, Graph, Operator, Tensor
from ethos.npu.values import float_values, int_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ethos.npu.n78 import Chip, Quantization

# the numbers of TFLite's schema
SAME, VALID = 0, 1
CLAMPS = frozenset({0, 1, 2, 3})  # none, RELU, RELU_N1_TO_1, RELU6
BATCH, HEIGHT, WIDTH, CHANNEL = range(4)
SCALE_TOLERANCE = 1e-4
ZERO_POINTS = {"INT8": range(-128, 128), "UINT8": range(256)}

Verdict = tuple[bool, str]
KEPT: Verdict = (True, "")


class _MissingError(LookupError):
    """An operand that a rule needs is not there."""


@dataclass(frozen=True)
class Case:
    """An operator of a network on a chip."""

    graph: Graph
    operator: Operator
    chip: Chip
    consumers: Mapping[int, tuple[Operator, ...]]

    def input(self, place: int) -> Tensor:
        """Return an operand."""
        if place >= len(self.operator.inputs) or self.operator.inputs[place] == NO_TENSOR:
            raise _MissingError(f"operand {place} is missing")
        return self.graph.tensors[self.operator.inputs[place]]

    @property
    def inputs(self) -> list[Tensor]:
        """All operands that are there."""
        return [self.graph.tensors[index] for index in self.operator.inputs if index != NO_TENSOR]

    @property
    def variables(self) -> list[Tensor]:
        """The operands that are computed."""
        return [tensor for tensor in self.inputs if not tensor.constant]

    @property
    def variable(self) -> Tensor:
        """The first computed operand."""
        if not self.variables:
            raise _MissingError("it has no computed operand")
        return self.variables[0]

    @property
    def outputs(self) -> list[Tensor]:
        """All results."""
        return [self.graph.tensors[index] for index in self.operator.outputs]

    @property
    def output(self) -> Tensor:
        """The first result."""
        if not self.operator.outputs:
            raise _MissingError("it has no result")
        return self.graph.tensors[self.operator.outputs[0]]

    def option(self, name: str) -> int:
        """Return a whole-number option, 0 if it is absent."""
        return int(self.operator.options.get(name) or 0)


def refusals(graph: Graph, chip: Chip) -> dict[int, str]:
    """Return the reason for each operator that the chip does not take, by the operator's index."""
    consumers: dict[int, list[Operator]] = {}
    for operator in graph.operators:
        for index in operator.inputs:
            consumers.setdefault(index, []).append(operator)
    frozen = {index: tuple(operators) for index, operators in consumers.items()}
    found = ((operator.index, refusal(Case(graph, operator, chip, frozen))) for operator in graph.operators)
    return {index: reason for index, reason in found if reason}


def refusal(case: Case) -> str:
    """Return why an operator is not taken, in one sentence; empty if it is."""
    kind = case.operator.kind
    if case.operator.custom or kind not in RULES:
        return case.chip.unsupported.get(kind, "the driver has no such operator")
    for rule in (*RULES[kind], *GENERAL):
        try:
            kept, found = rule(case)
        except _MissingError as error:
            return str(error)
        if not kept:
            return f"{sentence(rule, case.chip)}: {found}"
    return ""


def sentence(rule: Callable[[Case], Verdict], chip: Chip) -> str:
    """Return a rule's sentence with its limits."""
    return _docstring(rule).format(limits=chip.limits, driver=chip.driver, variant=chip.variant)


@cache
def _docstring(rule: Callable[[Case], Verdict]) -> str:
    return " ".join((inspect.getdoc(rule) or "").split()).rstrip(".")


# --- every operator --------------------------------------------------------------------------------------------------


def eight_bits(case: Case) -> Verdict:
    """Computed tensors are of the types {limits.types}."""
    wrong = [t for t in (*case.variables, *case.outputs) if t.dtype not in case.chip.limits.types]
    return not wrong, wrong[0].dtype if wrong else ""


def rank(case: Case) -> Verdict:
    """Tensors have at most {limits.max_rank} dimensions."""
    wrong = [t for t in (*case.variables, *case.outputs) if len(t.shape) > case.chip.limits.max_rank]
    return not wrong, f"{list(wrong[0].shape)}" if wrong else ""


def one_image(case: Case) -> Verdict:
    """The first dimension of computed tensors, the batch, is 1."""
    wrong = [t for t in (*case.variables, *case.outputs) if t.shape and t.shape[0] != 1]
    return not wrong, f"{list(wrong[0].shape)}" if wrong else ""


def depth(case: Case) -> Verdict:
    """Maps wider than 1 have few enough channels for the SRAM, {limits.depth_bytes_per_channel} bytes each."""
    limit = case.chip.variant.sram_bytes // case.chip.limits.depth_bytes_per_channel
    forms = [_nhwc(t) for t in (*case.variables, *case.outputs)]
    wrong = [form for form in forms if form[WIDTH] != 1 and form[CHANNEL] > limit]
    return not wrong, f"{wrong[0][CHANNEL]} channels, {limit} fit" if wrong else ""


def one_scale(case: Case) -> Verdict:
    """Computed tensors have one scale and one zero point within their type."""
    for tensor in (*case.variables, *case.outputs):
        if len(tensor.scale) != 1 or len(tensor.zero_point) != 1:
            return False, f"{len(tensor.scale)} scales and {len(tensor.zero_point)} zero points"
        if tensor.zero_point[0] not in ZERO_POINTS.get(tensor.dtype, ()):
            return False, f"zero point {tensor.zero_point[0]} of {tensor.dtype}"
    return KEPT


def clamp_only(case: Case) -> Verdict:
    """A fused activation is one of the ReLU family."""
    fused = case.option("fusedActivationFunction")
    return fused in CLAMPS, f"TFLite's activation {fused}"


# --- convolutions ----------------------------------------------------------------------------------------------------


def constant_weights(case: Case) -> Verdict:
    """Weights and bias are constants in the file."""
    computed = [t.name for t in case.inputs[1:] if not t.constant]
    return bool(case.input(1).constant) and not computed, "computed weights"


def full_rank_weights(case: Case) -> Verdict:
    """Weights have four dimensions."""
    return len(case.input(1).shape) == 4, f"{list(case.input(1).shape)}"


def no_groups(case: Case) -> Verdict:
    """A convolution covers all input channels, or is depthwise; other groups are not taken."""
    covered, given, made = case.input(1).shape[CHANNEL], _nhwc(case.input(0))[CHANNEL], _nhwc(case.output)[CHANNEL]
    depthwise = covered == 1 and given == made
    return covered == given or depthwise, f"{given} channels in groups of {covered}"


def kernel_sides(case: Case) -> Verdict:
    """Kernel height and width are among {limits.kernel_sides}."""
    height, width = _kernel(case)
    allowed = case.chip.limits.kernel_sides
    return height in allowed and width in allowed, f"{height}x{width}"


def kernel_square(case: Case) -> Verdict:
    """The kernel is square, and 1x1 only at stride 1."""
    height, width = _kernel(case)
    fine = height == width and (height > 1 or case.option("strideH") == 1)
    return fine, f"{height}x{width} at stride {case.option('strideH')}"


def strides(case: Case) -> Verdict:
    """Strides are equal and among {limits.strides}; stride 2 takes kernels up to {limits.stride_2_max_side}."""
    down, across = case.option("strideH"), case.option("strideW")
    small = down == 1 or max(_kernel(case)) <= case.chip.limits.stride_2_max_side
    fine = down == across and down in case.chip.limits.strides and small
    return fine, f"{down}x{across} with a kernel of {_shown(_kernel(case))}"


def no_dilation(case: Case) -> Verdict:
    """Kernels are not dilated."""
    factors = case.option("dilationHFactor") or 1, case.option("dilationWFactor") or 1
    return factors == (1, 1), _shown(factors)


def depth_multiplier(case: Case) -> Verdict:
    """A depthwise convolution gives one channel for each of its input's, unless the input has a single one."""
    given, made = _nhwc(case.input(0))[CHANNEL], _nhwc(case.output)[CHANNEL]
    return given in (1, made), f"{made} from {given}"


def doubling_stride(case: Case) -> Verdict:
    """A transposed convolution has stride {limits.transpose_conv_stride}."""
    found = case.option("strideH"), case.option("strideW")
    return set(found) == {case.chip.limits.transpose_conv_stride}, _shown(found)


def rescale(case: Case) -> Verdict:
    """Input scale x weight scale / output scale is below {limits.max_rescale}."""
    source = case.input(2) if case.operator.kind == "TRANSPOSE_CONV" else case.input(0)
    one, out = _scale(source), _scale(case.output)
    factors = [one * weight / out for weight in case.input(1).scale]
    return bool(factors) and 0 <= max(factors) < case.chip.limits.max_rescale, f"{max(factors, default=math.nan):g}"


def one_pixel(case: Case) -> Verdict:
    """A fully connected layer takes a map of 1x1."""
    shape = case.input(0).shape
    return math.prod(shape[:-1]) == 1, f"{list(shape)}"


# --- arithmetic ------------------------------------------------------------------------------------------------------


def addition(case: Case) -> Verdict:
    """An addition takes two maps of one shape, a constant a channel, or a scalar that shifts the zero point."""
    if len(case.variables) == 2:
        return _same_shape(case)
    constant, source = _constant(case), case.variable
    if constant.elements == 1:
        shift = _real(constant) / _scale(source)
        moved = source.zero_point[0] - round(shift) if source.zero_point else 0
        kept = math.isclose(_scale(source), _scale(case.output), rel_tol=SCALE_TOLERANCE)
        return kept and case.output.zero_point == (moved,), "a scalar that changes the quantized values"
    return _a_channel(constant, source), f"a constant of {list(constant.shape)}"


def multiplication(case: Case) -> Verdict:
    """A multiplication takes a constant a channel, or a scalar that changes the scale alone."""
    if len(case.variables) == 2 and case.chip.driver.multiply_variables:
        return _same_shape(case)
    if len(case.variables) == 2:
        return False, "two computed maps, which later drivers take"
    constant, source = _constant(case), case.variable
    if constant.elements == 1:
        product = _scale(source) * _real(constant)
        kept = math.isclose(product, _scale(case.output), rel_tol=SCALE_TOLERANCE)
        return kept and source.zero_point == case.output.zero_point, "a scalar that changes the quantized values"
    return _a_channel(constant, source), f"a constant of {list(constant.shape)}"


def small_rescale(case: Case) -> Verdict:
    """Input scale / output scale is below {limits.max_scale_ratio}."""
    ratios = [_scale(source) / _scale(case.output) for source in case.variables]
    return max(ratios, default=0.0) < case.chip.limits.max_scale_ratio, f"{max(ratios, default=0.0):g}"


def leak(case: Case) -> Verdict:
    """A leaky ReLU's slope is between 0 and 1."""
    alpha = float(case.operator.options.get("alpha") or 0.0)
    return 0.0 < alpha < 1.0, f"{alpha:g}"


def sigmoid_output(case: Case) -> Verdict:
    """A sigmoid's output covers 0 to 1: scale {limits.sigmoid.scale} at the type's lowest value."""
    return _is_quantized(case.output, case.chip.limits.sigmoid)


def tanh_output(case: Case) -> Verdict:
    """A tanh's output covers -1 to 1: scale {limits.tanh.scale} around the type's middle."""
    return _is_quantized(case.output, case.chip.limits.tanh)


# --- pooling and resizing --------------------------------------------------------------------------------------------


def max_pool(case: Case) -> Verdict:
    """Max pooling is square, up to 3x3 at stride 2 with the padding its size needs, or at stride 1 (newer drivers)."""
    window, step = _window(case), (case.option("strideH"), case.option("strideW"))
    shown = f"{_shown(window)} at stride {_shown(step)}"
    if window[0] != window[1] or step[0] != step[1]:
        return False, shown
    if step[0] == 1:
        return _pool_stride_1(case, window[0], shown)
    return _pool_stride_2(case, window[0], step[0]), f"{shown} on {_shown(_nhwc(case.input(0))[1:3])}"


def _pool_stride_1(case: Case, side: int, shown: str) -> Verdict:
    if not case.chip.driver.max_pool_stride_1:
        return False, f"{shown}, which later drivers take"
    limits = case.chip.limits
    same = case.option("padding") == SAME
    largest = limits.pool_stride_1_same_side if same else limits.pool_stride_1_valid_side
    # rounded down to the 8 rows of a brick
    fits = case.chip.variant.sram_bytes // 2 // limits.pool_row_bytes // 8 * 8
    return side <= largest and max(_nhwc(case.input(0))[1:3]) <= fits, shown


def _pool_stride_2(case: Case, side: int, step: int) -> bool:
    limits = case.chip.limits
    _, height, width, _ = _nhwc(case.input(0))
    if step != 2 or side not in limits.pool_stride_2 or min(height, width) < side:
        return False
    same = case.option("padding") == SAME
    if side == 2:
        return _both(height, width, odd=same)
    return side == 1 or (_both(height, width, odd=not same) and width <= limits.pool_3x3_max_width)


def average_pool(case: Case) -> Verdict:
    """Average pooling is {limits.average_side} wide and keeps the size, or covers a map of {limits.mean_sides}."""
    limits, window = case.chip.limits, _window(case)
    step = {case.option("strideH"), case.option("strideW")}
    source = _nhwc(case.input(0))
    whole = window == source[1:3] and window[0] == window[1] and window[0] in limits.mean_sides
    small = set(window) == {limits.average_side} and step == {1} and case.option("padding") == SAME
    fits = case.input(0).elements <= case.chip.variant.sram_bytes
    return whole or (small and fits), f"{_shown(window)} on {_shown(source[1:3])}"


def mean(case: Case) -> Verdict:
    """A mean is over height and width of a map whose side is among {limits.mean_sides}."""
    source = case.input(0)
    axes = {axis % len(source.shape) for axis in int_values(case.input(1))} if source.shape else set()
    _, height, width, _ = _nhwc(source)
    fine = axes == {HEIGHT, WIDTH} and height == width and height in case.chip.limits.mean_sides
    return fine, f"axes {sorted(axes)} of {list(source.shape)}"


def resize(case: Case) -> Verdict:
    """Resizing goes to twice the height and width, or one less in both."""
    _, height, width, _ = _nhwc(case.input(0))
    _, tall, wide, _ = _nhwc(case.output)
    fine = (tall, wide) in {(2 * height, 2 * width), (2 * height - 1, 2 * width - 1)}
    return fine, f"{height}x{width} to {tall}x{wide}"


# --- data movement ---------------------------------------------------------------------------------------------------


def not_batch_axis(case: Case) -> Verdict:
    """Concatenations and splits are along height, width or channels."""
    axis = _axis(case)
    return axis in (HEIGHT, WIDTH, CHANNEL), f"axis {axis}"


def channel_multiple(case: Case) -> Verdict:
    """Parts along channels have a multiple of {driver.channel_multiple} of them."""
    parts = case.outputs if case.operator.kind == "SPLIT" else case.variables
    counts = [_nhwc(part)[CHANNEL] for part in parts]
    fine = _axis(case) != CHANNEL or all(count % case.chip.driver.channel_multiple == 0 for count in counts)
    return fine, f"{', '.join(map(str, counts))}"


def padding(case: Case) -> Verdict:
    """Padding is of height and width alone, at most {limits.max_pad} on a side, and keeps the quantization."""
    amounts = int_values(case.input(1))
    pairs = list(zip(amounts[::2], amounts[1::2], strict=False))
    spatial = all(pair == (0, 0) for place, pair in enumerate(pairs) if place not in (HEIGHT, WIDTH))
    small = all(0 <= amount <= case.chip.limits.max_pad for amount in amounts)
    kept = (case.input(0).scale, case.input(0).zero_point) == (case.output.scale, case.output.zero_point)
    return len(pairs) == 4 and spatial and small and kept, f"{[list(pair) for pair in pairs]}"


def padding_place(case: Case) -> Verdict:
    """Padding runs as part of the convolutions that it feeds."""
    if case.chip.driver.pad_alone:
        return KEPT
    users = case.consumers.get(case.output.index, ())
    fine = bool(users) and all(u.kind in PADDED and u.options.get("padding") == VALID for u in users)
    return fine, "it stands alone, which later drivers take"


def transposition(case: Case) -> Verdict:
    """A transposition keeps the batch first, and its map fits the SRAM in one piece, in bricks of {limits.brick}."""
    order = int_values(case.input(1))
    allowed = {"none": False, "unmoved": order == tuple(range(len(order))), "any": bool(order) and order[0] == 0}
    if not allowed[case.chip.driver.transpose]:
        return False, f"order {list(order)} with library {case.chip.driver.library}"
    size = max(_in_bricks(tensor, case.chip.limits.brick) for tensor in (case.input(0), case.output))
    return size <= case.chip.variant.sram_bytes, f"{size} bytes of {case.chip.variant.sram_bytes}"


def unpacking(case: Case) -> Verdict:
    """Depth to space has blocks of {limits.depth_to_space_block} and as many channels as fill them."""
    block = case.option("blockSize")
    channels = _nhwc(case.input(0))[CHANNEL]
    fine = block == case.chip.limits.depth_to_space_block and channels % block**2 == 0
    return fine, f"block {block}, {channels} channels"


# --- parts -----------------------------------------------------------------------------------------------------------


def _nhwc(tensor: Tensor) -> tuple[int, int, int, int]:
    """Return a shape with four dimensions: the driver fills lower ranks up with ones at the end."""
    shape = (*tensor.shape, 1, 1, 1, 1)[: max(4, len(tensor.shape))]
    return shape[0], shape[1], shape[2], shape[3]


def _in_bricks(tensor: Tensor, brick: tuple[int, int, int, int]) -> int:
    """Return the bytes that a map takes where it is stored in whole bricks."""
    return math.prod(math.ceil(size / side) * side for size, side in zip(_nhwc(tensor), brick, strict=True))


def _kernel(case: Case) -> tuple[int, int]:
    shape = _nhwc(case.input(1))
    return shape[HEIGHT], shape[WIDTH]


def _window(case: Case) -> tuple[int, int]:
    return case.option("filterHeight"), case.option("filterWidth")


def _axis(case: Case) -> int:
    """Return the axis of a concatenation or split as a place in NHWC."""
    if case.operator.kind == "SPLIT":
        axis, dimensions = (*int_values(case.input(0)), 0)[0], len(case.input(1).shape)
    else:
        axis, dimensions = case.option("axis"), len(case.output.shape)
    return axis + dimensions if axis < 0 else axis


def _both(height: int, width: int, *, odd: bool) -> bool:
    return height % 2 == width % 2 == int(odd)


def _same_shape(case: Case) -> Verdict:
    shapes = [list(tensor.shape) for tensor in case.variables]
    return shapes[0] == shapes[1], f"{shapes[0]} and {shapes[1]}"


def _constant(case: Case) -> Tensor:
    for tensor in case.inputs:
        if tensor.constant:
            return tensor
    raise _MissingError("it has one operand")


def _a_channel(constant: Tensor, source: Tensor) -> bool:
    return constant.elements == _nhwc(source)[CHANNEL] == (constant.shape or (0,))[-1] and len(source.shape) == 4


def _scale(tensor: Tensor) -> float:
    """Return the scale of a computed tensor; without one no rule about scales can hold."""
    if len(tensor.scale) != 1 or not tensor.scale[0] > 0:
        raise _MissingError(f"'{tensor.name}' has no scale")
    return tensor.scale[0]


def _real(tensor: Tensor) -> float:
    """Return the value of a constant scalar."""
    values = float_values(tensor)
    if not values:
        raise _MissingError(f"'{tensor.name}' has no value that can be read")
    return values[0]


def _is_quantized(tensor: Tensor, wanted: Quantization) -> Verdict:
    fine = math.isclose(_scale(tensor), wanted.scale, rel_tol=SCALE_TOLERANCE)
    zero = tensor.zero_point[0] if tensor.zero_point else None
    return fine and zero == wanted.zero_point.get(tensor.dtype), f"scale {tensor.scale[0]:g}, zero point {zero}"


def _shown(pair: Any) -> str:
    return "x".join(map(str, pair))


# --- the table -------------------------------------------------------------------------------------------------------

PADDED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})
GENERAL = (eight_bits, rank, one_image, depth, one_scale)
_RESCALING = (constant_weights, rescale, clamp_only)
RULES: dict[str, tuple[Callable[[Case], Verdict], ...]] = {
    "ADD": (addition, clamp_only),
    "AVERAGE_POOL_2D": (average_pool, clamp_only),
    "CONCATENATION": (not_batch_axis, channel_multiple, small_rescale, clamp_only),
    "CONV_2D": (full_rank_weights, no_groups, kernel_sides, strides, no_dilation, *_RESCALING),
    "DEPTHWISE_CONV_2D": (
        *(full_rank_weights, kernel_sides, kernel_square, strides, no_dilation, depth_multiplier),
        *_RESCALING,
    ),
    "DEPTH_TO_SPACE": (unpacking,),
    "FULLY_CONNECTED": (one_pixel, *_RESCALING),
    "LEAKY_RELU": (leak,),
    "LOGISTIC": (sigmoid_output,),
    "MAX_POOL_2D": (max_pool, clamp_only),
    "MEAN": (mean,),
    "MUL": (multiplication, clamp_only),
    "PAD": (padding, padding_place),
    "QUANTIZE": (small_rescale,),
    "RELU": (),
    "RELU6": (),
    "RELU_0_TO_1": (),
    "RELU_N1_TO_1": (),
    "RESHAPE": (),
    "RESIZE_BILINEAR": (resize,),
    "RESIZE_NEAREST_NEIGHBOR": (resize,),
    "SPLIT": (not_batch_axis, channel_multiple),
    "TANH": (tanh_output,),
    "TRANSPOSE": (transposition,),
    "TRANSPOSE_CONV": (full_rank_weights, kernel_sides, doubling_stride, constant_weights, rescale, clamp_only),
}
