"""teach: bring a variant's trained teacher to where the variant is trained."""

from __future__ import annotations

import shutil

from ethos.files import new_folder
from pipelines import OUTPUTS, run


def main(student: str, teacher: str) -> None:
    """Write outputs/teacher/STUDENT/network."""
    with new_folder(OUTPUTS / "teacher" / student / "network") as folder:
        for file in (OUTPUTS / "models" / teacher / "dense").iterdir():
            # weights of single epochs lie in a folder
            if file.is_file():
                shutil.copyfile(file, folder / file.name)


if __name__ == "__main__":
    raise SystemExit(run(main))
