"""Arm's Vela, the compiler for Ethos-U: the only module that calls it.

Vela is run as a user runs it, in a process of its own, and its figures are read from the files it writes. They are its
estimates, not measurements, and differ between its versions.
"""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ethos.catalog import project_root
from ethos.errors import CompilerError, EthosError, SpecError
from ethos.specs import VelaTarget

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ethos.specs import Target

DISTRIBUTION = "ethos-u-vela"
MODULE = "ethosu.vela"
# Vela's own name for the file in which Arm describes its reference systems
ARM_CONFIG_FILE = "Arm/vela.ini"
TIMEOUT_S = 600
KIB = 1024
GB_PER_GIB = 1024**3 / 1e9
INSTALL = "run `make setup` (or `pip install ethos-u-vela`)"

# the memory modes of Arm's vela.ini; which of them a system can have is Vela's to say
MEMORY_MODES = (
    *("Sram_Only", "Shared_Sram", "Dedicated_Sram"),
    *("Dedicated_Sram_256KB", "Dedicated_Sram_384KB", "Dedicated_Sram_512KB"),
)
MEMORIES = ("sram", "dram", "on_chip_flash", "off_chip_flash")
CYCLE_KINDS = ("total", "npu", *(f"{memory}_access" for memory in MEMORIES))
# the last column of the per-layer file is a tensor name, unquoted, that may itself hold commas
LAYER_COLUMNS = 16

REFUSAL = re.compile(r"^Warning \(supported operators\) operator: .*?, ofm: '(?P<output>.*)'$")
PYTHON_ERROR = re.compile(r"^(?P<kind>[A-Za-z_][\w.]*(?:Error|Exception)): (?P<text>.*)$")
CONFIG_ERRORS = ("ConfigOptionError", "CliOptionError", "InputFileError", "vela: error:")


@dataclass(frozen=True, slots=True)
class Layer:
    """One step of Vela's schedule: an operator of the file may become several, or be fused into another.

    `name` is the output tensor's in the file, `operator` Vela's word for the file's operator, `step` for its own.
    `cycles` is the time the step adds, in NPU cycles; `staging_bytes` the SRAM in use while it runs.
    """

    name: str
    operator: str
    step: str
    on_npu: bool
    cycles: int
    npu_cycles: int
    sram_cycles: int
    dram_cycles: int
    flash_cycles: int
    macs: int
    staging_bytes: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """What Vela made of a file, and its estimates.

    `cycles` by kind (see `CYCLE_KINDS`); by memory (see `MEMORIES`) `memory_kib` the peak use, `traffic_bytes` what is
    moved in an inference, `bandwidth_gb_s` what it can move at most; `weight_bytes` the size of the weights as given
    (`original`) and as compressed for the NPU (`encoded`); `refusals` Vela's reason by the output name of each operator
    that it refused.
    """

    file: Path
    version: str
    clock_mhz: float
    latency_ms: float
    macs: int
    cycles: Mapping[str, int]
    memory_kib: Mapping[str, float]
    traffic_bytes: Mapping[str, int]
    bandwidth_gb_s: Mapping[str, float]
    weight_bytes: Mapping[str, int]
    layers: tuple[Layer, ...]
    refusals: Mapping[str, str]


def version() -> str:
    """Return the installed Vela's version.

    Raises:
        CompilerError: Vela is not installed.
    """
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError as error:
        raise CompilerError("Vela, the Ethos-U compiler, is not installed", INSTALL) from error


@dataclass(frozen=True, slots=True)
class Started:
    """Vela at work on a file: `runs` by target name, each in its own folder, of that name, within `folder`."""

    folder: Path
    runs: Mapping[str, Run]


@contextmanager
def started(file: Path, targets: Sequence[Target]) -> Iterator[Started]:
    """Start Vela on a TFLite file for the first targets, one process per core, before the file has been looked at.

    At the end of the block what still runs is stopped, and the temporary folder removed.
    """
    with tempfile.TemporaryDirectory(prefix="ethos-analyze-") as name, ExitStack() as stack:
        folder = Path(name)
        runs: dict[str, Run] = {}
        for target in [each for each in targets if isinstance(each, VelaTarget)][: os.cpu_count() or 1]:
            # what is wrong with the file is to be told first; Vela's turn comes in `compile_network`
            with suppress(EthosError):
                runs[target.name] = stack.enter_context(Run(file, target, folder / target.name))
        yield Started(folder, runs)


def compile_network(file: Path, target: VelaTarget, folder: Path, run: Run | None = None) -> Compiled:
    """Compile a TFLite file for a target, unless a `run` that does so has been started; Vela writes to `folder`.

    Raises:
        CompilerError: Vela is missing, refuses the target's configuration, or fails on the file.
        SpecError: The target's configuration file is not there, or its clock is not the target's.
    """
    with run or Run(file, target, folder) as running:
        installed, output = running.finish()
    summary = _read_summary(folder / f"{file.stem}_summary_{target.system_config}.csv")
    clock_mhz = float(summary["core_clock"]) / 1e6
    if abs(clock_mhz - target.clock_mhz) > 0.5:
        raise SpecError(
            f"target {target.name}: clock_mhz is {target.clock_mhz:g}, {target.system_config} runs at {clock_mhz:g}",
            "use Vela's clock, or describe the system in a config_file of your own",
        )
    return Compiled(
        file=folder / f"{file.stem}_vela.tflite",
        version=installed,
        clock_mhz=clock_mhz,
        latency_ms=float(summary["inference_time"]) * 1e3,
        macs=int(summary["nn_macs"]),
        cycles={kind: int(summary[f"cycles_{kind}"]) for kind in CYCLE_KINDS},
        memory_kib={memory: float(summary[f"{memory}_memory_used"]) for memory in MEMORIES},
        traffic_bytes={memory: int(summary[f"{memory}_total_bytes"]) for memory in MEMORIES},
        bandwidth_gb_s={memory: float(summary[f"{memory}_bandwidth"]) * GB_PER_GIB for memory in MEMORIES},
        weight_bytes={
            "original": int(summary["total_original_weights"]),
            "encoded": int(summary["total_npu_encoded_weights"]),
        },
        layers=_read_layers(folder / f"{file.stem}_per-layer.csv"),
        refusals=_read_refusals(output),
    )


# --- running it ------------------------------------------------------------------------------------------------------


class Run:
    """A process of Vela's that compiles a file for a target. At the end of its block it is stopped if it still runs.

    Raises:
        CompilerError: It could not be started.
        SpecError: The target's configuration file is not there.
    """

    def __init__(self, file: Path, target: VelaTarget, folder: Path) -> None:
        self._file, self._target = file, target
        command, pipe = _command(file, target, folder), subprocess.PIPE
        try:
            self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, errors="replace")
        except OSError as error:
            raise CompilerError(f"Vela could not be started: {error.strerror}", INSTALL) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Popen's own block closes the pipes and waits
        with self.process:
            self.process.kill()

    def finish(self) -> tuple[str, str]:
        """Wait, and return Vela's version and its standard output.

        Raises:
            CompilerError: Vela is missing, failed, or takes too long.
        """
        # looking it up takes a while in a large environment, so Vela runs meanwhile
        installed = version()
        try:
            output, complaints = self.process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise CompilerError(
                f"Vela did not finish {self._file} for {self._target.name} within {TIMEOUT_S} s",
                "try a smaller network",
            ) from error
        if self.process.returncode:
            raise _failure(self.process.returncode, output + "\n" + complaints, self._file, self._target)
        return installed, output


def _command(file: Path, target: VelaTarget, folder: Path) -> list[str]:
    # -P: a folder named ethosu where the user stands must not be taken for the compiler
    return [
        *(sys.executable, "-P", "-m", MODULE, str(file.absolute())),
        *("--accelerator-config", target.accelerator),
        *("--system-config", target.system_config),
        *("--memory-mode", target.memory_mode),
        *("--config", _config_file(target)),
        *("--output-dir", str(folder)),
        "--verbose-performance",
    ]


def _config_file(target: VelaTarget) -> str:
    if target.config_file is None:
        return ARM_CONFIG_FILE
    path = project_root() / target.config_file
    if not path.is_file():
        raise SpecError(f"target {target.name}: config_file {target.config_file} is not there", "correct its path")
    return str(path)


def _failure(code: int, said: str, file: Path, target: VelaTarget) -> CompilerError:
    """Return the error for a Vela that ended badly, with the last thing it said."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    if f"No module named {MODULE}" in last or f"No module named '{MODULE.split('.')[0]}" in last:
        return CompilerError(f"Vela, the Ethos-U compiler, is not installed for {sys.executable}", INSTALL)
    reason = _plain(last)
    if any(kind in last for kind in CONFIG_ERRORS):
        return CompilerError(
            f"target {target.name}: Vela refuses its configuration: {reason}",
            f"correct accelerator, system_config, memory_mode or config_file in specs/targets/{target.name}.yaml",
        )
    if code < 0:
        reason = f"crashed ({signal.Signals(-code).name}): {reason}"
    return CompilerError(
        f"Vela failed on {file} for {target.name}: {reason}", "check that the file is a full-integer INT8 network"
    )


def _plain(line: str) -> str:
    """Return an error line of Vela without the exception's name and the quotes around its text."""
    if found := PYTHON_ERROR.match(line):
        line = found["text"].strip("'\"")
    return line.removeprefix("vela: error: ").removeprefix("Error: ")


# --- reading its files -----------------------------------------------------------------------------------------------


def _read_summary(path: Path) -> dict[str, str]:
    with _output(path).open(newline="", encoding="utf-8") as stream:
        return next(csv.DictReader(stream))


def _read_layers(path: Path) -> tuple[Layer, ...]:
    lines = _output(path).read_text(encoding="utf-8", errors="replace").split("\n")
    header = lines[0].split(",")
    rows = (line.split(",", LAYER_COLUMNS - 1) for line in lines[1:])
    # a tensor name may hold a line break; what follows it is no row
    return tuple(_layer(dict(zip(header, row, strict=True))) for row in rows if len(row) == LAYER_COLUMNS)


def _layer(row: dict[str, str]) -> Layer:
    return Layer(
        name=row["Name"],
        operator=row["Original Operator"],
        step=row["NNG Operator"],
        on_npu=row["Target"] == "NPU",
        cycles=int(row["Op Cycles"]),
        npu_cycles=int(row["NPU"]),
        sram_cycles=int(row["SRAM AC"]),
        dram_cycles=int(row["DRAM AC"]),
        flash_cycles=int(row["OnFlash AC"]) + int(row["OffFlash AC"]),
        macs=int(row["MAC Count"]),
        staging_bytes=int(row["Staging Usage"]),
    )


def _read_refusals(output: str) -> dict[str, str]:
    """Return Vela's reasons by output name; it prints them, a paragraph each, and writes them to no file."""
    refusals: dict[str, str] = {}
    for paragraph in output.split("\n\n"):
        first, *reasons = paragraph.strip().splitlines() or [""]
        if refusal := REFUSAL.match(first):
            refusals[refusal["output"]] = "; ".join(reasons).removeprefix("Reason: ")
    return refusals


def _output(path: Path) -> Path:
    """Return the path of a file that Vela must have written."""
    if not path.is_file():
        raise CompilerError(f"Vela {version()} did not write {path.name}", "install the version in requirements.lock")
    return path
