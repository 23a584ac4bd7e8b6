"""Pages of a run, in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethos.reporting.summary import PROVENANCE, cells, headings

if TYPE_CHECKING:
    from ethos.reporting.summary import Summary

TEXT_COLUMNS = {"variant", "form", "scenario"}


def summary_page(summary: Summary, figures: dict[str, str]) -> str:
    """Return the summary of a run as a Markdown page.

    Args:
        summary: The run.
        figures: Caption to file name, relative to the page.
    """
    parts = [
        f"# Run on {summary.dataset['name']}",
        _facts(summary),
        _table(headings(summary), [cells(summary, row) for row in summary.rows]),
        PROVENANCE,
        "## Files",
        _table(
            ["variant", "form", "SHA-256 of int8.tflite"], [[r.variant, r.form, f"`{r.sha256}`"] for r in summary.rows]
        ),
        *(f"![{caption}]({file})" for caption, file in figures.items()),
    ]
    if summary.dataset.get("attribution"):
        parts.append(f"Data: {summary.dataset['attribution']}")
    return "\n\n".join(parts) + "\n"


def start_sentence(summary: Summary) -> str:
    """Return where the variants' weights come from."""
    start = summary.start
    if start["source"] == "warm_start":
        return (
            f"All variants begin from one warm start: {start['epochs']} epochs of recipe {start['recipe']} on the same "
            f"training images ({start['seconds']:.0f} s, mAP50 {start['map50']:.3f})."
        )
    if start["source"] == "scratch":
        return "Variants are trained from scratch."
    return f"All variants begin from {start['file']} (SHA-256 {start['sha256'][:12]})."


def _facts(summary: Summary) -> str:
    data, protocol = summary.dataset, summary.protocol
    images = data["images"]
    height, width = protocol["imgsz"]
    return "\n".join(
        [
            f"- Data: {len(data['classes'])} classes, {images['train']} training and {images['val']} validation "
            f"images, SHA-256 `{data['sha256'][:12]}`, split `{data['split_sha256'][:12]}`.",
            f"- Protocol `{protocol['sha256'][:12]}`: {protocol['split']} images at {width}x{height} px, "
            f"conf {protocol['conf']}, iou {protocol['iou']}, max_det {protocol['max_det']}, AP by {protocol['ap']}.",
            f"- {start_sentence(summary)}",
        ]
    )


def _table(columns: list[str], rows: list[list[str]]) -> str:
    rules = ["---" if column in TEXT_COLUMNS or column.startswith("SHA") else "---:" for column in columns]
    return "\n".join(f"| {' | '.join(line)} |" for line in [columns, rules, *rows])
