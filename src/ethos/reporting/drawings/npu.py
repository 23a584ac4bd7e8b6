"""Pictures of a compiler's schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.npu.pictures import cycles_figure

if TYPE_CHECKING:
    from collections.abc import Mapping


def cycles(data: Mapping[str, Any]) -> Any:
    """Draw the costliest steps of a version on a target."""
    return cycles_figure(data["target"], data["report"])
