"""What widths cost: parameters, multiply-accumulates, channels, and an NPU's cycles as its compiler sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ethos.pruning.groups import Layer, Structure


class Cost(ABC):
    """A quantity that is a sum over convolutions, plus a rest that no width changes."""

    name: str
    provenance: str

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self._touched: dict[str, tuple[Layer, ...]] = {
            group: tuple(each for each in structure.layers.values() if group in each.inputs or each.output == group)
            for group in structure.groups
        }
        self._known: dict[tuple[str, int, int], float] = {}

    @property
    def rest(self) -> float:
        """What no width changes."""
        return 0.0

    @abstractmethod
    def of(self, layer: Layer, taken: int, given: int) -> float:
        """Return what a layer costs with these input and output channels."""

    def total(self, widths: Mapping[str, int]) -> float:
        """Return the cost of the whole network for widths of the groups."""
        return self.rest + sum(self._at(layer, widths) for layer in self.structure.layers.values())

    def saved(self, widths: Mapping[str, int], group: str, width: int) -> float:
        """Return what narrowing one group to `width` saves."""
        narrower = {**widths, group: width}
        return sum(self._at(layer, widths) - self._at(layer, narrower) for layer in self._touched[group])

    def forget(self) -> None:
        """Drop what is known of layers; for costs that were measured anew."""
        self._known.clear()

    def _at(self, layer: Layer, widths: Mapping[str, int]) -> float:
        key = (layer.name, *layer.channels(widths))
        if key not in self._known:
            self._known[key] = self.of(layer, key[1], key[2])
        return self._known[key]


class Macs(Cost):
    """Multiply-accumulates of all convolutions for one inference."""

    name, provenance = "macs", "measured"

    def of(self, layer: Layer, taken: int, given: int) -> float:
        """Return output values x kernel area x input channels of each."""
        height, width = layer.side
        return height * width * given * layer.kernel**2 * (1 if layer.depthwise else taken)


class Parameters(Cost):
    """Trained values, batch norms included, as PyTorch counts them."""

    name, provenance = "parameters", "measured"

    def __init__(self, structure: Structure, dense: int) -> None:
        super().__init__(structure)
        self._rest = 0.0
        self._rest = dense - self.total(structure.full)

    @property
    def rest(self) -> float:
        """What belongs to no convolution, or to a fixed one."""
        return self._rest

    def of(self, layer: Layer, taken: int, given: int) -> float:
        """Return weights, plus what each output channel has beside them."""
        weights = given * layer.kernel**2 * (1 if layer.depthwise else taken)
        return weights + given * layer.beside


class Channels(Cost):
    """Channels of all groups, each group counted once."""

    name, provenance = "channels", "measured"

    def of(self, layer: Layer, taken: int, given: int) -> float:  # noqa: ARG002 - as every cost
        """Return the output channels of the convolution that a group is named after."""
        return given if layer.output == layer.name else 0.0
