"""Figures of one network: accuracy, size, speed on this machine's CPU, and an NPU compiler's estimates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ethos.files import sha256_file
from ethos.model.weights import WEIGHTS_FILE, load_model
from ethos.npu import vela
from ethos.npu.graph import total_macs
from ethos.npu.tflite import read_graph
from ethos.pruning.shrink import export_network, side_by_side
from ethos.pruning.sketch import write_sketch
from ethos.pruning.speed import measure_speed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ethos.specs import VelaTarget

BYTES_IN_MB = 1e6


@dataclass(frozen=True)
class Measured:
    """Figures of a network.

    Attributes:
        sha256: Of the file that holds the network's weights.
        map50: Of the engine's validation of the float network.
        map50_95: Likewise.
        parameters: As PyTorch counts them, batch norms included.
        macs: Multiply-accumulates of one inference.
        mb: Size of the INT8 sketch, in 10^6 bytes.
        cpu: Frames a second of the INT8 sketch, and how they were measured.
        npu: Cycles and frames a second by target, Vela's estimates for the INT8 sketch.
        efficiency: mAP50 x FPS / MB, on the CPU and by target.
    """

    sha256: str
    map50: float
    map50_95: float
    parameters: int
    macs: int
    mb: float
    cpu: dict[str, Any]
    npu: dict[str, dict[str, Any]]
    efficiency: dict[str, float]


def measure(
    folder: Path, scores: Mapping[str, float], imgsz: int, targets: Sequence[VelaTarget], scratch: Path
) -> Measured:
    """Return the figures of the network in a folder.

    Args:
        folder: As `ethos.model.weights.save_model` writes it.
        scores: What its validation gave.
        imgsz: Side of the square input.
        targets: NPUs to compile for.
        scratch: Folder for temporary files.

    Raises:
        CompilerError: The compiler refuses the network.
    """
    network, _ = load_model(folder)
    onnx_file = export_network(network, imgsz, scratch / "measured.onnx")
    file = write_sketch(onnx_file, scratch / "measured.tflite")
    speed = measure_speed(file)

    def compiled(target: VelaTarget) -> dict[str, Any]:
        found = vela.compile_network(file, target, scratch / f"measured-{target.name}")
        return {
            "provenance": "estimate",
            "compiler": f"vela {found.version}",
            "cycles": found.cycles["total"],
            "latency_ms": found.latency_ms,
            "fps": 1000 / found.latency_ms,
        }

    npu = dict(zip([target.name for target in targets], side_by_side(compiled, targets), strict=True))
    mb = file.stat().st_size / BYTES_IN_MB
    rates = {"cpu": speed.fps, **{name: each["fps"] for name, each in npu.items()}}
    return Measured(
        sha256=sha256_file(folder / WEIGHTS_FILE),
        map50=scores["map50"],
        map50_95=scores["map50_95"],
        parameters=sum(each.numel() for each in network.parameters()),
        macs=total_macs(read_graph(file)),
        mb=mb,
        cpu={"provenance": "measured", "fps": speed.fps, "protocol": speed.protocol},
        npu=npu,
        efficiency={name: scores["map50"] * rate / mb for name, rate in rates.items()},
    )
