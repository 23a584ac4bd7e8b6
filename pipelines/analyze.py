"""Stage `analyze`: what each target's NPU makes of one candidate's INT8 file."""

from __future__ import annotations

from ethos.catalog import load, load_params
from ethos.files import new_folder, write_json
from ethos.npu.analyze import analyze, flat_figures
from ethos.npu.pages import analysis_blocks, write_html, write_markdown
from pipelines import OUTPUTS, run


def main(variant: str, form: str) -> None:
    """Analyze outputs/quantize/VARIANT/FORM/int8.tflite for the targets of params.yaml.

    Writes npu.json, metrics.json, the compiled files (vela/TARGET.tflite) and the report as pages (page/index.html,
    page/npu.md) to outputs/analyze/VARIANT/FORM.
    """
    targets = [load("target", name) for name in load_params().targets]
    with new_folder(OUTPUTS / "analyze" / variant / form) as folder:
        report = analyze(OUTPUTS / "quantize" / variant / form / "int8.tflite", targets, folder / "vela")
        write_json(folder / "npu.json", report)
        write_json(folder / "metrics.json", flat_figures(report))
        page = analysis_blocks(report)
        write_html(page, folder / "page" / "index.html")
        write_markdown(page, folder / "page" / "npu.md")


if __name__ == "__main__":
    raise SystemExit(run(main))
