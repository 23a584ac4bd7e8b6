"""Stage `check`: guard the data set and its split; a failed check of severity `error` stops the pipeline."""

from __future__ import annotations

import logging

from ethos.catalog import load, load_params
from ethos.data.guard import refuse_failed, run_checks
from ethos.files import new_folder, write_json
from pipelines import OUTPUTS, run

log = logging.getLogger(__name__)


def main() -> None:
    """Write outputs/check, also where a check fails, so that its pages and lists tell which files are concerned."""
    dataset = load("dataset", load_params().dataset)
    with new_folder(OUTPUTS / "check") as folder:
        report = run_checks(OUTPUTS / "dataset", dataset, folder / "docs", folder / "offenders")
        write_json(folder / "report.json", report)
    for check in report["checks"]:
        if not check["ok"]:
            log.warning("%s: %s: %s", check["severity"], check["name"], check["message"])
    refuse_failed(report)


if __name__ == "__main__":
    raise SystemExit(run(main))
