"""What `ethos select` takes, against a bare MLflow client, and with many versions.

    python benchmarks/registry.py [--versions 10000] [--json FILE]

select     `ethos select --json` against a fresh process that fetches the version by its alias with MlflowClient alone;
           aim: at most 1.5 times
scale      the same command with 10,000 registered versions against 10; aim: at most 1.5 times

It works on stores of its own in a temporary folder. The many versions are copies of the first ones, written into the
database directly.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from registry_run import MODEL, new_project, promote_run  # noqa: E402 - after the path to it is known

REPEATS = 9
FEW, MANY = 10, 10_000
SCENARIO = "realtime"
BARE = """
from mlflow import MlflowClient
client = MlflowClient({uri!r})
print(client.get_model_version_by_alias({model!r}, {scenario!r}).version)
"""


def grow(root: Path, versions: int) -> None:
    """Let the registered model have that many versions, by copying version 2 with its tags."""
    with sqlite3.connect(root / "registry/mlflow.db") as connection:
        for table in ("model_versions", "model_version_tags"):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            picked = ", ".join("numbers.n" if column == "version" else f"t.{column}" for column in columns)
            connection.execute(
                f"WITH RECURSIVE numbers(n) AS (SELECT 4 UNION ALL SELECT n + 1 FROM numbers WHERE n < {versions}) "
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {picked} FROM {table} t, numbers "
                "WHERE t.version = 2"
            )


def timed(command: list[str], folder: Path) -> float:
    """Return the seconds of a command that must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
    return time.perf_counter() - began


def alternating(commands: dict[str, tuple[list[str], Path]]) -> dict[str, float]:
    """Return the median time of each command; they take turns, so that a busy machine is busy for all."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(REPEATS + 1):
        for name, (command, folder) in commands.items():
            seconds = timed(command, folder)
            if turn:  # the first one fills the disk's cache
                taken[name].append(seconds)
    return {f"{name}_s": statistics.median(values) for name, values in taken.items()}


def prepare(folder: Path, versions: int) -> Path:
    """Return a project with promoted versions, as many as asked for."""
    root = new_project(folder)
    os.chdir(root)
    promote_run(root)
    grow(root, versions)
    return root


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=MANY, help="versions of the large registry")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    output = arguments.json.absolute() if arguments.json else None
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as name:
        few, many = prepare(Path(name) / "few", FEW), prepare(Path(name) / "many", arguments.versions)
        ours = [str(Path(sys.executable).parent / "ethos"), "select", "--scenario", SCENARIO, "--json"]
        bare = BARE.format(uri=f"sqlite:///{few}/registry/mlflow.db", model=MODEL, scenario=SCENARIO)
        found = alternating(
            {"bare": ([sys.executable, "-c", bare], few), "select": (ours, few), "select_many": (ours, many)}
        )
    found |= {
        "versions": arguments.versions,
        "select_over_bare": found["select_s"] / found["bare_s"],
        "many_over_few": found["select_many_s"] / found["select_s"],
    }
    print(json.dumps(found, indent=2))
    if output:
        output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
