"""The C header: compiled by this machine's compiler, its boxes are those of the Python decoder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ethos.compress.golden import golden_tensors, in_blocks, real_values
from ethos.compress.header import c_header
from ethos.compress.quantize import CONTRACT_FILE, GOLDEN_FILE, HEADER_FILE, INT8_FILE
from ethos.files import sha256_file
from ethos_runtime.contract import Contract, Output, Quantization
from ethos_runtime.decode import decode, nms

if TYPE_CHECKING:
    from pathlib import Path

    from quantized import Quantized

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include "decode.h"

/* reads every box tensor, then every class tensor, from the file; prints one detection a line */
int main(int argc, char **argv) {
    const signed char *boxes[ETHOS_SCALES], *classes[ETHOS_SCALES];
    int scale, branch, index, count, capacity = atoi(argv[5]), most = atoi(argv[4]);
    ethos_candidate *work = malloc((size_t)capacity * sizeof *work);
    ethos_detection *found = malloc((size_t)most * sizeof *found);
    FILE *file = fopen(argv[1], "rb");
    if (argc != 6 || !file || !work || !found) return 2;
    for (branch = 0; branch < 2; branch++) {
        for (scale = 0; scale < ETHOS_SCALES; scale++) {
            size_t cells = (size_t)(ETHOS_HEIGHT / ethos_stride[scale]) * (size_t)(ETHOS_WIDTH / ethos_stride[scale]);
            size_t size = cells * (branch ? ETHOS_CLASSES : 4 * ETHOS_BINS);
            signed char *values = malloc(size);
            if (!values || fread(values, 1, size, file) != size) return 3;
            (branch ? classes : boxes)[scale] = values;
        }
    }
    count = ethos_decode(boxes, classes, strtof(argv[2], NULL), strtof(argv[3], NULL), work, capacity, found, most);
    if (count < 0) {
        puts("too small");
        return 0;
    }
    for (index = 0; index < count; index++) {
        ethos_detection d = found[index];
        printf("%a %a %a %a %a %d\n", d.x1, d.y1, d.x2, d.y2, d.score, d.label);
    }
    return 0;
}
"""


def compiled(folder: Path, header: str, program: str = PROGRAM) -> Path:
    """Compile the program with the header, without a single warning."""
    assert COMPILER is not None
    folder.mkdir(exist_ok=True)
    (folder / "decode.h").write_text(header, encoding="utf-8")
    (folder / "main.c").write_text(program)
    subprocess.run([COMPILER, *STRICT, "-O2", "main.c", "-o", "decoder", "-lm"], cwd=folder, check=True)
    return folder / "decoder"


def run_c(
    decoder: Path, contract: Contract, outputs: dict[str, np.ndarray], conf: float, iou: float, max_det: int = 300
) -> np.ndarray:
    """Return the C decoder's detections, [n, 6]."""
    ordered = [contract.output(branch, stride).name for branch in ("box", "class") for stride in contract.strides]
    (decoder.parent / "tensors.bin").write_bytes(b"".join(outputs[name].tobytes() for name in ordered))
    capacity = sum(output.shape[1] * output.shape[2] * output.shape[3] for output in contract.outputs)
    done = subprocess.run(
        [decoder, decoder.parent / "tensors.bin", repr(conf), repr(iou), str(max_det), str(capacity)],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [
        [float.fromhex(field) for field in line.split()[:5]] + [int(line.split()[5])]
        for line in done.stdout.splitlines()
    ]
    return np.array(rows, np.float64).reshape(-1, 6)


def require_same(
    decoder: Path, contract: Contract, outputs: dict[str, np.ndarray], conf: float, iou: float, max_det: int = 300
) -> int:
    """Compare both decoders; return how many detections there are."""
    boxes, scores = decode(real_values(outputs, contract), contract, conf)
    wanted = nms(boxes, scores, conf, iou, max_det)
    found = run_c(decoder, contract, outputs, conf, iou, max_det)
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found[:, 5], wanted[:, 5])  # same order, so the same boxes were kept
    np.testing.assert_allclose(found[:, :4], wanted[:, :4], atol=0.01, rtol=0)
    np.testing.assert_allclose(found[:, 4], wanted[:, 4], atol=1e-6, rtol=0)
    return len(found)


def contract_of(height: int, width: int, names: tuple[str, ...], scales: float = 0.11) -> Contract:
    outputs = tuple(
        Output(
            f"{branch}{stride}",
            branch,
            stride,
            (1, height // stride, width // stride, channels),
            Quantization(scales + 0.01 * place, zero),
        )
        for branch, channels, zero in (("box", 64, -31), ("class", len(names), 87))
        for place, stride in enumerate((8, 16, 32))
    )
    return Contract((height, width), "images", Quantization(1 / 255, -128), outputs, (8, 16, 32), 16, names)


def random_integers(contract: Contract, seed: int, steps: int = 1) -> dict[str, np.ndarray]:
    """Return random tensors; `steps` above 1 makes values, and with them scores, equal."""
    rng = np.random.default_rng(seed)
    found = {}
    for output in contract.outputs:
        values = rng.normal(0 if output.branch == "box" else 20, 45, output.shape).clip(-128, 127)
        found[output.name] = (np.round(values / steps) * steps).clip(-128, 127).astype(np.int8)
    return found


NAMES = ('Grün "10"', "Stop\\", "a?b", "Speed Limit 30", "Yield", "x", "y", "z")


@needs_compiler
@pytest.mark.parametrize(
    ("height", "width", "names", "conf", "iou", "steps"),
    [
        pytest.param(160, 160, NAMES, 0.25, 0.45, 1, id="square"),
        pytest.param(96, 160, NAMES[:3], 0.001, 0.7, 1, id="wide, low threshold"),
        pytest.param(64, 64, NAMES[:1], 0.0, 0.5, 1, id="one class, every anchor"),
        pytest.param(128, 96, NAMES, 0.1, 0.6, 64, id="ties"),
        pytest.param(64, 96, NAMES, 0.99, 0.7, 1, id="few"),
    ],
)
def test_random_tensors(
    height: int, width: int, names: tuple[str, ...], conf: float, iou: float, steps: int, tmp_path: Path
) -> None:
    contract = contract_of(height, width, names)
    decoder = compiled(tmp_path, c_header(contract, "0" * 64))
    counts = []
    for seed in range(5):
        outputs = random_integers(contract, seed, steps)
        counts.append(require_same(decoder, contract, outputs, conf, iou))
        if steps > 1:  # the ties are there
            scores = run_c(decoder, contract, outputs, conf, iou)[:, 4]
            assert len(np.unique(scores)) < len(scores)
    assert max(counts) > (0 if conf > 0.9 else 20)


@needs_compiler
def test_saturated_tensors(tmp_path: Path) -> None:
    contract = contract_of(64, 64, NAMES[:2], scales=0.9)
    decoder = compiled(tmp_path, c_header(contract, "0" * 64))
    for value in (-128, 127):
        outputs = {output.name: np.full(output.shape, value, np.int8) for output in contract.outputs}
        require_same(decoder, contract, outputs, 0.25, 0.7)
        require_same(decoder, contract, outputs, 0.0, 0.7, max_det=3)


@needs_compiler
def test_golden_tensors(quantized: Quantized, tmp_path: Path) -> None:
    contract = Contract.read(quantized.files / CONTRACT_FILE)
    golden = dict(np.load(quantized.files / GOLDEN_FILE))
    decoder = compiled(tmp_path, (quantized.files / HEADER_FILE).read_text(encoding="utf-8"))
    conf, iou = float(golden["conf"]), float(golden["iou"])
    found = run_c(decoder, contract, golden, conf, iou, int(golden["max_det"]))
    assert len(found) == len(golden["expected"]) > 5
    np.testing.assert_allclose(found, golden["expected"], atol=0.01, rtol=0)
    assert require_same(decoder, contract, golden, conf, iou) == len(found)


@needs_compiler
def test_too_small_a_work_space(tmp_path: Path) -> None:
    contract = contract_of(64, 64, NAMES[:2])
    decoder = compiled(tmp_path, c_header(contract, "0" * 64))
    run_c(decoder, contract, random_integers(contract, 0), 0.1, 0.7)
    done = subprocess.run(
        [decoder, tmp_path / "tensors.bin", "0.1", "0.7", "300", "3"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "too small\n"


@needs_compiler
def test_constants_and_input(tmp_path: Path) -> None:
    contract = contract_of(64, 96, NAMES)
    shown = (
        '#include <stdio.h>\n#include "decode.h"\nint main(void) { int i; for (i = 0; i < ETHOS_CLASSES; i++) '
        'puts(ethos_names[i]); for (i = 0; i < 256; i++) printf("%d ", ethos_input(i)); return 0; }\n'
    )
    done = subprocess.run([compiled(tmp_path, c_header(contract, "0" * 64), shown)], capture_output=True, check=True)
    *names, inputs = done.stdout.decode().splitlines()
    assert tuple(names) == NAMES
    given = contract.input_quantization
    pixels = np.arange(256, dtype=np.float32) / np.float32(255) / np.float32(given.scale)
    assert list(map(int, inputs.split())) == (np.round(pixels) + given.zero_point).clip(-128, 127).tolist()


def test_the_header_needs_math_alone_and_names_its_contract(quantized: Quantized) -> None:
    header = (quantized.files / HEADER_FILE).read_text(encoding="utf-8")
    assert [line for line in header.splitlines() if line.startswith("#include")] == ["#include <math.h>"]
    assert sha256_file(quantized.files / CONTRACT_FILE) in header
    scales = [output["scale"] for output in json.loads((quantized.files / CONTRACT_FILE).read_text())["outputs"]]
    assert all(float(np.float32(scale)).hex() in header for scale in scales)


def test_golden_tensors_are_what_the_file_answers(quantized: Quantized) -> None:
    contract = Contract.read(quantized.files / CONTRACT_FILE)
    path = quantized.files / GOLDEN_FILE
    golden = dict(np.load(path))
    assert path.stat().st_size < 200_000
    boxes, scores = decode(real_values(golden, contract), contract, float(golden["conf"]))
    again = nms(boxes, scores, float(golden["conf"]), float(golden["iou"]), int(golden["max_det"]))
    np.testing.assert_array_equal(again, golden["expected"])
    fresh = golden_tensors(quantized.files / INT8_FILE, contract, golden["image"].astype(np.float32) / 255)
    for output in contract.outputs:
        np.testing.assert_allclose(fresh[output.name], golden[output.name], atol=2)


def test_the_stored_picture_of_a_large_input_is_of_blocks() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (640, 640, 3), np.uint8)
    blocks = in_blocks(picture)
    assert blocks.shape == picture.shape
    assert len(np.unique(blocks.reshape(-1, 3), axis=0)) <= 128 * 128


NUMPY_ALONE = """
import sys
from pathlib import Path
before = set(sys.modules)
import numpy as np
from ethos_runtime.contract import Contract
from ethos_runtime.decode import decode, nms

folder = Path(sys.argv[1])
golden, contract = dict(np.load(folder / "golden.npz")), Contract.read(folder / "decode.json")
stored = {output.name: output.quantization for output in contract.outputs}
boxes, scores = decode(golden, contract, float(golden["conf"]), stored)
found = nms(boxes, scores, float(golden["conf"]), float(golden["iou"]), int(golden["max_det"]))
np.testing.assert_array_equal(found, golden["expected"])
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(name for name in loaded - set(sys.stdlib_module_names) if not name.startswith("_")))
"""


def test_the_reference_decoder_needs_numpy_alone(quantized: Quantized) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NUMPY_ALONE, quantized.files], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["ethos_runtime", "numpy"]
