"""report: write the summary of the run as a page, a JSON document and figures."""

from __future__ import annotations

from dataclasses import asdict

from ethos import catalog
from ethos.files import new_folder, write_json, write_text
from ethos.reporting.figures import draw_accuracy_latency, draw_curves
from ethos.reporting.pages import summary_page
from ethos.reporting.summary import read_summary
from pipelines import OUTPUTS, run


def main() -> None:
    """Write outputs/report."""
    params = catalog.load_params()
    summary = read_summary(OUTPUTS, params.candidates, params.targets)
    with new_folder(OUTPUTS / "report") as folder:
        figures = {"mAP50 over epochs": "curves.svg"}
        draw_curves(summary, OUTPUTS, folder / "curves.svg")
        for target in params.targets:
            # rules, unlike a compiler, give no latency
            if any(row.npu[target]["latency_ms"] is None for row in summary.rows):
                continue
            name = f"accuracy-latency-{target}.svg"
            draw_accuracy_latency(summary, target, folder / name)
            figures[f"Accuracy against latency on {target}"] = name
        write_text(folder / "summary.md", summary_page(summary, figures))
        write_json(folder / "summary.json", {"schema": 1, **asdict(summary)})


if __name__ == "__main__":
    raise SystemExit(run(main))
