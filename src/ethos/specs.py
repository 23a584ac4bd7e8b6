"""The shape of every spec: frozen models that refuse unknown keys.

A spec's name is its file name; `ethos.catalog` fills it in. Cross references (a variant's level, a scenario's target)
are names, resolved by the catalog.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]
ImageSize = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]
Form = Literal["dense", "pruned"]
Activation = Literal["silu", "relu", "leaky_relu"]
DataFormat = Literal["yolo", "coco", "voc"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Spec(BaseModel):
    """Base of all specs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def form_of(cls, document: dict[str, Any]) -> type[Spec]:  # noqa: ARG003 - for kinds of spec that have several
        """Return the model of a document of this kind."""
        return cls


AnySpec = TypeVar("AnySpec", bound=Spec)


class NamedSpec(Spec):
    """A spec kept in a file of its own."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    description: str = ""


# --- data sets -------------------------------------------------------------------------------------------------------


class DrawnSource(Spec):
    """Images drawn by `ethos.data.draw`, deterministic from the seed."""

    type: Literal["drawn"]
    images: Annotated[int, Field(ge=20)]
    size: ImageSize
    seed: int = 0


class ArchiveLimits(Spec):
    """What an archive may unpack to at most; more is taken for a decompression bomb.

    `ratio` is unpacked bytes to packed bytes; it counts once more than 64 MiB are unpacked.
    """

    gib: Annotated[float, Field(gt=0.0)] = 64.0
    files: Positive = 2_000_000
    ratio: Annotated[float, Field(ge=1.0)] = 100.0


class FolderSource(Spec):
    """A folder of images with their labels, in a format.

    `yolo` folders hold a data.yaml, `coco` folders JSON files with annotations, `voc` folders XML files beside or
    near their images. Either `root` (relative to the project) or `root_env` (the environment variable that names the
    folder) is given.
    """

    type: Literal["folder"]
    root: str | None = None
    root_env: str | None = None
    format: DataFormat = "yolo"

    @model_validator(mode="after")
    def _one_root(self) -> FolderSource:
        if (self.root is None) == (self.root_env is None):
            raise ValueError("give exactly one of 'root' and 'root_env'")
        return self


class ArchiveSource(Spec):
    """A zip or tar file (also compressed) that holds such a folder; `file` is relative to the project.

    With `sha256` the file must have that hash.
    """

    type: Literal["archive"]
    file: str
    sha256: Sha256 | None = None
    format: DataFormat = "yolo"
    limits: ArchiveLimits = ArchiveLimits()


class UrlSource(Spec):
    """The address of such a zip or tar file.

    The download goes on where it stopped and is kept; with `sha256` the file must have that hash.
    """

    type: Literal["url"]
    url: Annotated[str, Field(pattern=r"^https?://[^\s/]+")]
    sha256: Sha256 | None = None
    format: DataFormat = "yolo"
    limits: ArchiveLimits = ArchiveLimits()


class Split(Spec):
    """How images are divided into train and val.

    `grouped` draws a new split that keeps related images on one side; `keep` takes the source's own and only guards it.
    A test side that the source has stays apart under both. Images are related by their bytes, by their original name,
    by `track`, and when their difference hashes of 256 bits are at most `near` bits apart (null: not asked). Images of
    an earlier version of the data set keep their side: of the one that is replaced, or of `sides`, a manifest.
    """

    method: Literal["grouped", "keep"] = "grouped"
    val_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    tolerance: Fraction = 0.02
    seed: int = 0
    track: str | None = None
    near: Annotated[int, Field(ge=0, le=24)] | None = 10
    sides: str | None = None

    @field_validator("track")
    @classmethod
    def _track_has_groups(cls, pattern: str | None) -> str | None:
        try:
            named = pattern is None or re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if not named:
            raise ValueError("'track' needs at least one named group, such as (?P<track>...)")
        return pattern


class CheckLimits(Spec):
    """Thresholds of the data checks."""

    min_boxes_per_class: Annotated[int, Field(ge=0)] = 1
    max_class_share_difference: Fraction = 0.1
    max_background_share: Fraction = 0.2
    max_box_size_difference: Fraction = 0.2
    min_image_side: Positive = 32
    min_contrast: Annotated[int, Field(ge=0, le=255)] = 8
    min_box_side: Annotated[float, Field(ge=0.0)] = 1.0
    warn_only: tuple[str, ...] = ()


class Dataset(NamedSpec):
    """A data set: where it comes from, its classes in label order, its split, its limits and what to repair.

    `repairs` are applied to the materialised copy, never to the source; `ethos data fix --dry-run` lists them.
    """

    source: Annotated[DrawnSource | FolderSource | ArchiveSource | UrlSource, Field(discriminator="type")]
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    split: Split = Split()
    checks: CheckLimits = CheckLimits()
    repairs: tuple[str, ...] = ()
    attribution: str = ""


# --- networks and training -------------------------------------------------------------------------------------------


class Level(NamedSpec):
    """An ordered list of steps on a YOLO graph; each step is one mapping `{step_name: {argument: value}}`.

    With `extends`, the steps are appended to those of the named level and `base` is inherited.
    """

    base: str | None = None
    extends: str | None = None
    steps: tuple[dict[str, dict[str, Any] | None], ...] = ()

    @model_validator(mode="after")
    def _base_or_extends(self) -> Level:
        if (self.base is None) == (self.extends is None):
            raise ValueError("give exactly one of 'base' and 'extends'")
        return self

    @field_validator("steps")
    @classmethod
    def _one_step_each(cls, steps: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        for step in steps:
            if len(step) != 1:
                raise ValueError(f"a step is one name with its arguments, got {sorted(step)}")
        return steps


class Quantize(Spec):
    """Full-integer post-training quantization: int8 input and output."""

    calibration_images: Annotated[int, Field(ge=16)] = 256
    per_channel: bool = True
    max_kib_per_kparameter: Annotated[float, Field(gt=0.0)] = 2.0


class Variant(NamedSpec):
    """A level with an activation, and how it is trained and quantized.

    `recipe` overrides the run's recipe for this variant alone.
    """

    level: str
    activation: Activation
    recipe: str | None = None
    quantize: Quantize = Quantize()


class Weights(Spec):
    """Where training starts.

    `scratch`: random. `official`: the file that Ultralytics publishes, fetched by Ultralytics. `path`: a local .pt, or
    the file that the environment variable `path_env` names. `warm_start`: a network of that `level` and `activation`,
    trained once under `recipe` and shared by all variants of the run.
    """

    source: Literal["scratch", "official", "path", "warm_start"]
    file: str | None = None
    path_env: str | None = None
    level: str | None = None
    activation: Activation | None = None
    recipe: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Weights:
        given = {key for key in ("file", "path_env", "level", "activation", "recipe") if getattr(self, key) is not None}
        allowed: dict[str, list[set[str]]] = {
            "scratch": [set()],
            "official": [{"file"}],
            "path": [{"file"}, {"path_env"}],
            "warm_start": [{"level", "activation", "recipe"}],
        }
        if given not in allowed[self.source]:
            wanted = " or ".join(" and ".join(sorted(keys)) or "nothing more" for keys in allowed[self.source])
            raise ValueError(f"weights from '{self.source}' take {wanted}, got {sorted(given) or 'nothing'}")
        return self


class Recipe(NamedSpec):
    """Training hyperparameters, named as in Ultralytics' train arguments (its documentation defines each)."""

    weights: Weights
    epochs: Positive
    imgsz: ImageSize
    batch: Positive
    nbs: Positive = 64
    optimizer: Literal["SGD", "AdamW", "Adam"] = "SGD"
    lr0: Annotated[float, Field(gt=0.0, le=1.0)]
    lrf: Annotated[float, Field(gt=0.0, le=1.0)]
    cos_lr: bool = False
    momentum: Fraction = 0.9
    weight_decay: Fraction = 0.0005
    warmup_epochs: Annotated[float, Field(ge=0.0)] = 3.0
    warmup_momentum: Fraction = 0.8
    warmup_bias_lr: Fraction = 0.1
    box: Annotated[float, Field(ge=0.0)] = 7.5
    cls: Annotated[float, Field(ge=0.0)] = 0.5
    dfl: Annotated[float, Field(ge=0.0)] = 1.5
    patience: Annotated[int, Field(ge=0)] = 100
    save_period: int = -1
    hsv_h: Fraction = 0.015
    hsv_s: Fraction = 0.7
    hsv_v: Fraction = 0.4
    degrees: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0
    translate: Fraction = 0.1
    scale: Fraction = 0.5
    fliplr: Fraction = 0.5
    mosaic: Fraction = 0.0
    mixup: Fraction = 0.0
    close_mosaic: Annotated[int, Field(ge=0)] = 10
    amp: bool = True
    cache: bool = False
    workers: Annotated[int, Field(ge=0)] = 8
    device: str = ""
    deterministic: bool = True
    dropout: Fraction = 0.0
    freeze: Annotated[int, Field(ge=0)] = 0


# --- targets and policy ----------------------------------------------------------------------------------------------


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


GATE = re.compile(
    r"^(?P<figure>[A-Za-z][\w.-]*)\s*(?P<operator><=|>=|<|>|==)\s*(?P<limit>-?\d+(\.\d+)?)\s*(?P<unit>[A-Za-z%]*)$"
)


class Objective(Spec):
    """The figure that ranks versions, and the one that breaks ties."""

    minimise: str | None = None
    maximise: str | None = None
    tie_break: str | None = None

    @model_validator(mode="after")
    def _one_direction(self) -> Objective:
        if (self.minimise is None) == (self.maximise is None):
            raise ValueError("give exactly one of 'minimise' and 'maximise'")
        return self


class Scenario(Spec):
    """A use of the detector: the variant pinned for it, the gates a version must pass, and the objective.

    A gate reads `FIGURE OPERATOR LIMIT [UNIT]`; `npu.*` figures are those of the scenario's target.
    """

    description: str = ""
    pin: str
    target: str
    gates: tuple[str, ...] = ()
    objective: Objective

    @field_validator("gates")
    @classmethod
    def _gates_parse(cls, gates: tuple[str, ...]) -> tuple[str, ...]:
        for gate in gates:
            if not GATE.match(gate):
                raise ValueError(f"gate '{gate}' does not read FIGURE OPERATOR LIMIT [UNIT], as in 'int8.map50 >= 0.8'")
        return gates


class Policy(Spec):
    """Which version serves which scenario."""

    scenarios: Annotated[dict[str, Scenario], Field(min_length=1)]


# --- a run -----------------------------------------------------------------------------------------------------------


class ProtocolParams(Spec):
    """Post-processing of every score in a run."""

    conf: Fraction = 0.001
    iou: Fraction = 0.7
    max_det: Positive = 300


class RegistryParams(Spec):
    """Names in MLflow."""

    model_name: str = "traffic-sign-detector"
    experiment: str = "ethos"


class Params(Spec):
    """What a run varies (params.yaml)."""

    dataset: str
    recipe: str
    seed: Annotated[int, Field(ge=0)] = 0
    variants: Annotated[tuple[str, ...], Field(min_length=1)]
    forms: Annotated[tuple[Form, ...], Field(min_length=1)] = ("dense",)
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    protocol: ProtocolParams = ProtocolParams()
    registry: RegistryParams = RegistryParams()
