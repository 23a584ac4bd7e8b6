"""The report: pages of a registry, what they say is missing, what is written again, and numbers read back."""

from __future__ import annotations

import json
import os
import re
import shutil
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from registry_run import MODEL, new_project
from report_project import VARIANTS, VERSIONS, add_version, give_aliases, policy_of

from ethos.errors import DataError, SpecError
from ethos.files import read_json
from ethos.registry import ledger
from ethos.registry.promote import promote_scenario, rollback
from ethos.registry.records import READY
from ethos.registry.store import open_store
from ethos.reporting import site
from ethos.reporting.blocks import Table
from ethos.reporting.evidence import Evidence, open_evidence
from ethos.reporting.pages.common import table
from ethos.reporting.pages.pruning import pruning_page
from ethos.reporting.pages.training import run_address
from ethos.reporting.plan import PAGES
from ethos.reporting.site import write_site
from ethos.reporting.text_catalog import Texts
from ethos.reporting.verify import verify_site

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = Texts("en")


def write(root: Path, language: str = "en") -> site.Written:
    with open_evidence(root) as evidence:
        return write_site(evidence, Texts(language), root / "outputs" / "report")


def findings(root: Path) -> list[str]:
    with open_evidence(root) as evidence:
        return [f"{each.page}: {each.problem}" for each in verify_site(evidence, root / "outputs" / "report").findings]


def page(root: Path, name: str) -> str:
    return (root / "outputs" / "report" / f"{name}.html").read_text(encoding="utf-8")


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


# --- what is there ---------------------------------------------------------------------------------------------------


def test_every_page_is_there_in_both_forms_with_its_pictures(report_project: Path) -> None:
    folder = report_project / "outputs" / "report"
    for name in (*PAGES, "versions/v1", "versions/v2", "versions/v3"):
        html, markdown = (folder / f"{name}.{suffix}" for suffix in ("html", "md"))
        linked = re.findall(r'(?:src|href)="([^"#:]+)"', html.read_text(encoding="utf-8"))
        linked += re.findall(r"\]\(([^)#:]+)\)", markdown.read_text(encoding="utf-8"))
        assert linked
        assert [target for target in linked if not (html.parent / target).is_file()] == []
    for picture in (folder / "pictures").glob("*.svg"):
        assert picture.with_suffix(".png").is_file()


def test_the_first_page_says_what_serves_each_scenario_and_why(report_project: Path) -> None:
    text = text_of(page(report_project, "index"))
    for scenario, variant in (("realtime", "level2_relu"), ("accuracy", "level4_leaky")):
        assert f"{variant} is pinned (declared) and passes all 1 gates" in text
        assert scenario in text
    assert "the objective (lowest npu.latency_ms on ethos-u65-512) prefers version 2" in text


def test_a_training_report_has_course_changes_and_convergence(report_project: Path) -> None:
    text = text_of(page(report_project, "versions/v1"))
    assert "epochs 4" in text
    # 0.895 is within 0.01 of the best, 0.6 is not
    assert "converged at epoch 3" in text
    assert "train_box_loss 4.000 0.500 -87.5" in text
    assert "training time, s 10.0" in text
    assert "peak memory, MiB 804" in text
    assert "dead ReLU channels, % 1.5" in text
    assert "no ReLU" in text_of(page(report_project, "versions/v2"))


def test_figures_of_v3_are_marked_and_declared(report_project: Path) -> None:
    html = page(report_project, "accuracy")
    assert "Reported by V3 (declared)" in html
    shown = re.search(r'<data[^>]*data-sources="\[&#34;v3#accuracy/level2_relu/val_map50&#34;\]"[^>]*>', html)
    assert shown
    assert 'data-provenance="declared"' in shown[0]
    assert ">0.895</data>" in html[shown.start() : shown.end() + 20]


def test_every_figure_carries_its_evidence(report_project: Path) -> None:
    tags = re.findall(r'<data class="figure"[^>]*>', page(report_project, "accuracy"))
    ours = [tag for tag in tags if "metrics/int8.json#map50&" in tag]
    assert len(ours) >= len(VARIANTS)
    for tag in ours:
        assert re.search(r'data-sha256="[0-9a-f]{64}"', tag)
        assert re.search(r'data-protocol="[0-9a-f]{64}"', tag)
        assert re.search(r'data-version="\d"', tag)
        assert 'data-provenance="measured"' in tag


def test_nothing_is_loaded_from_elsewhere(report_project: Path) -> None:
    for path in (report_project / "outputs" / "report").rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        assert re.findall(r'(?:src|<link[^>]*href)="(?:https?:)?//[^"]*"', html) == []
        assert "@import" not in html


def test_the_licence_line_of_the_images_is_on_pages_that_show_them(report_project: Path) -> None:
    for name in (*PAGES, "versions/v1"):
        assert "Images: drawn by hand" in text_of(page(report_project, name))


def test_the_korean_report_holds_the_same_numbers(report_project: Path) -> None:
    def numbers() -> dict[str, list[str]]:
        return {name: re.findall(r'<data class="figure"[^>]*>([^<]*)<', page(report_project, name)) for name in PAGES}

    english = numbers()
    write(report_project, "ko")
    assert '<html lang="ko">' in page(report_project, "index")
    assert "시나리오별 선택" in page(report_project, "index")
    assert numbers() == english
    assert findings(report_project) == []


# --- pruning ---------------------------------------------------------------------------------------------------------


def test_the_pruning_page_shows_the_study_of_each_pruned_version(report_project: Path) -> None:
    text = re.sub(r" ([.,:])", r"\1", text_of(page(report_project, "pruning")))
    # 0.7 of the dense cycles, one point of mAP50
    assert "level4_leaky (pruned) +1.00 79.2 70.0 70.0 yes -" in text
    assert "Kept: step 1 of 2 taken. Why the schedule ended: mAP50 has fallen by 0.100, more than 0.02." in text
    assert "dense 2,500,000 0.200 2.50 0.900 18.0 10,000,000 10,000,000 6.48 2 not real time, Pareto" in text
    # 0.7 x 30 / 1.5
    assert "step 1, as pruned 1,500,000 0.120 1.50 0.700 30.0 6,000,000 6,000,000 14.00 - over the accuracy" in text
    assert "step 1, trained again 1,500,000 0.120 1.50 0.890 30.0 6,000,000 6,000,000 17.80 1 KEPT, Pareto" in text
    assert "ai-edge-litert 2.3.0 on Test CPU: threads 1, batch 1, int8, median of 30 runs" in text
    assert "realtime step 1, trained again balanced step 1, trained again accuracy dense" in text
    assert 'src="pictures/v3-pruning.svg"' in page(report_project, "pruning")
    write(report_project, "ko")
    assert "1단계, 재학습 후 1,500,000 0.120" in text_of(page(report_project, "pruning"))


def test_a_pruned_versions_page_has_its_channels_and_both_runs(report_project: Path) -> None:
    text = text_of(page(report_project, "versions/v3"))
    assert "model.1.conv 32 16 64 48" in text
    assert "This is the training of the dense network" in text
    record = open_store(report_project).version(MODEL, 3)
    assert f"MLflow run of the pruning {record.tags['prune.run_id'][:12]}" in text
    assert "MLflow run of the pruning" not in text_of(page(report_project, "versions/v2"))


@pytest.mark.parametrize(
    ("path", "word", "network"),
    [
        ("dense/cpu/fps", "measured", "dense"),
        ("iterations/0/measured/npu/ethos-u65-512/cycles", "estimate", "first"),
        ("iterations/0/pruned_map50", "measured", None),
        ("iterations/1/measured/map50", "measured", "second"),
        ("derived/rows/0/efficiency/cpu", "measured", "dense"),
        ("derived/rows/1/efficiency/cpu", "measured", None),
        ("derived/rows/4/efficiency/ethos-u65-512", "estimate", "second"),
        ("derived/rows/2/rank", "rule", "first"),
        ("layers/0/dense/1", "measured", "dense"),
        ("layers/0/pruned/1", "measured", "first"),
        ("max_map50_drop", "declared", None),
    ],
)
def test_figures_of_a_study_name_the_weights_that_they_are_about(
    report_project: Path, path: str, word: str, network: str | None
) -> None:
    with open_evidence(report_project) as evidence:
        study = evidence.document("version/3/prune.json")
        origin = evidence.figure(f"version/3/prune.json#{path}", "count").origin
    hashes = {"dense": study["dense"]["sha256"], None: ""}
    hashes |= dict(zip(("first", "second"), (each["measured"]["sha256"] for each in study["iterations"]), strict=True))
    assert (origin.provenance, origin.sha256, origin.version) == (word, hashes[network], 3)


@pytest.mark.parametrize(
    ("tags", "verdict"),
    [
        ({"dense.size_share": "1.0"}, "no: not smaller"),
        ({"dense.map50_drop": "0.021"}, "no: loses more mAP50 than allowed"),
        ({"npu.ethos-u65-512.dense_cycles_share": "1.2"}, "no: not fewer cycles on ethos-u65-512"),
    ],
    ids=["larger", "less-accurate", "slower"],
)
def test_a_pruned_form_that_is_not_better_is_told_why(report_project: Path, tags: dict[str, str], verdict: str) -> None:
    store = open_store(report_project)
    store.tag_version(store.version(MODEL, 3), tags)
    with open_evidence(report_project) as evidence:
        blocks = pruning_page(evidence, TEXTS)
    (better,) = (block for block in blocks if isinstance(block, Table) and TEXTS("pruning.verdict") in block.columns)
    assert verdict in better.rows[0]


def test_a_version_without_its_study_says_so(report_project: Path) -> None:
    with open_evidence(report_project) as evidence:
        path = evidence.artifact(3, "prune.json")
    assert path
    path.unlink()
    written = write(report_project)
    assert written.lacking["pruning"] == ["version/3/prune.json"]
    for name in ("pruning", "versions/v3"):
        assert "This version holds no prune.json" in text_of(page(report_project, name))
        assert "version/3/prune.json" in written.missing[name]
    assert findings(report_project) == []


# --- reading back ----------------------------------------------------------------------------------------------------


def test_every_number_is_in_the_registry(report_project: Path) -> None:
    with open_evidence(report_project) as evidence:
        verified = verify_site(evidence, report_project / "outputs" / "report")
    assert verified.findings == []
    assert verified.pages == len(PAGES) + VERSIONS
    assert verified.numbers > 400


def _rehash(root: Path, name: str) -> None:
    """Make an edited page look as if it had been written so."""
    manifest = root / "outputs" / "report" / "site.json"
    document = read_json(manifest)
    key, _, suffix = name.rpartition(".")
    document["pages"][key]["files"][f"{key}.{suffix}"] = site.sha256_file(manifest.parent / name)
    manifest.write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "before", "after", "problem"),
    [
        ("accuracy.html", ">0.900</data>", ">0.901</data>", "recorded as 0.900 (0.9)"),
        ("accuracy.html", 'data-provenance="measured"', 'data-provenance="estimate"', "claims provenance estimate"),
        ("accuracy.html", 'data-version="1"', 'data-version="2"', "claims version 2, recorded is 1"),
        ("history.html", "<td>dense</td>", "<td>0.93</td>", "a number without evidence"),
        ("history.html", "<td>dense</td>", "<td><code>0.93</code></td>", "a number without evidence"),
        ("pruning.html", ">17.80</data>", ">17.90</data>", "recorded as 17.80"),
        ("index.html", ">level2_relu is pinned", ">level2_relu was pinned", "recorded as level2_relu is pinned"),
        ("accuracy.md", "| 0.900 |", "| 0.901 |", "differs from the HTML page"),
        ("accuracy.html", "metrics/int8.json#map50&", "metrics/int8.json#map60&", "not recorded: version/1"),
    ],
    ids=["number", "provenance", "version", "bare", "bare code", "study", "fact", "markdown", "locator"],
)
def test_what_does_not_hold_is_found(report_project: Path, name: str, before: str, after: str, problem: str) -> None:
    path = report_project / "outputs" / "report" / name
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    assert f"{name}: the file was altered after it was written" in findings(report_project)
    _rehash(report_project, name)
    assert any(problem in found for found in findings(report_project))


def test_a_commit_or_run_of_digits_alone_is_no_number(report_project: Path) -> None:
    store = open_store(report_project)
    store.tag_version(store.version(MODEL, 1), {"git.commit": "1234567890" * 4})
    write(report_project)
    assert "<code>123456789012</code>" in page(report_project, "history")
    assert findings(report_project) == []


def test_a_registry_that_changed_under_the_report_is_found(report_project: Path) -> None:
    store = open_store(report_project)
    store.tag_version(store.version(MODEL, 1), {"int8.map50": "0.5"})
    found = findings(report_project)
    assert any(each.startswith("index.html: recorded as 0.500") for each in found)
    assert any(each.startswith("metrics.json: ") for each in found)
    write(report_project)
    assert findings(report_project) == []


def test_an_evidence_file_that_was_altered_counts_as_missing(report_project: Path) -> None:
    with open_evidence(report_project) as evidence:
        path = evidence.artifact(1, "metrics/int8.json")
    assert path
    path.write_text(path.read_text(encoding="utf-8").replace("0.9", "0.99"), encoding="utf-8")
    assert any("not recorded: version/1/metrics/int8.json" in found for found in findings(report_project))
    assert "version/1/metrics/int8.json (altered)" in write(report_project).missing["accuracy"]


def test_a_folder_without_a_report_is_named(report_project: Path, tmp_path: Path) -> None:
    with open_evidence(report_project) as evidence, pytest.raises(DataError, match="holds no report"):
        verify_site(evidence, tmp_path)
    (tmp_path / "site.json").write_text("[]", encoding="utf-8")
    with open_evidence(report_project) as evidence, pytest.raises(DataError, match="holds no report"):
        verify_site(evidence, tmp_path)


# --- protocols -------------------------------------------------------------------------------------------------------


def test_scores_of_unlike_protocols_are_refused_in_one_table(report_project: Path) -> None:
    add_version(report_project, "level4_leaky", run="b", map50=0.8, conf=0.25)
    with open_evidence(report_project) as evidence:
        rows = [[evidence.figure(f"version/{number}#int8.map50", "score")] for number in (1, 4)]
        with pytest.raises(SpecError) as caught:
            table(evidence, ["mAP50"], rows, "mine")
    assert str(caught.value).startswith("report, table 'mine': versions 1 and 4: scores of different protocols")
    assert "conf is 0.001 in one and 0.25 in the other" in str(caught.value)


def test_only_versions_of_the_newest_protocol_are_candidates(report_project: Path) -> None:
    add_version(report_project, "level4_leaky", run="b", map50=0.8, conf=0.25)
    write(report_project)
    assert read_json(report_project / "outputs/report/metrics.json").keys() == {"level4_leaky"}
    assert page(report_project, "history").count("All versions of protocol") >= 2
    assert findings(report_project) == []


# --- what is written again -------------------------------------------------------------------------------------------


def test_nothing_is_written_again_when_nothing_changed(report_project: Path) -> None:
    written = write(report_project)
    assert (written.pages, written.pictures) == ([], [])


def test_a_promotion_renews_the_pages_that_tell_of_it_and_no_other_picture(report_project: Path) -> None:
    store = open_store(report_project)
    add_version(report_project, "level3_relu")
    write(report_project)
    store.set_alias(store.version(MODEL, 2), "realtime")
    written = write(report_project)
    assert {"index", "history", "versions/v1", "versions/v2"} <= set(written.pages)
    assert not {"versions/v3", "versions/v4"} & set(written.pages)
    # what serves which scenario stands in these pictures
    assert {name.partition("-")[0] for name in written.pictures} == {"pareto"}


def test_an_altered_or_lost_file_is_written_again(report_project: Path) -> None:
    folder = report_project / "outputs" / "report"
    (folder / "npu.md").write_text("mine", encoding="utf-8")
    (folder / "pictures" / "sizes.png").unlink()
    (folder / "quantization.html").unlink()
    written = write(report_project)
    assert sorted(written.pages) == ["npu", "quantization"]
    assert written.pictures == ["sizes"]
    assert findings(report_project) == []


def test_pages_of_versions_that_are_gone_are_removed(report_project: Path) -> None:
    stale = report_project / "outputs" / "report" / "versions" / "v9.html"
    stale.write_text("old", encoding="utf-8")
    keep = report_project / "outputs" / "report" / "notes.txt"
    keep.write_text("mine", encoding="utf-8")
    write(report_project)
    assert not stale.exists()
    assert keep.exists()


def test_the_same_registry_gives_the_same_bytes(report_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = report_project / "outputs" / "report"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    # what another release wrote is not trusted; and one process draws as several do
    (folder / "site.json").write_text('{"schema": 0}', encoding="utf-8")
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert len(write(report_project).pages) == len(PAGES) + VERSIONS
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


# --- what is missing -------------------------------------------------------------------------------------------------


def test_an_empty_registry_has_pages_that_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = new_project(tmp_path / "empty")
    monkeypatch.chdir(root)
    written = write(root)
    assert "registry" in written.lacking["index"]
    assert "The registry holds no ready version yet" in text_of(page(root, "index"))
    assert findings(root) == []


def test_a_project_without_a_store_has_pages_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = new_project(tmp_path / "none")
    (root / "registry" / "mlflow.db").unlink()
    monkeypatch.chdir(root)
    assert "registry" in write(root).lacking["index"]
    assert not (root / "registry" / "mlflow.db").exists()


@pytest.mark.parametrize("name", ["npu.json", "metrics/fp32.json", "quantize.json", "model.onnx"])
def test_a_version_with_a_missing_file_is_shown_with_what_is_left(report_project: Path, name: str) -> None:
    with open_evidence(report_project) as evidence:
        path = evidence.artifact(2, name)
    assert path
    path.unlink()
    written = write(report_project)
    if name != "model.onnx":  # asked for only where there are images to show detections on
        assert any(found.startswith(f"version/2/{name}") for found in written.lacking["versions/v2"])
        assert name in text_of(page(report_project, "versions/v2"))
    assert findings(report_project) == []


def test_a_version_without_any_files_is_shown(report_project: Path) -> None:
    with open_evidence(report_project) as evidence:
        folder = evidence.folder(2)
    assert folder
    shutil.rmtree(folder)
    written = write(report_project)
    assert "version/2/manifest.json" in written.lacking["versions/v2"]
    assert findings(report_project) == []


def test_a_version_that_is_not_ready_is_marked_and_no_candidate(report_project: Path) -> None:
    store = open_store(report_project)
    store.tag_version(store.version(MODEL, 2), {READY: "false"})
    written = write(report_project)
    assert "NOT READY" in text_of(page(report_project, "history"))
    assert "level4_leaky" not in read_json(report_project / "outputs/report/metrics.json")
    assert any("not ready" in found for found in written.missing["versions/v2"])


def test_an_unfinished_run_is_named(report_project: Path) -> None:
    store = open_store(report_project)
    store._client.create_run(store.experiment_id, run_name="train level3_relu")
    written = write(report_project)
    assert any("train level3_relu: running" in found for found in written.lacking["index"])
    assert "Run 'train level3_relu' of" in text_of(page(report_project, "index"))
    assert "train level3_relu running" in text_of(page(report_project, "training"))


def test_older_versions_have_a_page_without_the_costly_pictures(report_project: Path) -> None:
    newer = add_version(report_project, "level2_relu", run="b", map50=0.91)
    give_aliases(report_project, [newer])
    write(report_project)
    manifest: dict[str, Any] = read_json(report_project / "outputs" / "report" / "site.json")
    (only,) = manifest["pages"]["versions/v1"]["pictures"]
    assert re.fullmatch(r"run-[0-9a-f]{12}-curves", only)
    assert "v4-confusion" in manifest["pages"]["versions/v4"]["pictures"]
    assert findings(report_project) == []


def test_the_ledger_is_that_of_the_store(report_project: Path) -> None:
    """A rollback and an alias moved by hand show; the events come from the store where this folder lacks them."""
    store, policy = open_store(report_project), policy_of(report_project)
    promote_scenario(store, policy, MODEL, "realtime", report_project, 2)
    rollback(store, policy, MODEL, "realtime", report_project, "too slow")
    store.set_alias(store.version(MODEL, 1), "accuracy")
    (report_project / ledger.LEDGER).unlink()
    write(report_project)
    shown = text_of(page(report_project, "history"))
    assert re.search(r"rollback realtime v2 v1 level2_relu dense \S+ \S+ rolled back: too slow", shown)
    assert "chose version 2" in shown
    cards = text_of(page(report_project, "index")).partition(TEXTS("index.candidates"))[0]
    assert "rolled back: too slow" in cards
    assert TEXTS("index.by_hand") in cards
    assert findings(report_project) == []


def test_a_link_to_a_server_holds_no_password(report_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Evidence, "tracking_uri", "http://me:secret@mlflow.local:5000/")
    with open_evidence(report_project) as evidence:
        assert run_address(evidence, "abc").startswith("http://mlflow.local:5000/#/experiments/")


def test_an_evidence_names_what_it_did_not_find(report_project: Path) -> None:
    with Evidence(report_project, open_store(report_project), MODEL) as evidence:
        assert evidence.read("version/99/npu.json#targets") is None
        assert evidence.read("outputs/nothing.json#a/b") is None
        assert evidence.read("version/1#no.such.tag", optional=True) is None
        assert evidence.take_absent() == ["version/99/npu.json", "outputs/nothing.json"]
        assert evidence.take_absent() == []
