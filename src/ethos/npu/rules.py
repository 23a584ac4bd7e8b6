"""Which operators of a network the driver of an Ethos-N78 takes.

One function per rule. Its docstring is the sentence that users read when it refuses an operator, with the limits of
n78.yaml in place of the braces; it returns whether it is kept and what was found instead. `RULES` at the foot lists the
rules of each kind of operator, `GENERAL` those of all; a new rule is one function and one line there.
"""

from __future__ import annotations

import inspect
import math
from functools import cache
from typing import TYPE_CHECKING

from ethos.npu.case import (
    CHANNEL,
    HEIGHT,
    SCALE_TOLERANCE,
    WIDTH,
    Case,
    MissingError,
    Verdict,
    axis_of,
    both,
    bytes_in_bricks,
    constant_of,
    is_a_channel,
    is_quantized,
    kernel,
    nhwc,
    real_value,
    same_shape,
    scale_of,
    shown,
    window,
)
from ethos.npu.values import int_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethos.npu.graph import Graph, Operator
    from ethos.npu.n78 import Chip

# the numbers of TFLite's schema
SAME, VALID = 0, 1
CLAMPS = frozenset({0, 1, 2, 3})  # none, RELU, RELU_N1_TO_1, RELU6
ZERO_POINTS = {"INT8": range(-128, 128), "UINT8": range(256)}

KEPT: Verdict = (True, "")


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
        except MissingError as error:
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
    forms = [nhwc(t) for t in (*case.variables, *case.outputs)]
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
    source = 2 if case.operator.kind == "TRANSPOSE_CONV" else 0
    rest = [tensor for place, tensor in enumerate(case.inputs) if place != source]
    return case.input(1).constant and all(tensor.constant for tensor in rest), "computed weights"


def full_rank_weights(case: Case) -> Verdict:
    """Weights have four dimensions."""
    return len(case.input(1).shape) == 4, f"{list(case.input(1).shape)}"


def no_groups(case: Case) -> Verdict:
    """A convolution covers all input channels, or is depthwise; other groups are not taken."""
    covered, given, made = case.input(1).shape[CHANNEL], nhwc(case.input(0))[CHANNEL], nhwc(case.output)[CHANNEL]
    depthwise = covered == 1 and given == made
    return covered == given or depthwise, f"{given} channels in groups of {covered}"


def kernel_sides(case: Case) -> Verdict:
    """Kernel height and width are among {limits.kernel_sides}."""
    height, width = kernel(case)
    allowed = case.chip.limits.kernel_sides
    return height in allowed and width in allowed, f"{height}x{width}"


def kernel_square(case: Case) -> Verdict:
    """The kernel is square, and 1x1 only at stride 1."""
    height, width = kernel(case)
    fine = height == width and (height > 1 or case.option("strideH") == 1)
    return fine, f"{height}x{width} at stride {case.option('strideH')}"


def strides(case: Case) -> Verdict:
    """Strides are equal and among {limits.strides}; stride 2 takes kernels up to {limits.stride_2_max_side}."""
    down, across = case.option("strideH"), case.option("strideW")
    small = down == 1 or max(kernel(case)) <= case.chip.limits.stride_2_max_side
    fine = down == across and down in case.chip.limits.strides and small
    return fine, f"{down}x{across} with a kernel of {shown(kernel(case))}"


def no_dilation(case: Case) -> Verdict:
    """Kernels are not dilated."""
    factors = case.option("dilationHFactor") or 1, case.option("dilationWFactor") or 1
    return factors == (1, 1), shown(factors)


def depth_multiplier(case: Case) -> Verdict:
    """A depthwise convolution gives one channel for each of its input's, unless the input has a single one."""
    given, made = nhwc(case.input(0))[CHANNEL], nhwc(case.output)[CHANNEL]
    return given in (1, made), f"{made} from {given}"


def doubling_stride(case: Case) -> Verdict:
    """A transposed convolution has stride {limits.transpose_conv_stride}."""
    found = case.option("strideH"), case.option("strideW")
    return set(found) == {case.chip.limits.transpose_conv_stride}, shown(found)


def rescale(case: Case) -> Verdict:
    """Input scale x weight scale / output scale is below {limits.max_rescale}."""
    source = case.input(2) if case.operator.kind == "TRANSPOSE_CONV" else case.input(0)
    one, out = scale_of(source), scale_of(case.output)
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
        return same_shape(case)
    constant, source = constant_of(case), case.variable
    if constant.elements == 1:
        shift = real_value(constant) / scale_of(source)
        moved = source.zero_point[0] - round(shift) if source.zero_point else 0
        kept = math.isclose(scale_of(source), scale_of(case.output), rel_tol=SCALE_TOLERANCE)
        return kept and case.output.zero_point == (moved,), "a scalar that changes the quantized values"
    return is_a_channel(constant, source), f"a constant of {list(constant.shape)}"


def multiplication(case: Case) -> Verdict:
    """A multiplication takes a constant a channel, or a scalar that changes the scale alone."""
    if len(case.variables) == 2 and case.chip.driver.multiply_variables:
        return same_shape(case)
    if len(case.variables) == 2:
        return False, "two computed maps, which later drivers take"
    constant, source = constant_of(case), case.variable
    if constant.elements == 1:
        product = scale_of(source) * real_value(constant)
        kept = math.isclose(product, scale_of(case.output), rel_tol=SCALE_TOLERANCE)
        return kept and source.zero_point == case.output.zero_point, "a scalar that changes the quantized values"
    return is_a_channel(constant, source), f"a constant of {list(constant.shape)}"


def small_rescale(case: Case) -> Verdict:
    """Input scale / output scale is below {limits.max_scale_ratio}."""
    ratios = [scale_of(source) / scale_of(case.output) for source in case.variables]
    return max(ratios, default=0.0) < case.chip.limits.max_scale_ratio, f"{max(ratios, default=0.0):g}"


def leak(case: Case) -> Verdict:
    """A leaky ReLU's slope is between 0 and 1."""
    alpha = float(case.operator.options.get("alpha") or 0.0)
    return 0.0 < alpha < 1.0, f"{alpha:g}"


def sigmoid_output(case: Case) -> Verdict:
    """A sigmoid's output covers 0 to 1: scale {limits.sigmoid.scale} at the type's lowest value."""
    return is_quantized(case.output, case.chip.limits.sigmoid)


def tanh_output(case: Case) -> Verdict:
    """A tanh's output covers -1 to 1: scale {limits.tanh.scale} around the type's middle."""
    return is_quantized(case.output, case.chip.limits.tanh)


# --- pooling and resizing --------------------------------------------------------------------------------------------


def max_pool(case: Case) -> Verdict:
    """Max pooling is square, up to 3x3 at stride 2 with the padding its size needs, or at stride 1 (newer drivers)."""
    area, step = window(case), (case.option("strideH"), case.option("strideW"))
    found = f"{shown(area)} at stride {shown(step)}"
    if area[0] != area[1] or step[0] != step[1]:
        return False, found
    if step[0] == 1:
        return _pool_stride_1(case, area[0], found)
    return _pool_stride_2(case, area[0], step[0]), f"{found} on {shown(nhwc(case.input(0))[1:3])}"


def _pool_stride_1(case: Case, side: int, found: str) -> Verdict:
    if not case.chip.driver.max_pool_stride_1:
        return False, f"{found}, which later drivers take"
    limits = case.chip.limits
    same = case.option("padding") == SAME
    largest = limits.pool_stride_1_same_side if same else limits.pool_stride_1_valid_side
    # rounded down to the 8 rows of a brick
    fits = case.chip.variant.sram_bytes // 2 // limits.pool_row_bytes // 8 * 8
    return side <= largest and max(nhwc(case.input(0))[1:3]) <= fits, found


def _pool_stride_2(case: Case, side: int, step: int) -> bool:
    limits = case.chip.limits
    _, height, width, _ = nhwc(case.input(0))
    if step != 2 or side not in limits.pool_stride_2 or min(height, width) < side:
        return False
    same = case.option("padding") == SAME
    if side == 2:
        return both(height, width, odd=same)
    return side == 1 or (both(height, width, odd=not same) and width <= limits.pool_3x3_max_width)


def average_pool(case: Case) -> Verdict:
    """Average pooling is {limits.average_side} wide and keeps the size, or covers a map of {limits.mean_sides}."""
    limits, area = case.chip.limits, window(case)
    step = {case.option("strideH"), case.option("strideW")}
    source = nhwc(case.input(0))
    whole = area == source[1:3] and area[0] == area[1] and area[0] in limits.mean_sides
    small = set(area) == {limits.average_side} and step == {1} and case.option("padding") == SAME
    fits = case.input(0).elements <= case.chip.variant.sram_bytes
    return whole or (small and fits), f"{shown(area)} on {shown(source[1:3])}"


def mean(case: Case) -> Verdict:
    """A mean is over height and width of a map whose side is among {limits.mean_sides}."""
    source = case.input(0)
    axes = {axis % len(source.shape) for axis in int_values(case.input(1))} if source.shape else set()
    _, height, width, _ = nhwc(source)
    fine = axes == {HEIGHT, WIDTH} and height == width and height in case.chip.limits.mean_sides
    return fine, f"axes {sorted(axes)} of {list(source.shape)}"


def resize(case: Case) -> Verdict:
    """Resizing goes to twice the height and width, or one less in both."""
    _, height, width, _ = nhwc(case.input(0))
    _, tall, wide, _ = nhwc(case.output)
    fine = (tall, wide) in {(2 * height, 2 * width), (2 * height - 1, 2 * width - 1)}
    return fine, f"{height}x{width} to {tall}x{wide}"


# --- data movement ---------------------------------------------------------------------------------------------------


def not_batch_axis(case: Case) -> Verdict:
    """Concatenations and splits are along height, width or channels."""
    axis = axis_of(case)
    return axis in (HEIGHT, WIDTH, CHANNEL), f"axis {axis}"


def channel_multiple(case: Case) -> Verdict:
    """Parts along channels have a multiple of {driver.channel_multiple} of them."""
    parts = case.outputs if case.operator.kind == "SPLIT" else case.variables
    counts = [nhwc(part)[CHANNEL] for part in parts]
    fine = axis_of(case) != CHANNEL or all(count % case.chip.driver.channel_multiple == 0 for count in counts)
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
    size = max(bytes_in_bricks(tensor, case.chip.limits.brick) for tensor in (case.input(0), case.output))
    return size <= case.chip.variant.sram_bytes, f"{size} bytes of {case.chip.variant.sram_bytes}"


def unpacking(case: Case) -> Verdict:
    """Depth to space has blocks of {limits.depth_to_space_block} and as many channels as fill them."""
    block = case.option("blockSize")
    channels = nhwc(case.input(0))[CHANNEL]
    fine = block == case.chip.limits.depth_to_space_block and channels % block**2 == 0
    return fine, f"block {block}, {channels} channels"


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
