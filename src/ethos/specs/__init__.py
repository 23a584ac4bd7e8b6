"""The shape of every spec.

A spec's name is its file name; `ethos.catalog` fills it in. Cross references (a variant's level, a scenario's target)
are names, resolved by the catalog.
"""

from ethos.specs.base import (
    Activation,
    AnySpec,
    DataFormat,
    Form,
    Fraction,
    ImageSize,
    NamedSpec,
    Positive,
    Sha256,
    Spec,
)
from ethos.specs.data import (
    ArchiveLimits,
    ArchiveSource,
    CheckLimits,
    Dataset,
    DrawnSource,
    FolderSource,
    Split,
    UrlSource,
)
from ethos.specs.params import Params, ProtocolParams, RegistryParams
from ethos.specs.policy import GATE, Objective, Policy, Scenario
from ethos.specs.recipe import Notify, Qat, Recipe, Weights
from ethos.specs.target import TARGET_FORMS, Budget, RulesTarget, Target, VelaTarget
from ethos.specs.variant import Importance, Level, Prune, PruneGoal, Quantize, Variant

__all__ = [
    "GATE",
    "TARGET_FORMS",
    "Activation",
    "AnySpec",
    "ArchiveLimits",
    "ArchiveSource",
    "Budget",
    "CheckLimits",
    "DataFormat",
    "Dataset",
    "DrawnSource",
    "FolderSource",
    "Form",
    "Fraction",
    "ImageSize",
    "Importance",
    "Level",
    "NamedSpec",
    "Notify",
    "Objective",
    "Params",
    "Policy",
    "Positive",
    "ProtocolParams",
    "Prune",
    "PruneGoal",
    "Qat",
    "Quantize",
    "Recipe",
    "RegistryParams",
    "RulesTarget",
    "Scenario",
    "Sha256",
    "Spec",
    "Split",
    "Target",
    "UrlSource",
    "Variant",
    "VelaTarget",
    "Weights",
]
