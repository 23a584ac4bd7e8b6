"""The protocol of a score: all that must be equal before two scores may be compared."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ethos.errors import SpecError
from ethos.files import sha256_json

AP_PACKAGE = "ultralytics"
# each changes scores when its version does: metrics, arithmetic, what runs a file, image reading and resizing; those of
# all kinds of file are named, so that a float32 checkpoint and its INT8 export share a protocol
TOOLS = ("ultralytics", "numpy", "ai-edge-litert", "onnxruntime", "torch", "opencv-python")
NOTHING = "none"
REPEAT = "evaluate both files again under one protocol (`ethos evaluate`, or `dvc repro`)"


class Protocol(BaseModel):
    """How a score was taken.

    Attributes:
        dataset: The data set's name.
        split: The side evaluated on.
        split_sha256: Hash of the division into sides.
        labels_sha256: Hash of the boxes evaluated against.
        excluded: Which images of the side are left out; `none`, or why and how many.
        imgsz: Height and width of the network's input, in pixels.
        conf: Least score of a detection.
        iou: Overlap above which suppression removes a box.
        max_det: Detections kept for an image, at most.
        ap: Whose average precision it is, with the version.
        batch: Images in one call of the network.
        device: What the network ran on.
        tools: Versions of the packages that take part.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    split: str
    split_sha256: str
    labels_sha256: str
    excluded: str = NOTHING
    imgsz: tuple[int, int]
    conf: float
    iou: float
    max_det: int
    ap: str
    batch: int
    device: str
    tools: dict[str, str]

    @property
    def sha256(self) -> str:
        """Hash of all fields."""
        return sha256_json(self.model_dump(mode="json"))

    def document(self) -> dict[str, Any]:
        """Return the protocol as it stands in a JSON document, with its hash."""
        return {**self.model_dump(mode="json"), "sha256": self.sha256}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Protocol:
        """Return the protocol in a JSON document.

        Raises:
            SpecError: A field is missing, unknown or malformed, or the hash is not that of the fields.
        """
        fields = {name: value for name, value in document.items() if name != "sha256"}
        try:
            protocol = cls.model_validate(fields)
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(str(part) for part in problem["loc"])
            raise SpecError(f"protocol: {field}: {problem['msg']}", REPEAT) from None
        if document.get("sha256") != protocol.sha256:
            raise SpecError("protocol: its hash is not that of its fields, so it was edited", REPEAT)
        return protocol


def tool_versions() -> dict[str, str]:
    """Return the versions of the packages that a score depends on; absent ones are left out."""
    found: dict[str, str] = {}
    for name in TOOLS:
        try:
            # what follows a plus names a build, such as torch's for CPUs, of the same code
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:  # OpenCV has several distributions; any of them serves
            continue
    return found


def ap_implementation() -> str:
    """Return whose average precision we report, with its version."""
    return f"{AP_PACKAGE} {version(AP_PACKAGE)}"


def require_same(one: Protocol, other: Protocol) -> None:
    """Allow a comparison of two scores.

    Raises:
        SpecError: The protocols differ; the text names the first field that does.
    """
    left, right = _flat(one), _flat(other)
    for field in dict.fromkeys((*left, *right)):
        if left.get(field) != right.get(field):
            difference = f"{field} is {_shown(left.get(field))} in one and {_shown(right.get(field))} in the other"
            raise SpecError(f"scores of different protocols cannot be compared: {difference}", REPEAT)


def _flat(protocol: Protocol) -> dict[str, Any]:
    """Return the fields, a tool's version as `tools.NAME`."""
    fields = protocol.model_dump(mode="json")
    tools = fields.pop("tools")
    return fields | {f"tools.{name}": tools[name] for name in sorted(tools)}


def _shown(value: Any) -> str:
    return "absent" if value is None else str(value)
