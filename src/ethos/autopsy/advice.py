"""What to try against a loss: one function a rule, each with the sentence that the user reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

NEGLIGIBLE = 0.005  # of mAP50-95, below which there is nothing to win
FEW_IMAGES = 256
WEAK_DB = 6.0  # a layer that loses as much by itself stands out
NOISY_DB = 15.0
ONE_BRANCH = 0.75  # of the whole loss

Report = dict[str, Any]


def weights_per_channel(report: Report) -> str | None:
    """Weights have one scale for each tensor: set quantize.per_channel to true."""
    return weights_per_channel.__doc__ if not report["made"].get("per_channel", True) else None


def more_images(report: Report) -> str | None:
    """Few images set the ranges: raise quantize.calibration_images."""
    images = report["made"].get("calibration_images")
    return f"{images} images set the ranges: raise quantize.calibration_images" if images < FEW_IMAGES else None


def keep_a_layer(report: Report) -> str | None:
    """A layer loses much by itself: leave it in float with quantize.keep_float, at the price of a CPU operator."""
    worst = max(report["layers"], key=lambda layer: float(layer["lost_db"]), default=None)
    if worst is None or worst["lost_db"] < WEAK_DB or worst["snr_db"] > NOISY_DB:
        return None
    return (
        f"{worst['name']} loses {worst['lost_db']:.0f} dB by itself: try quantize.ranges mse, or leave it in float "
        "with quantize.keep_float, at the price of an operator on the CPU"
    )


def correct_biases(report: Report) -> str | None:
    """The class branch carries the loss: scores are shifted; try quantize.bias_correction."""
    return correct_biases.__doc__ if _share(report, "class") >= ONE_BRANCH else None


def tighter_ranges(report: Report) -> str | None:
    """The box branch carries the loss: steps are too coarse; try quantize.ranges mse or percentile."""
    fits = _share(report, "box") >= ONE_BRANCH and report["made"].get("ranges") == "min_max"
    return tighter_ranges.__doc__ if fits else None


def train_for_it(_report: Report) -> str | None:
    """If that is not enough, let the network train with rounded weights and activations: qat in the recipe."""
    return train_for_it.__doc__


def suggestions(report: Report) -> list[str]:
    """Return what to try, the cheapest first; nothing where there is no loss to speak of."""
    if report["drop"]["map50_95"] <= NEGLIGIBLE and report["drop"]["map50"] <= NEGLIGIBLE:
        return [f"nothing: the loss is below {100 * NEGLIGIBLE:.1f} points"]
    return [text for rule in RULES if (text := rule(report))]


def _share(report: Report, branch: str) -> float:
    drops = {row["quantized"]: row["map50_95"] for row in report["branches"]}
    return float(drops[branch] / drops["both"]) if drops["both"] > 0 else 0.0


RULES: tuple[Callable[[Report], str | None], ...] = (
    weights_per_channel,
    more_images,
    tighter_ranges,
    correct_biases,
    keep_a_layer,
    train_for_it,
)
