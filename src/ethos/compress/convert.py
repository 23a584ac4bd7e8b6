"""From a PyTorch network to TFLite files, through ONNX and TensorFlow.

This module is the only caller of onnx2tf and of TensorFlow's converter.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

from ethos.errors import EthosError, ModelError
from ethos.model.head import INPUT_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ethos.model.levels import Network

OPSET = 17
# onnx2tf fetches a file of this name from the network unless one lies in the working directory
ONNX2TF_SAMPLE = "calibration_image_sample_data_20x128x128x3_float32.npy"
LOG_LINES_IN_ERROR = 3


def export_onnx(network: Network, imgsz: tuple[int, int], outputs: list[str], path: Path) -> None:
    """Write a network in export form as ONNX, simplified.

    Args:
        network: What `ethos.model.head.to_export_form` gives.
        imgsz: Input height and width in pixels; the batch is 1, the layout NCHW, values 0..1.
        outputs: Names of its outputs, in order.
        path: File to write.
    """
    import onnx
    import onnxslim
    import torch

    with warnings.catch_warnings():
        # the newer exporter needs onnxscript and gives graphs that onnx2tf does not take
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, *imgsz),),
            path,
            input_names=[INPUT_NAME],
            output_names=outputs,
            opset_version=OPSET,
            dynamo=False,
        )
    onnx.save(onnxslim.slim(onnx.load(path)), path)


def onnx_to_saved_model(onnx_file: Path, samples: NDArray[np.float32], outputs: list[str], folder: Path) -> None:
    """Write an ONNX network as a TensorFlow SavedModel in NHWC, its outputs under the given names.

    Args:
        onnx_file: The network, batch 1, NCHW.
        samples: [n, h, w, 3] images in 0..1, from which onnx2tf checks its own conversion.
        outputs: Names of the outputs, in the ONNX file's order.
        folder: Folder to write; must be empty or absent.

    Raises:
        ModelError: onnx2tf cannot convert the file; with its last words.
    """
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="ethos-onnx2tf-") as scratch, quiet("onnx2tf"), chdir(scratch):
        np.save(ONNX2TF_SAMPLE, samples)
        import onnx2tf
        import tensorflow as tf

        onnx2tf.convert(
            input_onnx_file_path=str(onnx_file),
            output_folder_path="model",
            output_signaturedefs=True,
            not_use_onnxsim=True,
            non_verbose=True,
        )
        converted = tf.saved_model.load("model")
        serve = converted.signatures["serving_default"]
        ((_, inputs),) = [serve.structured_input_signature]
        (given,) = inputs.values()

        @tf.function(  # type: ignore[untyped-decorator]
            input_signature=[tf.TensorSpec(given.shape, given.dtype, INPUT_NAME)]
        )
        def named(images: Any) -> dict[str, Any]:
            found = serve(**{given.name: images})
            return {name: found[f"output_{index}"] for index, name in enumerate(outputs)}

        converted.named = named
        tf.saved_model.save(converted, str(folder), signatures={"serving_default": named})


def to_tflite(saved_model: Path, samples: NDArray[np.float32] | None = None, per_channel: bool = True) -> bytes:
    """Return a SavedModel as a TFLite file: float32, or full-integer INT8 when calibration images are given.

    Args:
        saved_model: Folder of the SavedModel.
        samples: [n, h, w, 3] calibration images in 0..1; every operator, input and output becomes int8.
        per_channel: One weight scale for each output channel instead of one for each tensor.

    Raises:
        ModelError: The converter refuses the network; with its last words.
    """
    with quiet("TensorFlow Lite converter"):
        import tensorflow as tf

        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
        if samples is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image[None]] for image in samples)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
            # the converter offers no public switch for this
            converter._experimental_disable_per_channel = not per_channel
        content: bytes = converter.convert()
    return content


@contextmanager
def quiet(tool: str) -> Iterator[None]:
    """Keep what a tool writes to stdout and stderr, from Python or C, and show its end only if the tool fails.

    Raises:
        ModelError: The block raised anything but an EthosError.
    """
    # both read their level once, when imported
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    # where Python's streams are not the process's own, as in a notebook, both are redirected
    with tempfile.TemporaryFile("w+", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        try:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            yield
        except EthosError:
            raise
        except (Exception, SystemExit) as error:
            # onnx2tf ends its process on an operator that it does not know
            log.seek(0)
            last = [line.strip() for line in log.read().splitlines() if line.strip()][-LOG_LINES_IN_ERROR:]
            reason = (
                str(error).splitlines()[0] if str(error) and not isinstance(error, SystemExit) else " | ".join(last)
            )
            raise ModelError(f"{tool} failed: {reason}", "check the variant's level and activation") from error
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)
