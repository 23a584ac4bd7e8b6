"""teach: bring a variant's trained teacher to where the variant is trained."""

from __future__ import annotations

import shutil

from ethos.files import new_folder
from ethos.model.weights import ARCHITECTURE_FILE, WEIGHTS_FILE
from pipelines import OUTPUTS, run


def main(student: str, teacher: str) -> None:
    """Write outputs/teacher/STUDENT/network."""
    with new_folder(OUTPUTS / "teacher" / student / "network") as folder:
        for name in (WEIGHTS_FILE, ARCHITECTURE_FILE):
            shutil.copyfile(OUTPUTS / "models" / teacher / "dense" / name, folder / name)


if __name__ == "__main__":
    raise SystemExit(run(main))
