"""report: write the pages of the registry as they stand after this run, in Markdown and HTML."""

from __future__ import annotations

import logging

from ethos import catalog
from ethos.reporting.evidence import open_evidence
from ethos.reporting.site import write_site
from ethos.reporting.text_catalog import Texts
from pipelines import OUTPUTS, run

log = logging.getLogger(__name__)


def main() -> None:
    """Write outputs/report."""
    with open_evidence(catalog.project_root()) as evidence:
        written = write_site(evidence, Texts(), OUTPUTS / "report")
    log.info("report: %d pages, %d pictures", len(written.pages), len(written.pictures))
    for page, missing in written.lacking.items():
        log.warning("report: %s lacks %s", page, ", ".join(missing[:3]))


if __name__ == "__main__":
    raise SystemExit(run(main))
