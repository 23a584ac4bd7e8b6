"""Ultralytics prepared: offline, silent, and with the same suppression of boxes with or without torchvision."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from conftest import ROOT
from torch import Tensor

from ethos.model.engine import nms, prepare

if TYPE_CHECKING:
    from pathlib import Path

GUARDED = """
import socket

def refuse(*_, **__):
    raise SystemExit("a socket was opened")

socket.socket.connect = socket.socket.connect_ex = refuse
socket.create_connection = socket.getaddrinfo = refuse

from ethos.model.engine import prepare

which = prepare()
assert which == prepare()
from ultralytics import YOLO, settings
from ethos.model.levels import Architecture, build

build(Architecture(base="yolo11n", steps=(), activation="relu", names=("a",)))
senders = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
on = [name for name in senders if settings[name]]
print(which, on)
"""


def boxes_and_scores(count: int, spread: float, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * spread
    size = torch.rand(count, 2, generator=generator) * 40 + 1
    return torch.cat([corner, corner + size], 1), torch.rand(count, generator=generator)


@pytest.mark.parametrize("iou", [0.0, 0.3, 0.7, 0.95])
@pytest.mark.parametrize(("count", "spread"), [(1, 10), (200, 50), (300, 500), (2000, 300)])
def test_suppression_equals_that_of_ultralytics(count: int, spread: float, iou: float) -> None:
    prepare()
    from ultralytics.utils.nms import TorchNMS

    for seed in range(3):
        boxes, scores = boxes_and_scores(count, spread, seed)
        assert nms(boxes, scores, iou).tolist() == TorchNMS.nms(boxes, scores, iou).tolist()


def test_suppression_with_boxes_moved_apart_by_class() -> None:
    """Ultralytics adds 7680 pixels a class, so that one call serves all of them."""
    prepare()
    from ultralytics.utils.nms import TorchNMS

    boxes, scores = boxes_and_scores(400, 60, 1)
    moved = boxes + torch.arange(400).remainder(15)[:, None] * 7680
    assert nms(moved, scores, 0.7).tolist() == TorchNMS.nms(moved, scores, 0.7).tolist()


def test_suppression_of_nothing() -> None:
    kept = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


def test_suppression_keeps_the_best_of_a_heap() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).repeat(5, 1)
    assert nms(boxes, torch.tensor([0.1, 0.9, 0.3, 0.2, 0.8]), 0.5).tolist() == [1]


def test_ultralytics_stays_out_of_home_and_off_the_network(tmp_path: Path) -> None:
    home, work, temporary = tmp_path / "home", tmp_path / "work", tmp_path / "tmp"
    for folder in (home, work, temporary):
        folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", GUARDED],
        cwd=work,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout in ("stand-in []\n", "torchvision []\n")
    assert done.stderr == ""
    assert [path for folder in (home, work, temporary) for path in folder.rglob("*")] == []
