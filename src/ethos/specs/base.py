"""What every spec shares: frozen models that refuse unknown keys, and the types of their values."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

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
