"""Arm's Ethos-N78 as data: chips, driver releases and the limits of their operators (n78.yaml beside this module)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ethos.catalog import read_spec
from ethos.errors import unknown
from ethos.specs import Positive, Spec

if TYPE_CHECKING:
    from ethos.specs import RulesTarget

FILE = Path(__file__).with_name("n78.yaml")
BYTES_PER_KIB = 1024


class Variant(Spec):
    """A configuration of the chip: its engines, all their SRAM, and the PLE lanes of each."""

    engines: Positive
    sram_kib: Positive
    ple_lanes: Positive

    @property
    def sram_bytes(self) -> int:
        """SRAM of all engines together."""
        return self.sram_kib * BYTES_PER_KIB


class Driver(Spec):
    """What a driver release takes that others do not."""

    library: str
    channel_multiple: Positive
    max_pool_stride_1: bool
    pad_alone: bool
    multiply_variables: bool
    transpose: Literal["none", "unmoved", "any"]


class Quantization(Spec):
    """The one output quantization of an activation; the zero point by data type."""

    scale: float
    zero_point: dict[str, int]


class Limits(Spec):
    """Limits of the operators, the same in all releases."""

    types: tuple[str, ...]
    max_rank: Positive
    brick: tuple[int, int, int, int]
    depth_bytes_per_channel: Positive
    kernel_sides: tuple[int, ...]
    strides: tuple[int, ...]
    stride_2_max_side: Positive
    transpose_conv_stride: Positive
    max_rescale: float
    max_scale_ratio: float
    max_pad: Positive
    pool_stride_2: tuple[int, ...]
    pool_3x3_max_width: Positive
    pool_stride_1_valid_side: Positive
    pool_stride_1_same_side: Positive
    pool_row_bytes: Positive
    average_side: Positive
    mean_sides: tuple[int, ...]
    depth_to_space_block: Positive
    sigmoid: Quantization
    tanh: Quantization


class Rulebook(Spec):
    """The file as a whole."""

    variants: dict[str, Variant]
    drivers: dict[str, Driver]
    limits: Limits
    unsupported: dict[str, str]
    historical_functions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chip:
    """A chip under a driver release: what the rules are asked about."""

    variant: Variant
    driver: Driver
    limits: Limits
    unsupported: dict[str, str]


@cache
def rulebook() -> Rulebook:
    """Return the packaged rules."""
    return read_spec(FILE, Rulebook)


def chip_of(target: RulesTarget) -> Chip:
    """Return a target's chip and driver.

    Raises:
        SpecError: The target names a variant or a driver release that the rules do not know.
    """
    book = rulebook()
    where = f"target {target.name}"
    if target.variant not in book.variants:
        raise unknown("variant of the Ethos-N78", target.variant, book.variants, where=where)
    if target.driver not in book.drivers:
        raise unknown("driver release", target.driver, book.drivers, where=where)
    return Chip(book.variants[target.variant], book.drivers[target.driver], book.limits, book.unsupported)
