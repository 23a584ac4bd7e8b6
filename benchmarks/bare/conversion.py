"""The converters by hand: PyTorch to ONNX, onnxslim, onnx2tf, float32 and full-integer INT8 TFLite.

python conversion.py PROJECT VARIANT
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import onnx
import onnxslim
import torch

from ethos.model.head import output_names, to_export_form
from ethos.model.weights import load_model

IMAGES = 256


def main(project: Path, variant: str) -> None:
    """Convert the trained network of a variant, with random calibration images."""
    model, _ = load_model(project / f"outputs/models/{variant}/dense")
    side = 128
    names = output_names([int(stride) for stride in model.stride])
    torch.onnx.export(
        to_export_form(model), (torch.zeros(1, 3, side, side),), "m.onnx",
        input_names=["images"], output_names=names, opset_version=17, dynamo=False,
    )  # fmt: skip
    onnx.save(onnxslim.slim(onnx.load("m.onnx")), "m.onnx")
    samples = np.random.default_rng(0).random((IMAGES, side, side, 3), dtype=np.float32)
    np.save("calibration_image_sample_data_20x128x128x3_float32.npy", samples[:20])
    import onnx2tf
    import tensorflow as tf

    onnx2tf.convert(
        input_onnx_file_path="m.onnx", output_folder_path="saved", output_signaturedefs=True, not_use_onnxsim=True,
        non_verbose=True,
    )  # fmt: skip
    Path("fp32.tflite").write_bytes(tf.lite.TFLiteConverter.from_saved_model("saved").convert())
    converter = tf.lite.TFLiteConverter.from_saved_model("saved")
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    Path("int8.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
