"""How the work on data grows with its amount, and what memory it takes.

    python benchmarks/data.py near crowded images signs15 [--json FILE] [--scratch FOLDER]

near      the search for near duplicates among 62,500 to 1,000,000 difference hashes of generated pictures, one in ten
          of which is another's near copy; aim: growth exponent at most 1.15
crowded   the same for pictures that differ in so little (5 x 5 instead of 7 x 7 random values, interpolated) that a
          million of them crowd the space of hashes: the more there are, the more nearly near ones each has
images    import, split and checks of 5,000, 20,000 and 80,000 generated images of 96 pixels, in tracks of four frames
          with one box each; aim: growth exponent at most 1.15
signs15   import and checks of the folder that SIGNS15_ROOT names, as `ethos data check --source` does it; aim: 60 s

Every size is measured in a process of its own, after a small run that loads what is loaded once. The growth exponent is
the slope of the logarithm of seconds over the logarithm of the size, by least squares; memory is the process' peak.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import yaml

from ethos.data.check import as_it_is
from ethos.data.guard import run_checks
from ethos.data.near import BYTES, HASH_SIDE, near_pairs
from ethos.data.source import materialise
from ethos.specs import Dataset, FolderSource, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

HASHES = (62_500, 125_000, 250_000, 500_000, 1_000_000)
IMAGES = (5_000, 20_000, 80_000)
WARM_UP = 200
REPEATS = 3  # of the short searches; the fastest counts
DISTANCE = 10
COPIES = 0.1
CELLS, FEWER_CELLS = 7, 5
FRAMES = 4
SIDE = 96
CLASSES = 8
MIB = 1024  # ru_maxrss counts KiB


def near(cells: int) -> dict[str, Any]:
    """Grow the search for near duplicates."""
    return grown({str(count): in_own_process("near", str(count), str(cells)) for count in HASHES}, "search_s")


def images(scratch: Path) -> dict[str, Any]:
    """Grow import and checks."""
    found = {}
    for count in IMAGES:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            root = write_images(Path(folder) / "source", count)
            found[str(count)] = in_own_process("images", str(root), folder)
    return grown(found, "import_s", "check_s", "total_s")


def signs15(scratch: Path) -> dict[str, Any]:
    """Time the real data set."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        return in_own_process("signs15", os.environ["SIGNS15_ROOT"], folder)


def grown(found: dict[str, dict[str, Any]], *keys: str) -> dict[str, Any]:
    """Return the measurements with the growth exponent of each of the `keys`."""
    sizes = np.log([int(size) for size in found])
    slopes = {key: np.polyfit(sizes, np.log([each[key] for each in found.values()]), 1)[0] for key in keys}
    return {"sizes": found, "exponents": {key: round(float(slope), 3) for key, slope in slopes.items()}}


def in_own_process(part: str, *arguments: str) -> dict[str, Any]:
    """Measure one size in a new process."""
    command = [sys.executable, __file__, "--measure", part, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


# --- measured in a process of its own --------------------------------------------------------------------------------


def measure_near(count: str, cells: str) -> dict[str, Any]:
    """Search among that many hashes."""
    codes = write_hashes(int(count), int(cells))
    search(codes[:WARM_UP])
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        pairs = search(codes)
        seconds.append(time.perf_counter() - began)
    return {
        "search_s": round(min(seconds), 3),
        "pairs": pairs,
        "peak_mib": peak_mib(),
    }


def search(codes: NDArray[np.uint8]) -> int:
    """Return the number of near pairs."""
    return sum(len(pairs) for pairs, _ in near_pairs(codes, DISTANCE))


def measure_images(root: str, folder: str) -> dict[str, Any]:
    """Import and check a generated folder."""
    small = write_images(Path(folder) / "small", WARM_UP)
    timed(spec(small), Path(folder) / "warm")
    return timed(spec(Path(root)), Path(folder) / "dataset")


def measure_signs15(root: str, folder: str) -> dict[str, Any]:
    """Import and check the real folder with its own split; what is loaded once counts here."""
    return timed(as_it_is(Path(root), "signs15"), Path(folder) / "dataset")


def timed(dataset: Dataset, into: Path) -> dict[str, Any]:
    """Import and check a data set; return seconds and the process' peak memory."""
    began = time.perf_counter()
    materialise(dataset, into)
    brought = time.perf_counter()
    report = run_checks(into, dataset)
    ended = time.perf_counter()
    return {
        "import_s": round(brought - began, 1),
        "check_s": round(ended - brought, 1),
        "total_s": round(ended - began, 1),
        "peak_mib": peak_mib(),
        "failing": [check["name"] for check in report["checks"] if not check["ok"]],
    }


def peak_mib() -> int:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // MIB


# --- what is measured ------------------------------------------------------------------------------------------------


def spec(root: Path) -> Dataset:
    """Return the spec of a generated folder, with a grouped split."""
    return Dataset(
        name="generated",
        source=FolderSource(type="folder", root=str(root)),
        classes=tuple(f"class {number}" for number in range(CLASSES)),
        split=Split(track=r"^(?P<track>track\d+)_"),
    )


def write_hashes(count: int, cells: int, batch: int = 8192) -> NDArray[np.uint8]:
    """Return different hashes [about count, 32] of smooth random pictures; some have a near copy."""
    rng = np.random.default_rng(0)
    wanted = round(count * (1 - COPIES))
    codes = []
    for start in range(0, wanted, batch):
        fields = rng.standard_normal((cells, cells, min(batch, wanted - start))).astype(np.float32)
        grey = _enlarged(fields)
        grey += rng.standard_normal(grey.shape, dtype=np.float32) * np.float32(0.05)
        codes.append(np.packbits((grey[:, 1:] > grey[:, :-1]).reshape(-1, grey.shape[-1]).T, axis=1))
    originals = np.concatenate(codes)
    bits = np.unpackbits(originals[rng.integers(0, wanted, count - wanted)], axis=1)
    bits ^= (rng.random(bits.shape) < DISTANCE / 2 / bits.shape[1]).astype(np.uint8)
    found: NDArray[np.uint8] = np.unique(np.concatenate([originals, np.packbits(bits, axis=1)]), axis=0)
    assert found.shape[1] == BYTES
    return found


def _enlarged(fields: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return fields [cells, cells, n] as pictures [16, 17, n], interpolated."""
    rows = _weights(fields.shape[0], HASH_SIDE)
    columns = _weights(fields.shape[1], HASH_SIDE + 1)
    grey: NDArray[np.float32] = np.einsum("ya,abn,xb->yxn", rows, fields, columns, optimize=True)
    return np.ascontiguousarray(grey)


def _weights(known: int, wanted: int) -> NDArray[np.float32]:
    at = np.linspace(0, known - 1, wanted, dtype=np.float32)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(known, dtype=np.float32)[None]))


def write_images(root: Path, count: int) -> Path:
    """Write a YOLO folder of generated images; the frames of a track differ a little."""
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    rng = np.random.default_rng(1)
    for track in range(count // FRAMES):
        scene = rng.integers(0, 256, (CELLS, CELLS, 3), dtype=np.uint8)
        for frame in range(FRAMES):
            moved = np.clip(scene.astype(np.int16) + rng.integers(-12, 13, scene.shape), 0, 255).astype(np.uint8)
            picture = cv2.resize(moved, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            stem = f"track{track:06d}_{frame}"
            cv2.imwrite(str(root / "images" / f"{stem}.jpg"), picture)
            box = " ".join(f"{value:.4f}" for value in (*rng.uniform(0.3, 0.7, 2), *rng.uniform(0.1, 0.5, 2)))
            (root / "labels" / f"{stem}.txt").write_text(f"{track % CLASSES} {box}\n")
    data = {"train": "images", "names": [f"class {number}" for number in range(CLASSES)]}
    (root / "data.yaml").write_text(yaml.safe_dump(data))
    return root


MEASURES = {"near": measure_near, "images": measure_images, "signs15": measure_signs15}
PARTS = {
    "near": lambda _: near(CELLS),
    "crowded": lambda _: near(FEWER_CELLS),
    "images": images,
    "signs15": signs15,
}


def main() -> None:
    """Measure the parts that are named and print them."""
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(MEASURES[sys.argv[2]](*sys.argv[3:])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="for generated images")
    arguments = parser.parse_args()
    found = {part: PARTS[part](arguments.scratch) for part in arguments.parts}
    print(json.dumps(found, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
