"""Specs of data sets: where they come from, how they are split, and the limits of their checks."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ethos.specs.base import DataFormat, Fraction, ImageSize, NamedSpec, Positive, Sha256, Spec


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
