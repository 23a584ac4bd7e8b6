"""How long a report takes: from nothing, again without a change, and after one more version.

Usage: python benchmarks/reports.py [--versions 14] [--epochs 100] [--folder FOLDER]

A throw-away project is filled with that many registered versions of 14 candidates (seven variants, dense and pruned).
Their figures are made up; files, runs and tags are as a real run leaves them. Limits on two cores: 60 s for 14,
300 s for 500 versions.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE / "tests"))

NAMES = [f"level{level}_{activation}" for level in (2, 3, 4) for activation in ("relu", "leaky")] + ["level5_relu"]
LIMITS = {14: 60.0, 500: 300.0}


def main() -> None:
    """Run the benchmark and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=14, help="versions to register")
    parser.add_argument("--epochs", type=int, default=100, help="epochs of each training")
    parser.add_argument("--folder", type=Path, help="a folder for the project; a temporary one if not given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ethos-reports-") as temporary:
        root = fill(options.folder or Path(temporary), options.versions, options.epochs)
        os.chdir(root)
        measure(root, options.versions)


def fill(folder: Path, versions: int, epochs: int) -> Path:
    """Return a project with that many versions; later ones of a candidate share its files and run."""
    from registry_run import new_project
    from report_project import add_version, give_aliases

    from ethos.registry.records import READY
    from ethos.registry.store import open_store

    root = new_project(folder)
    began = time.perf_counter()
    candidates = [(name, form) for form in ("dense", "pruned") for name in NAMES][:versions]
    records = [
        add_version(root, name, run=form, epochs=epochs, form=form, map50=0.8 + place / 100, latency_ms=20.0 + place)
        for place, (name, form) in enumerate(candidates)
    ]
    store = open_store(root)
    sources = {
        int(each.version): (each.source.removeprefix("models:/"), each.run_id) for each in store._all(records[0].model)
    }
    for number in range(len(records), versions):
        like = records[number % len(records)]
        model_id, run_id = sources[like.version]
        tags = {**like.tags, "int8.map50": repr(like.figures["int8.map50"] - number / 1e5), READY: "true"}
        store.create_version(like.model, model_id, run_id, tags, "")
    give_aliases(root, records)
    print(f"filled with {versions} versions in {time.perf_counter() - began:.1f} s")
    return root


def measure(root: Path, versions: int) -> None:
    """Write the report three times and print seconds, pages and pictures."""
    from registry_run import MODEL

    from ethos import catalog
    from ethos.registry.promote import promote_scenario
    from ethos.registry.store import open_store

    first = _timed(root, "from nothing")
    _timed(root, "again")
    promote_scenario(open_store(root), catalog.load_policy(), MODEL, "realtime", root, version=2, forced="benchmark")
    _timed(root, "after a promotion")
    began = time.perf_counter()
    findings = _verify(root)
    print(f"{'read back':<20}{time.perf_counter() - began:8.1f} s  {findings} do not hold")
    limit = LIMITS.get(versions)
    if limit:
        print(f"limit {limit:.0f} s: {'kept' if first <= limit else 'EXCEEDED'}")


def _timed(root: Path, name: str) -> float:
    from ethos.reporting.evidence import open_evidence
    from ethos.reporting.site import write_site
    from ethos.reporting.text_catalog import Texts

    began = time.perf_counter()
    with open_evidence(root) as evidence:
        written = write_site(evidence, Texts(), root / "outputs" / "report")
    seconds = time.perf_counter() - began
    print(f"{name:<20}{seconds:8.1f} s  {len(written.pages):4} pages {len(written.pictures):5} pictures")
    return seconds


def _verify(root: Path) -> int:
    from ethos.reporting.evidence import open_evidence
    from ethos.reporting.verify import verify_site

    with open_evidence(root) as evidence:
        return len(verify_site(evidence, root / "outputs" / "report").findings)


if __name__ == "__main__":
    main()
