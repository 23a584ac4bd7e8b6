"""What a figure is bound to: its provenance word, the hash of its file, its protocol, its version or run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.pruning.report import CPU
from ethos.registry.candidate import STUDY
from ethos.reporting.figure import Origin

if TYPE_CHECKING:
    from ethos.registry.records import VersionRecord

MEASURED, DECLARED, RULE, ESTIMATE = "measured", "declared", "rule", "estimate"
DECLARED_PLACES = {"decision", "policy", "ledger", "v3"}


def origin_of(place: str, path: str, document: Any, record: VersionRecord | None) -> Origin:
    """Return what a figure is bound to.

    Args:
        place: The document's place, as in `ethos.reporting.evidence`.
        path: The figure's path in it.
        document: The document, None if it is not there.
        record: The version that the place names, if it names one.
    """
    kind = place.partition("/")[0]
    if kind in DECLARED_PLACES:
        return Origin(DECLARED)
    if kind == "run":
        words = {"params": DECLARED, "tags": DECLARED, "derived": RULE}
        return Origin(words.get(path.partition("/")[0], MEASURED), run_id=place.partition("/")[2])
    if kind == "outputs" or record is None:
        return Origin(MEASURED, sha256=str((document or {}).get("sha256", "")))
    name = place.partition("/")[2].partition("/")[2]
    if not name:
        return _of_tag(path, record)
    return _of_file(name, path, document or {}, record)


def _of_tag(tag: str, record: VersionRecord) -> Origin:
    if tag.startswith("npu."):
        target = tag.removeprefix("npu.").rpartition(".")[0]
        word = record.tags.get(f"npu.{target}.provenance", ESTIMATE)
        return Origin(word, record.artifact_sha256, version=record.version)
    protocol = record.protocol_sha256 if tag.startswith(("int8.", "fp32.")) else ""
    # the tags do not name the FP32 file
    sha = "" if tag.startswith("fp32.") else record.artifact_sha256
    return Origin(MEASURED, sha, protocol, record.version)


def _of_file(name: str, path: str, document: dict[str, Any], record: VersionRecord) -> Origin:
    if name == "npu.json":
        return Origin(_npu_word(path, document), str(document.get("sha256", "")), version=record.version)
    if name == STUDY:
        keys = path.split("/")
        return Origin(_study_word(keys), _study_sha256(keys, document), version=record.version)
    if name == "quantize.json":
        entry = document.get("files", {}).get(path.split("/")[1], {}) if path.startswith("files/") else {}
        return Origin(MEASURED, str(entry.get("sha256", record.artifact_sha256)), version=record.version)
    protocol = document.get("protocol") or {}
    sha = str(document.get("sha256", record.artifact_sha256))
    word = str(document.get("provenance", MEASURED))
    return Origin(word, sha, str(protocol.get("sha256", "")), record.version)


def _npu_word(path: str, document: dict[str, Any]) -> str:
    """Return a target's own word; what is read from the graph alone is computed by rule."""
    if not path.startswith("targets/"):
        return RULE
    return str(document.get("targets", {}).get(path.split("/")[1], {}).get("provenance", ESTIMATE))


def _study_word(keys: list[str]) -> str:
    """Return the word of a figure of a pruning's study: what comes from a compiler is an estimate."""
    if keys[0] == "max_map50_drop":
        return DECLARED
    if keys[-2:-1] == ["efficiency"]:
        return MEASURED if keys[-1] == CPU else ESTIMATE
    if "npu" in keys:
        return ESTIMATE
    return RULE if keys[0] in {"derived", "kept", "stopped"} else MEASURED


def _study_sha256(keys: list[str], document: dict[str, Any]) -> str:
    """Return the hash of the weights that a figure of a pruning's study is about, none for a network as pruned."""
    dense, iterations = str(document["dense"]["sha256"]), document["iterations"]
    after = {each["step"]: str(each["measured"]["sha256"]) for each in iterations}
    if keys[0] == "dense" or (keys[0] == "layers" and keys[2] == "dense"):
        return dense
    if keys[0] == "layers":
        return after[document["kept"]]
    if keys[0] == "iterations":
        return "" if keys[2] == "pruned_map50" else str(iterations[int(keys[1])]["measured"]["sha256"])
    if keys[:2] == ["derived", "rows"]:
        # the dense network, then each step as pruned and as trained again
        step, as_pruned = divmod(int(keys[2]), 2)
        return dense if keys[2] == "0" else "" if as_pruned else after[step]
    return ""
