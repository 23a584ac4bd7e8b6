"""A copy of the project at smoke size, in which the real pipeline runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
COPIED = (
    "LICENSE",
    "dvc.yaml",
    ".dvcignore",
    "requirements.lock",
    "params.yaml",
    "specs",
    "pipelines",
    "src",
    "registry/policy.yaml",
)
VARIANTS = ["level3_relu", "level4_leaky"]
PRUNED = ["level3_relu"]
PRUNE = {"ratio": 0.3, "max_map50_drop": 1.0}

DATASET = {
    "description": "A handful of drawn scenes.",
    "source": {"type": "drawn", "images": 60, "size": 64, "seed": 3},
    "classes": ["Red Light", "Stop"],
    "split": {"track": r"^(?P<scene>scene_\d+)", "tolerance": 0.1},
    "checks": {"min_boxes_per_class": 1, "max_class_share_difference": 1.0},
}
POLICY = {
    "scenarios": {
        "realtime": {
            "pin": "level3_relu",
            "target": "ethos-u65-512",
            "gates": ["npu.operators_cpu == 0", "npu.over_budget_kib <= 0 KiB"],
            "objective": {"minimise": "npu.latency_ms"},
        },
        "accuracy": {
            "pin": "level4_leaky",
            "target": "ethos-u65-512",
            "gates": [],
            "objective": {"maximise": "int8.map50"},
        },
    }
}


class Project:
    """A project folder with commands run in it as a user would."""

    def __init__(self, folder: Path, *, git: bool = True) -> None:
        self.folder = folder
        for name in COPIED:
            source, place = ROOT / name, folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copyfile(source, place)
        (folder / ".dvc").mkdir()
        shutil.copyfile(ROOT / ".dvc/config", folder / ".dvc/config")
        shutil.copyfile(ROOT / ".dvc/.gitignore", folder / ".dvc/.gitignore")
        shutil.copyfile(ROOT / ".gitignore", folder / ".gitignore")
        self.write("specs/datasets/tiny.yaml", DATASET)
        self.write("registry/policy.yaml", POLICY)
        params = yaml.safe_load((folder / "params.yaml").read_text())
        small = {"dataset": "tiny", "recipe": "smoke", "variants": VARIANTS, "targets": ["ethos-u65-512"]}
        self.write("params.yaml", params | small | {"pruned": PRUNED})
        for variant in PRUNED:
            spec = yaml.safe_load((folder / f"specs/variants/{variant}.yaml").read_text())
            self.write(f"specs/variants/{variant}.yaml", spec | {"prune": PRUNE})
        if git:
            self.git("init", "-q")
            self.git("config", "user.name", "test")
            self.git("config", "user.email", "test@localhost")
            self.commit("start")

    def write(self, name: str, document: object) -> None:
        """Write a YAML file of the project."""
        (self.folder / name).write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.folder, check=True, capture_output=True)

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)

    def run(self, *command: str, expect: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the virtual environment; its exit code must be the expected one."""
        binaries = Path(sys.executable).parent
        done = subprocess.run(
            command,
            cwd=self.folder,
            capture_output=True,
            text=True,
            env={
                **{key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_"))},
                "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": f"{self.folder / 'src'}{os.pathsep}{self.folder}",
                "DVC_NO_ANALYTICS": "1",
                **environment,
            },
            check=False,
        )
        assert done.returncode == expect, (
            f"{command}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        return done

    def repro(self, *arguments: str) -> set[str]:
        """Run `dvc repro` and return the names of the stages that ran."""
        done = self.run("dvc", "repro", *arguments)
        return set(re.findall(r"^Running stage '([^']+)'", done.stdout, flags=re.MULTILINE))
