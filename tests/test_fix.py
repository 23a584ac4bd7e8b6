"""`ethos data fix`: repairs of the materialised copy; the source is never touched."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner
from yolo_folder import folder_dataset, write_folder, write_image, write_label, write_project

from ethos.catalog import project_root
from ethos.cli import app
from ethos.data.fix import rule_sentence
from ethos.data.guard import run_checks
from ethos.data.labels import read_labels
from ethos.data.manifest import ImageRow, read_manifest
from ethos.data.repairs import REPAIRS, repair
from ethos.data.source import materialise
from ethos.errors import SpecError
from ethos.files import read_json, sha256_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "source")


def repaired(root: Path, *names: str, dry_run: bool = False) -> list[tuple[str, str, str]]:
    """Materialise the folder, repair the copy and return what was done."""
    dataset = folder_dataset(root, "keep")
    materialise(dataset, root.parent / "dataset")
    changes = repair(root.parent / "dataset", dataset, names, dry_run=dry_run)
    return [(change.repair, change.image, change.detail) for change in changes]


def rows(root: Path) -> dict[str, ImageRow]:
    return {row.path.name: row for row in read_manifest(root.parent / "dataset")}


def boxes(root: Path, name: str) -> list[list[float]]:
    found: list[list[float]] = read_labels(rows(root)[name].label).round(6).tolist()
    return found


def copy_image(root: Path, *targets: str) -> None:
    """Copy the first training image to others, each with boxes of its own."""
    for target in targets:
        shutil.copy(root / "train/images/train000.jpg", root / target)


def label(root: Path, name: str, *lines: str) -> None:
    side = "train" if name.startswith("train") else "valid"
    write_label(root / side / "labels" / f"{name}.txt", *lines)


def truncate(root: Path) -> None:
    path = root / "train/images/train004.jpg"
    path.write_bytes(path.read_bytes()[:-400])


def orphan(root: Path) -> None:
    label(root, "train_nobody", "0 0.5 0.5 0.5 0.5")


def reach_out(root: Path) -> None:
    label(root, "train004", "0 0.9 0.5 0.4 0.5", "1 0.5 0.5 0.5 0.5", "1 -0.5 0.5 0.2 0.2")


def flatten(root: Path) -> None:
    label(root, "train004", "0 0.5 0.5 0.001 0.5", "1 0.5 0.5 0.5 0.5", "1 0.5 0.5 -0.5 0.5")


def repeat(root: Path) -> None:
    label(root, "train004", "1 0.5 0.5 0.5 0.5", "0 0.5 0.5 0.2 0.5", "1 0.5 0.5 0.5 0.5001")


def disagree(root: Path) -> None:
    copy_image(root, "train/images/train002.jpg", "valid/images/valid000.jpg")
    label(root, "train000", "1 0.5 0.5 0.25 0.5", "0 0.1 0.1 0.2 0.2")
    label(root, "train002", "0 0.5 0.5 0.25 0.5")
    label(root, "valid000", "0 0.5 0.5 0.25 0.5")


def double(root: Path) -> None:
    copy_image(root, "train/images/train002.jpg", "valid/images/valid000.jpg")


CASES: dict[str, tuple[Callable[[Path], None], list[tuple[str, str]], str]] = {
    "drop_unreadable": (truncate, [("train004.jpg", "removed")], "image_readable"),
    "drop_orphans": (orphan, [("train_nobody.txt", "removed")], "label_orphan"),
    "clip_boxes": (reach_out, [("train004.jpg", "2 of 3 boxes")], "box_inside"),
    "drop_degenerate": (flatten, [("train004.jpg", "2 of 3 boxes")], "box_side"),
    "drop_repeated": (repeat, [("train004.jpg", "1 of 3 boxes")], "box_repeated"),
    "resolve_conflicts": (disagree, [("train000.jpg", "2 boxes become the 1 of train002.jpg")], "label_conflict"),
    "drop_duplicates": (
        double,
        [("train000.jpg", "same as valid000.jpg"), ("train002.jpg", "same as valid000.jpg")],
        "leak_bytes",
    ),
}


@pytest.mark.parametrize(("name", "case"), CASES.items(), ids=CASES.keys())
def test_each_repair_cures_its_check(
    root: Path, name: str, case: tuple[Callable[[Path], None], list[tuple[str, str]], str]
) -> None:
    damage, expected, check = case
    damage(root)
    assert repaired(root, name) == [(name, *change) for change in expected]
    dataset = folder_dataset(root, "keep")
    report = run_checks(root.parent / "dataset", dataset)
    assert next(each["ok"] for each in report["checks"] if each["name"] == check)
    assert repair(root.parent / "dataset", dataset, [name]) == []


def test_every_repair_has_a_case_and_a_sentence() -> None:
    assert list(CASES) == list(REPAIRS)
    for name in REPAIRS:
        assert re.fullmatch(r"[A-Z][^\n]*\.", rule_sentence(name))


def test_the_manual_lists_every_repair() -> None:
    manual = (project_root() / "docs" / "data.md").read_text(encoding="utf-8")
    for name in REPAIRS:
        assert f"| `{name}` | {rule_sentence(name)} |" in manual.splitlines()


def test_sound_data_is_left_alone(root: Path, tmp_path: Path) -> None:
    assert repaired(root) == []
    before = (tmp_path / "dataset").stat().st_ino
    repair(tmp_path / "dataset", folder_dataset(root, "keep"))
    assert (tmp_path / "dataset").stat().st_ino == before


def test_boxes_are_cut_at_the_border(root: Path) -> None:
    reach_out(root)
    repaired(root, "clip_boxes")
    assert boxes(root, "train004.jpg")[:2] == [[0, 0.85, 0.5, 0.3, 0.5], [1, 0.5, 0.5, 0.5, 0.5]]


def test_what_is_cut_to_nothing_goes_too(root: Path) -> None:
    reach_out(root)
    changes = repaired(root)
    assert [change[0] for change in changes] == ["clip_boxes", "drop_degenerate"]
    assert len(boxes(root, "train004.jpg")) == 2


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [
        (["0 0.5 0.5 0.2 0.5", "1 0.5 0.5 0.2 0.5", "1 0.5 0.5 0.2 0.5"], [[1, 0.5, 0.5, 0.2, 0.5]]),
        (["0 0.5 0.5 0.2 0.5", "", "1 0.5 0.5 0.4 0.5"], [[0, 0.5, 0.5, 0.2, 0.5]]),
        (["", "1 0.5 0.5 0.4 0.5", "0 0.5 0.5 0.2 0.5"], [[1, 0.5, 0.5, 0.4, 0.5]]),
        (["0 0.5 0.5 0.2 0.5", "0 0.5 0.5 0.20001 0.5", "1 0.5 0.5 0.2 0.5"], [[0, 0.5, 0.5, 0.2, 0.5]]),
    ],
    ids=["most copies", "most boxes, then the first", "most boxes, not the first", "rounding is no conflict"],
)
def test_the_rule_for_conflicts(root: Path, labels: list[str], chosen: list[list[float]]) -> None:
    copy_image(root, "train/images/train001.jpg", "train/images/train002.jpg")
    for number, line in enumerate(labels):
        label(root, f"train{number:03d}", *filter(None, [line]))
    repaired(root, "resolve_conflicts")
    for number in range(3):
        assert np.allclose(boxes(root, f"train{number:03d}.jpg"), chosen, atol=1e-4)


def test_dry_run_changes_nothing(root: Path, tmp_path: Path) -> None:
    double(root)
    changes = repaired(root, dry_run=True)
    assert len(changes) == 2
    record = read_json(tmp_path / "dataset/dataset.json")
    assert record["images"] == {"train": 16, "val": 4}
    assert {path: sha256_file(path) for path in (tmp_path / "dataset").rglob("*.jpg")}.keys() == {
        row.path for row in rows(root).values()
    }


def test_the_copy_is_described_anew_and_the_source_stays(root: Path, tmp_path: Path) -> None:
    double(root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    materialise(folder_dataset(root, "keep"), tmp_path / "dataset")
    old = read_json(tmp_path / "dataset/dataset.json")
    repaired(root)
    new = read_json(tmp_path / "dataset/dataset.json")
    assert new["images"] == {"train": 14, "val": 4}
    assert new["boxes"] == {"train": 14, "val": 4}
    assert new["sha256"] != old["sha256"]
    assert sorted(path.stem for path in (tmp_path / "dataset/labels").rglob("*.txt")) == sorted(
        row.path.stem for row in rows(root).values()
    )
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_findings_of_images_that_stay_are_kept(root: Path, tmp_path: Path) -> None:
    double(root)
    label(root, "train000", "0 0.5 0.5 0.25 0.5", "bad")
    label(root, "train005", "1 0.5 0.5 0.25 0.5", "bad")
    repaired(root, "drop_duplicates")
    lines = (tmp_path / "dataset/findings.csv").read_text().splitlines()
    assert lines == ["kind,image,detail", "malformed,train005.jpg,line 2: bad"]


def test_repairs_of_the_spec_are_part_of_every_run(root: Path, tmp_path: Path) -> None:
    double(root)
    dataset = folder_dataset(root, "keep").model_copy(update={"repairs": ("drop_duplicates",)})
    for _ in range(2):
        materialise(dataset, tmp_path / "dataset")
        assert len(rows(root)) == 18
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "source"]


def test_unknown_repair(root: Path) -> None:
    with pytest.raises(SpecError) as caught:
        repaired(root, "drop_duplicate")
    assert caught.value.message == "data set 'small': unknown repair 'drop_duplicate'"
    assert caught.value.fix.startswith("did you mean drop_duplicates")


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose data set is the small folder with an image twice, materialised."""
    double(write_project(tmp_path))
    monkeypatch.chdir(tmp_path)
    materialise(folder_dataset(tmp_path / "source", "keep"), tmp_path / "outputs/dataset")
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["data", "fix", *arguments])


@pytest.mark.usefixtures("project")
def test_command_lists_then_applies() -> None:
    listed = json.loads(run("--dry-run", "--json").stdout)
    assert (listed["applied"], len(listed["changes"])) == (False, 2)
    assert listed["changes"][0] == {
        "repair": "drop_duplicates",
        "image": "train000.jpg",
        "detail": "same as valid000.jpg",
    }
    applied = json.loads(run("--json").stdout)
    assert (applied["applied"], applied["changes"]) == (True, listed["changes"])
    assert applied["sha256"] != listed["sha256"]
    assert json.loads(run("--json").stdout)["applied"] is False


@pytest.mark.usefixtures("project")
def test_command_for_people() -> None:
    result = run("--only", "drop_duplicates")
    assert result.exit_code == 0
    assert "2 of 2 changes" in result.stdout
    assert "list the repairs under" in result.stdout
    assert "drop_orphans" not in result.stdout


def test_command_works_from_a_folder_below(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "specs" / "datasets")
    assert len(json.loads(run("--dry-run", "--json").stdout)["changes"]) == 2
    shutil.rmtree(project / "outputs")
    checked = CliRunner().invoke(app, ["data", "check", "--json"])
    assert json.loads(checked.stdout)["dataset"] == "small"


def test_command_without_a_data_set(project: Path) -> None:
    shutil.rmtree(project / "outputs")
    result = run()
    assert "outputs/dataset: holds no data set, not 'small'" in str(result.exception)


def test_repairing_leaves_images_of_the_source_alone_when_they_are_linked(root: Path) -> None:
    write_image(root / "train/images/extra.png", 999)
    flatten(root)
    repaired(root)
    for row in rows(root).values():
        assert sha256_file(row.path) == row.sha256
