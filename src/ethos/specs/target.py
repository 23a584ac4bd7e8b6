"""Specs of targets: an NPU with its system and its memory."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ethos.specs.base import NamedSpec, Positive, Spec


class Budget(Spec):
    """Memory a network may take on a target, in KiB; absent means not limited by us."""

    sram_kib: Annotated[float, Field(gt=0.0)] | None = None
    dram_kib: Annotated[float, Field(gt=0.0)] | None = None
    flash_kib: Annotated[float, Field(gt=0.0)] | None = None


class Target(NamedSpec):
    """An NPU with its system and the memory that is there. `compiler` says which of its two forms a spec has."""

    compiler: Literal["vela", "rules"]
    accelerator: str
    budget: Budget = Budget()

    @classmethod
    def form_of(cls, document: dict[str, Any]) -> type[Target]:
        """Return the form that a document has by its `compiler`; this class, which refuses it, if there is none."""
        return TARGET_FORMS.get(str(document.get("compiler")), Target)


class VelaTarget(Target):
    """What Vela needs to compile for an Ethos-U.

    `macs_per_cycle` and `clock_mhz` turn cycles into MAC utilisation and milliseconds. `config_file` is a Vela .ini of
    one's own, relative to the project; without it `system_config` and `memory_mode` name entries of Arm's vela.ini.
    """

    compiler: Literal["vela"]
    system_config: str
    memory_mode: str
    macs_per_cycle: Positive
    clock_mhz: Annotated[float, Field(gt=0.0)]
    config_file: str | None = None

    @model_validator(mode="after")
    def _macs_agree(self) -> VelaTarget:
        if not self.accelerator.endswith(f"-{self.macs_per_cycle}"):
            raise ValueError(f"macs_per_cycle is {self.macs_per_cycle}, which is not that of {self.accelerator}")
        return self


class RulesTarget(Target):
    """An Ethos-N, judged by its driver's published rules: `variant` of the chip and `driver` version, as in its rules.

    No compiler can be run for it, so there are no cycles and no latency.
    """

    compiler: Literal["rules"]
    accelerator: Literal["ethos-n78"]
    variant: str
    driver: str


TARGET_FORMS: dict[str, type[Target]] = {"vela": VelaTarget, "rules": RulesTarget}
