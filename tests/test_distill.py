"""Distillation: how far predictions are apart, and what a teacher does to a student."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from conftest import CLASSES

from ethos.model.levels import Architecture, build, resolve_level
from ethos.model.weights import load_model, save_model
from ethos.training.distill import Teacher, distances
from ethos.training.train import TrainResult, train
from pipelines import teach

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ethos.specs import Recipe


def predictions(seed: int, classes: int = 3, anchors: int = 5, reg_max: int = 16) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "scores": torch.randn(2, classes, anchors, generator=generator),
        "boxes": torch.randn(2, 4 * reg_max, anchors, generator=generator),
    }


def architecture(activation: str) -> Architecture:
    base, steps = resolve_level("level4")
    return Architecture(base=base, steps=steps, activation=activation, names=CLASSES)


# --- distances -------------------------------------------------------------------------------------------------------


def test_nothing_lies_between_equals() -> None:
    classes, boxes = distances(predictions(1), predictions(1))
    assert classes.item() == pytest.approx(0.0, abs=1e-6)
    assert boxes.item() == pytest.approx(0.0, abs=1e-6)


def test_distances_by_hand() -> None:
    # one anchor, two classes, distributions over two bins
    student = {"scores": torch.zeros(1, 2, 1), "boxes": torch.zeros(1, 8, 1)}
    wanted = torch.tensor([0.9, 0.2])
    bins = torch.tensor([[0.75, 0.25]] * 4)
    teacher = {"scores": torch.logit(wanted).view(1, 2, 1), "boxes": bins.log().view(1, 8, 1)}
    classes, boxes = distances(student, teacher)
    # binary cross-entropy at probability 1/2 is ln 2; the gaps are 0.4 and 0.3; confidence 0.9 counts as 1
    assert classes.item() == pytest.approx(0.7 * math.log(2), rel=1e-5)
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert boxes.item() == pytest.approx(0.9 * divergence, rel=1e-5)


def test_boxes_count_where_the_teacher_sees_something() -> None:
    student, teacher = predictions(1), predictions(2)
    teacher["scores"] = torch.full_like(teacher["scores"], -30.0)
    assert distances(student, teacher)[1].item() == pytest.approx(0.0, abs=1e-6)


def test_a_step_down_the_gradient_brings_the_student_nearer() -> None:
    student, teacher = predictions(1), predictions(2)
    for value in student.values():
        value.requires_grad_()
    before = distances(student, teacher)
    sum(before).backward()
    moved = {name: (value - value.grad).detach() for name, value in student.items()}
    for old, new in zip(before, distances(moved, teacher), strict=True):
        assert new.item() < old.item()


# --- a student -------------------------------------------------------------------------------------------------------


class Lesson:
    """A network trained with a teacher and one trained without, on the same data."""

    def __init__(self, folder: Path, dataset: Path, recipe: Recipe) -> None:
        self.teacher = build(architecture("leaky_relu"), seed=9)
        # a teacher that says nothing teaches nothing
        for branch in self.teacher.model[-1].cv3:
            branch[-1].bias.data.fill_(0.5)
        self.before = {name: value.clone() for name, value in self.teacher.state_dict().items()}
        self.taught, self.alone = folder / "taught", folder / "alone"
        for into in (self.taught, self.alone):
            into.mkdir()
        teacher = Teacher(self.teacher, cls=20.0, dfl=20.0)
        self.result: TrainResult = train(architecture("relu"), recipe, dataset, self.taught, teacher=teacher)
        train(architecture("relu"), recipe, dataset, self.alone)


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path, smoke: Recipe) -> Lesson:
    return Lesson(tmp_path_factory.mktemp("lesson"), tiny_dataset, smoke.model_copy(update={"epochs": 2}))


def test_the_teacher_stays_as_it_is_and_out_of_the_file(lesson: Lesson) -> None:
    assert all(torch.equal(value, lesson.before[name]) for name, value in lesson.teacher.state_dict().items())
    model, found = load_model(lesson.taught)
    assert found == architecture("relu")
    assert set(model.state_dict()) == set(lesson.before)


def test_the_distance_is_recorded_and_falls(lesson: Lesson) -> None:
    first, second = (epoch.train_distill_loss for epoch in lesson.result.epochs)
    assert first is not None
    assert second is not None
    assert 0 < second < first


def test_a_student_comes_nearer_to_its_teacher_than_one_without(lesson: Lesson) -> None:
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = lesson.teacher.eval()(images)[1]
        found = [distances(load_model(folder)[0].eval()(images)[1], wanted) for folder in (lesson.taught, lesson.alone)]
    taught, alone = (classes.item() + boxes.item() for classes, boxes in found)
    assert taught < alone


# --- the stage -------------------------------------------------------------------------------------------------------


def test_the_stage_brings_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teach, "OUTPUTS", tmp_path)
    trained = tmp_path / "models/level4_leaky/dense"
    trained.mkdir(parents=True)
    save_model(trained, build(architecture("leaky_relu"), seed=9), architecture("leaky_relu"))
    teach.main("level4_relu", "level4_leaky")
    network, found = load_model(tmp_path / "teacher/level4_relu/network")
    assert found.activation == "leaky_relu"
    assert torch.equal(
        network.state_dict()["model.0.conv.weight"], load_model(trained)[0].state_dict()["model.0.conv.weight"]
    )
