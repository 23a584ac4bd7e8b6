"""What a run varies: params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ethos.specs.base import Form, Fraction, Positive, Spec


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
