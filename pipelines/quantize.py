"""quantize: export a trained network and convert it to float32 and full-integer INT8 TFLite."""

from __future__ import annotations

from ethos.compress.quantize import FLOAT_FILE, INT8_FILE, ONNX_FILE, quantize
from ethos.files import new_folder, write_json
from ethos.npu.graph import fingerprint, total_macs
from ethos.npu.tflite import read_graph
from ethos.plan import QuantizePlan, read_plan
from ethos.verify import require_export
from pipelines import OUTPUTS, run


def main(variant: str, form: str) -> None:
    """Write outputs/quantize/VARIANT/FORM."""
    plan = read_plan(OUTPUTS / "plan" / variant / "quantize.yaml", QuantizePlan)
    with new_folder(OUTPUTS / "quantize" / variant / form) as folder:
        record = quantize(OUTPUTS / "models" / variant / form, OUTPUTS / "dataset", plan.imgsz, plan.options, folder)
        require_export(folder, record["activation"], (ONNX_FILE, FLOAT_FILE, INT8_FILE))
        graph = read_graph(folder / INT8_FILE)
        known = {"macs": total_macs(graph), "graph_fingerprint": fingerprint(graph)}
        write_json(folder / "quantize.json", {"variant": variant, "form": form, **record, **known})


if __name__ == "__main__":
    raise SystemExit(run(main))
