"""Cycles of an NPU as a function of widths: a model of the compiler's own figures, corrected by real compiles.

A compile gives each step's cycles and what holds it up: the multipliers or a memory. How the multipliers' cycles follow
the channels is read from a compile of single convolutions at every width: they go in steps, such as 32 input channels
on Ethos-U55 and U65, so that 48 channels cost as many as 64. Traffic of weights follows input times output channels,
that of maps their sum. As widths move away from the compiled ones the model drifts, so it is compiled anew on the way.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ethos.npu import vela
from ethos.pruning.costs import Cost
from ethos.pruning.groups import detect_name, export_name
from ethos.pruning.sketch import write_sketch
from ethos.pruning.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ethos.model.levels import Network
    from ethos.pruning.groups import Layer, Structure
    from ethos.specs import VelaTarget

# the widths at which single convolutions are compiled; between them the next wider one counts
GRID = (8, *range(16, 129, 16))
# the other end's width meanwhile, and the side of the map
OTHER, SIDE = 32, 32
INPUT, OUTPUT = "in", "out"

Kind = tuple[int, bool]


@dataclass(frozen=True)
class Step:
    """What holds up a convolution at the widths that were compiled, in cycles; `total` is what it takes."""

    taken: int
    given: int
    npu: float
    weights: float
    maps: float
    total: float


class Drawer:
    """Draws a network at any widths, for a compiler: see `ethos.pruning.sketch`.

    Args:
        network: The dense network, whose names are used.
        onnx_file: Its export.
        structure: What of it can be pruned.
    """

    def __init__(self, network: Network, onnx_file: Path, structure: Structure) -> None:
        self._onnx, self._structure = onnx_file, structure
        self._names = {name: export_name(name, network) for name in structure.layers}

    def draw(self, widths: Mapping[str, int], path: Path) -> Path:
        """Write the network at these widths of its groups; return the path."""
        found = self._structure.widths(widths)
        return write_sketch(self._onnx, path, {self._names[name]: each for name, each in found.items()})


class Cycles(Cost):
    """Cycles on one target.

    Args:
        structure: What can be pruned.
        target: The NPU.
        drawer: Makes the files to compile.
        curves: How the multipliers' cycles follow the channels, from `measure_curves`.

    Raises:
        CompilerError: The compiler refuses the network.
    """

    provenance = "estimate"

    def __init__(self, structure: Structure, target: VelaTarget, drawer: Drawer, curves: Curves) -> None:
        super().__init__(structure)
        self.name = f"cycles on {target.name}"
        self.target = target
        self._drawer, self._curves = drawer, curves
        self._steps: dict[str, Step] = {}
        self._rest = 0.0
        self.compile(structure.full)

    @property
    def rest(self) -> float:
        """What the steps take that are no convolutions."""
        return self._rest

    def compile(self, widths: Mapping[str, int]) -> float:
        """Compile the network at these widths, base the model on that, and return its cycles."""
        with tempfile.TemporaryDirectory(prefix="ethos-prune-") as name:
            folder = Path(name)
            compiled = vela.compile_network(self._drawer.draw(widths, folder / "net.tflite"), self.target, folder)
        self._steps = _steps_of(compiled, self.structure, widths)
        self.forget()
        self._rest = compiled.cycles["total"] - sum(step.total for step in self._steps.values())
        return float(compiled.cycles["total"])

    def of(self, layer: Layer, taken: int, given: int) -> float:
        """Return a convolution's cycles: those of whatever holds it up most."""
        step = self._steps.get(layer.name)
        if step is None:
            return 0.0
        npu = step.npu * self._curves.ratio(kind_of(layer), (step.taken, step.given), (taken, given))
        weights = step.weights * (taken * given) / (step.taken * step.given)
        maps = step.maps * (taken + given) / (step.taken + step.given)
        busiest = max(step.npu, step.weights, step.maps)
        return step.total * max(npu, weights, maps) / busiest if busiest else 0.0


def _steps_of(compiled: vela.Compiled, structure: Structure, widths: Mapping[str, int]) -> dict[str, Step]:
    """Return each convolution's row of the compiler's table.

    A row bears the name of the tensor that is written: a concatenation's where the convolution writes into one. Those
    are told by their MACs; convolutions of equal MACs there cost much the same.
    """
    layers = {detect_name(name): layer for name, layer in structure.layers.items()}
    rows = [row for row in compiled.layers if row.macs]
    found: dict[str, Step] = {}
    unnamed = []
    for row in rows:
        layer = layers.get(detect_name(row.name))
        if layer is None:
            unnamed.append(row)
        else:
            found[layer.name] = _step(row, layer, widths)
    for layer in layers.values():
        if layer.name in found:
            continue
        match = next((row for row in unnamed if row.macs == _macs(layer, widths)), None)
        if match is not None:
            unnamed.remove(match)
            found[layer.name] = _step(match, layer, widths)
    return found


def _macs(layer: Layer, widths: Mapping[str, int]) -> int:
    taken, given = layer.channels(widths)
    return layer.side[0] * layer.side[1] * layer.kernel**2 * given * (1 if layer.depthwise else taken)


def _step(row: vela.Layer, layer: Layer, widths: Mapping[str, int]) -> Step:
    taken, given = layer.channels(widths)
    return Step(taken, given, row.npu_cycles, row.flash_cycles + row.dram_cycles, row.sram_cycles, row.cycles)


# --- single convolutions ---------------------------------------------------------------------------------------------


def kind_of(layer: Layer) -> Kind:
    """Return what a curve belongs to: the kernel, and whether it is depthwise."""
    return layer.kernel, layer.depthwise


class Curves:
    """How the multipliers' cycles of each kind of convolution follow its input and its output channels."""

    def __init__(self, cycles: Mapping[tuple[Kind, str, int], float]) -> None:
        self._cycles = cycles

    def ratio(self, kind: Kind, before: tuple[int, int], after: tuple[int, int]) -> float:
        """Return by what factor the cycles change between two pairs of input and output channels."""
        factor = 1.0
        for end, old, new in zip((INPUT, OUTPUT), before, after, strict=True):
            if old != new and not (kind[1] and end == INPUT):
                factor *= self.at(kind, end, new) / self.at(kind, end, old)
        return factor

    def at(self, kind: Kind, end: str, width: int) -> float:
        """Return the cycles at a width; beyond the grid they go on as within its second half."""
        half = GRID[-1] // 2
        periods = max(0, -(-(width - GRID[-1]) // half))
        inside = width - periods * half
        wider = next(each for each in GRID if each >= inside)
        period = self._cycles[kind, end, GRID[-1]] - self._cycles[kind, end, half]
        return float(self._cycles[kind, end, wider] + periods * period)


def measure_curves(structure: Structure, target: VelaTarget) -> Curves:
    """Compile single convolutions of every kind at every width of the grid for a target, in one file.

    Raises:
        CompilerError: The compiler refuses the target's configuration.
    """
    kinds = sorted({kind_of(layer) for layer in structure.layers.values()})
    with tempfile.TemporaryDirectory(prefix="ethos-prune-") as name:
        folder = Path(name)
        file, points = _write_single(kinds, folder / "single.tflite")
        compiled = vela.compile_network(file, target, folder)
    cycles = {row.name: float(row.npu_cycles) for row in compiled.layers if row.macs}
    return Curves({point: cycles[label] for label, point in points.items()})


def _write_single(kinds: list[Kind], path: Path) -> tuple[Path, dict[str, tuple[Kind, str, int]]]:
    writer, rng = Writer(), np.random.default_rng(0)
    sources = {width: writer.map(f"source_{width}", (1, SIDE, SIDE, width)) for width in sorted({*GRID, OTHER})}
    outputs = []
    points: dict[str, tuple[Kind, str, int]] = {}
    for kernel, alone in kinds:
        for end in (OUTPUT,) if alone else (INPUT, OUTPUT):
            for width in GRID:
                taken, given = (width, width) if alone else (width, OTHER) if end == INPUT else (OTHER, width)
                label = f"{kernel}_{alone}_{end}_{width}"
                weights = rng.normal(size=(given, kernel, kernel, 1 if alone else taken))
                outputs.append(writer.convolution(sources[taken], label, weights, depthwise=alone))
                points[label] = ((kernel, alone), end, width)
    return writer.write(path, list(sources.values()), outputs), points
