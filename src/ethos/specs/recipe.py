"""Specs of recipes: hyperparameters, and where the weights come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ethos.specs.base import Activation, Fraction, ImageSize, NamedSpec, Positive, Spec


class Weights(Spec):
    """Where training starts.

    `scratch`: random. `official`: the file that Ultralytics publishes, fetched by Ultralytics. `path`: a local .pt, or
    the file that the environment variable `path_env` names. `warm_start`: a network of that `level` and `activation`,
    trained once under `recipe` and shared by all variants of the run. `pruned`: the network that was pruned, for
    recipes of recovery alone.
    """

    source: Literal["scratch", "official", "path", "warm_start", "pruned"]
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
            "pruned": [set()],
            "official": [{"file"}],
            "path": [{"file"}, {"path_env"}],
            "warm_start": [{"level", "activation", "recipe"}],
        }
        if given not in allowed[self.source]:
            wanted = " or ".join(" and ".join(sorted(keys)) or "nothing more" for keys in allowed[self.source])
            raise ValueError(f"weights from '{self.source}' take {wanted}, got {sorted(given) or 'nothing'}")
        return self


class Qat(Spec):
    """Quantization-aware training: epochs with int8 rounding after the others, and their first learning rate.

    `per_channel` must be what the variant's quantization has.
    """

    epochs: Positive
    lr0: Annotated[float, Field(gt=0.0, le=1.0)]
    per_channel: bool = True


class Notify(Spec):
    """Who is told that a training has ended or failed; the message is a small JSON document.

    `command`: a program and its arguments, which gets the message on its standard input. `url`: an address that it is
    posted to. `url_env`: the environment variable that holds the address, for one that is a secret.
    """

    command: tuple[str, ...] | None = None
    url: str | None = None
    url_env: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Notify:
        given = [key for key in ("command", "url", "url_env") if getattr(self, key)]
        if len(given) != 1:
            raise ValueError(f"notify takes one of command, url and url_env, got {given or 'nothing'}")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError("notify.url must begin with http:// or https://")
        return self


class Recipe(NamedSpec):
    """Training hyperparameters, named as in Ultralytics' train arguments (its documentation defines each).

    Ours are: `weights`; `save_period`, which keeps the weights of every so many epochs beside the best (0 or -1: none);
    `teacher`, a variant of the run whose predictions are soft targets, and the weights of its class and box part in the
    loss; `qat`, which adds quantization-aware training at the end;
    `recovery`, the recipe by which a pruned network of this one is trained again, `prune_recovery` if absent; `notify`.
    """

    weights: Weights
    qat: Qat | None = None
    recovery: str | None = None
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
    save_period: Annotated[int, Field(ge=-1)] = -1
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
    teacher: str | None = None
    teacher_cls: Annotated[float, Field(ge=0.0)] = 1.0
    teacher_dfl: Annotated[float, Field(ge=0.0)] = 1.0
    notify: Notify | None = None

    @property
    def all_epochs(self) -> int:
        """How many epochs are planned, those of quantization-aware training included."""
        return self.epochs + (self.qat.epochs if self.qat else 0)
