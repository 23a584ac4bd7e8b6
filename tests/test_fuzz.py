"""Damaged TFLite files: whatever a file holds, reading and judging it ends in figures or in one clear error."""

from __future__ import annotations

import os
import random
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tflite_files import CHANNELS, SIDE, Network, small_network

from ethos.errors import EthosError
from ethos.npu.analyze import analyze
from ethos.npu.pages import analysis_blocks
from ethos.specs import RulesTarget

if TYPE_CHECKING:
    from pathlib import Path

# 20,000 in all take about two minutes: ETHOS_FUZZ=10000
ROUNDS = int(os.environ.get("ETHOS_FUZZ", "600"))
N78 = RulesTarget(name="n78", compiler="rules", accelerator="ethos-n78", variant="4tops_2ple", driver="25.03")
# what a field of a flatbuffer may wrongly hold: extremes of each width, and small numbers that are other offsets
WORDS = (0, 1, 2, 4, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PAGES_EVERY = 50
VERIFY_EVERY = 10


def _detector() -> Network:
    """Return a network with all that the analysis looks for: slices, attention-like products, SiLU, decoding."""
    network = Network()
    rng = np.random.default_rng(0)
    source = network.feature_map("input")
    here = network.conv(source, "conv0", rng, activation=0)
    gate, product = network.feature_map("gate"), network.feature_map("product")
    network.operator("LOGISTIC", [here], [gate])
    network.operator("MUL", [here, gate], [product], "MulOptions")
    half = (1, SIDE, SIDE, CHANNELS // 2)
    low, high = network.tensor("low", half), network.tensor("high", half)
    network.operator("SPLIT", [network.constant("axis", np.array(3, np.int32)), product], [low, high], "SplitOptions")
    joined = network.feature_map("joined")
    network.operator("CONCATENATION", [high, low], [joined], "ConcatenationOptions", axis=3)
    flat = network.tensor("flat", (SIDE * SIDE, CHANNELS))
    network.operator(
        "RESHAPE",
        [joined, network.constant("form", np.array([SIDE * SIDE, CHANNELS], np.int32))],
        [flat],
        "ReshapeOptions",
    )
    scores = network.tensor("scores", (SIDE * SIDE, SIDE * SIDE))
    network.operator("FULLY_CONNECTED", [flat, flat], [scores], "FullyConnectedOptions")
    soft = network.tensor("soft", (SIDE * SIDE, SIDE * SIDE))
    network.operator("SOFTMAX", [scores], [soft], "SoftmaxOptions", beta=1.0)
    mixed = network.tensor("mixed", (SIDE * SIDE, CHANNELS))
    network.operator("BATCH_MATMUL", [soft, flat], [mixed], "BatchMatMulOptions")
    back = network.feature_map("back")
    network.operator("RESHAPE", [mixed], [back], "ReshapeOptions", newShape=[1, SIDE, SIDE, CHANNELS])
    back = network.conv(back, "projection", rng)
    ends = [network.conv(back, f"head{place}", rng, activation=0) for place in range(2)]
    total, result = network.feature_map("total"), network.feature_map("result")
    network.operator("ADD", [ends[0], network.constant("anchors", np.ones(CHANNELS, np.int8), 0.1)], [total])
    network.operator("LOGISTIC", [ends[1]], [result])
    network.graph.inputs, network.graph.outputs = [source], [total, result]
    network.signature({"images": source}, {"boxes": total, "classes": result})
    return network


SOUND = {"detector": _detector().pack(), "pieces": small_network(between=("FLOOR", "MyOperator")).pack()}


def _damaged(sound: bytes, rng: random.Random) -> bytes:
    """Return a copy with a few words, bytes or stretches changed, or an end cut off; the mark at byte 4 stays."""
    data = bytearray(sound)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(8, len(data) - 8)
        way = rng.randrange(5)
        if way == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif way == 1:
            start = place - place % 4
            data[start : start + 4] = struct.pack("<I", rng.choice(WORDS))
        elif way == 2:
            start = place - place % 2
            data[start : start + 2] = struct.pack("<H", rng.choice(WORDS) & 0xFFFF)
        elif way == 3:
            other = rng.randrange(8, len(data) - 8)
            data[place : place + 4] = data[other : other + 4]
        else:
            start = place - place % 4
            near = int.from_bytes(data[start : start + 4], "little") + rng.choice((-8, -4, 4, 8))
            data[start : start + 4] = struct.pack("<I", near & 0xFFFFFFFF)
    return bytes(data[: rng.randrange(16, len(data))]) if rng.random() < 0.05 else bytes(data)


@pytest.mark.parametrize("name", SOUND)
def test_any_damage_ends_in_figures_or_one_error(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    file = tmp_path / "damaged.tflite"
    figures, errors = 0, []
    for place in range(ROUNDS):
        file.write_bytes(_damaged(SOUND[name], rng))
        try:
            report = analyze(file, [N78], verify=place % VERIFY_EVERY == 0)
            if place % PAGES_EVERY == 0:
                analysis_blocks(report)
            figures += 1
        except EthosError as error:
            errors.append(error)
        except Exception as error:
            error.add_note(f"round {place} of {name}; the file is {file}")
            raise
    assert figures
    assert errors
    for error in errors:
        assert "\n" not in error.message
        assert error.fix


@pytest.mark.parametrize("name", SOUND)
def test_the_sound_files_are_analyzed(name: str, tmp_path: Path) -> None:
    file = tmp_path / "sound.tflite"
    file.write_bytes(SOUND[name])
    report = analyze(file, [N78])
    found = {item["name"] for item in report["advice"]["items"]}
    assert found >= ({"raw_head", "no_attention", "relu", "per_channel_weights"} if name == "detector" else set())
