"""From a PyTorch network to float TFLite files: one interface, two converters.

What a converter gives is the same network in three precisions, with one signature: an NHWC input and six outputs under
their contract's names. The INT8 file is made from the float32 one, whichever converter made it
(`ethos.compress.integer`).
"""

from __future__ import annotations

import tempfile
import warnings
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ethos.compress.quiet import quiet
from ethos.errors import ModelError
from ethos.model.head import INPUT_NAME

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ethos.model.levels import Network

OPSET = 17
# onnx2tf fetches a file of this name from the network unless one lies in the working directory
ONNX2TF_SAMPLE = "calibration_image_sample_data_20x128x128x3_float32.npy"
# onnx2tf checks its own conversion on images; it wants this many
SELF_CHECK_IMAGES = 20


@dataclass(frozen=True)
class FloatFiles:
    """A network as TFLite files: float32; weights kept as float16; weights kept as int8 with float32 activations."""

    fp32: bytes
    fp16: bytes
    dynamic: bytes


class Converter(Protocol):
    """Makes float TFLite files of a network."""

    def __call__(
        self, network: Network, onnx_file: Path, samples: NDArray[np.float32], outputs: list[str]
    ) -> FloatFiles:
        """Return the files.

        Args:
            network: What `ethos.model.head.to_export_form` gives.
            onnx_file: The same network as ONNX.
            samples: [n, h, w, 3] images in 0..1, for a converter that checks itself; they give the input's size.
            outputs: Names of its outputs, in order.

        Raises:
            ModelError: The converter refuses the network, with its last words, or is not installed.
        """
        ...


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


# --- onnx2tf ---------------------------------------------------------------------------------------------------------


def with_onnx2tf(
    network: Network,  # noqa: ARG001 - one interface
    onnx_file: Path,
    samples: NDArray[np.float32],
    outputs: list[str],
) -> FloatFiles:
    """Convert through ONNX and TensorFlow; see `Converter`."""
    with tempfile.TemporaryDirectory(prefix="ethos-saved-model-") as scratch:
        saved_model = Path(scratch) / "model"
        onnx_to_saved_model(onnx_file.resolve(), samples[:SELF_CHECK_IMAGES], outputs, saved_model)
        return FloatFiles(*(to_tflite(saved_model, weights) for weights in ("float32", "float16", "int8")))


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


def to_tflite(saved_model: Path, weights: str = "float32") -> bytes:
    """Return a SavedModel as a TFLite file that computes in float32 and keeps its weights as the type says.

    Args:
        saved_model: Folder of the SavedModel.
        weights: float32, float16 or int8.

    Raises:
        ModelError: The converter refuses the network; with its last words.
    """
    with quiet("TensorFlow Lite converter"):
        import tensorflow as tf

        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
        if weights != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if weights == "float16":
            converter.target_spec.supported_types = [tf.float16]
        content: bytes = converter.convert()
    return content


# --- litert-torch ----------------------------------------------------------------------------------------------------


def with_litert_torch(
    network: Network,
    onnx_file: Path,  # noqa: ARG001 - one interface
    samples: NDArray[np.float32],
    outputs: list[str],
) -> FloatFiles:
    """Convert from PyTorch directly; see `Converter`."""
    import torch

    with quiet("litert-torch"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        litert_torch, quantizer = _litert_tools()
        image = {INPUT_NAME: torch.zeros(1, *samples.shape[1:])}
        converted = litert_torch.convert(_channels_last(network, outputs), sample_kwargs=image)
        with tempfile.TemporaryDirectory(prefix="ethos-litert-") as scratch:
            file = Path(scratch) / "model.tflite"
            converted.export(str(file))
            fp32 = file.read_bytes()
        return FloatFiles(fp32, _float16_weights(quantizer, fp32), _int8_weights(quantizer, fp32))


def _litert_tools() -> tuple[Any, Any]:
    try:
        import litert_torch
        from ai_edge_quantizer import quantizer
    except ImportError as error:
        raise ModelError(
            f"quantize.converter: litert_torch cannot be used, {error.name} is not installed",
            "run: pip install 'ethos-vision-optimizer[litert]', or use converter: onnx2tf",
        ) from None
    return litert_torch, quantizer


def _float16_weights(quantizer: Any, content: bytes) -> bytes:
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    halves = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    rules = qtyping.OpQuantizationConfig(
        weight_tensor_config=halves, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
    )
    tool = quantizer.Quantizer(bytearray(content))
    every = qtyping.TFLOperationName.ALL_SUPPORTED
    tool.update_quantization_recipe(".*", every, rules, AlgorithmName.FLOAT_CASTING)
    return bytes(tool.quantize().quantized_model)


def _int8_weights(quantizer: Any, content: bytes) -> bytes:
    from ai_edge_quantizer import recipe

    return bytes(quantizer.Quantizer(bytearray(content), recipe.dynamic_wi8_afp32()).quantize().quantized_model)


def _channels_last(network: Network, outputs: list[str]) -> Any:
    """Return the network with an NHWC input and its outputs, NHWC, by name."""
    from torch import Tensor, nn

    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network.requires_grad_(False)

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            found = self.network(images.permute(0, 3, 1, 2))
            return {name: value.permute(0, 2, 3, 1) for name, value in zip(outputs, found, strict=True)}

    return ChannelsLast().eval()


CONVERTERS: dict[str, Converter] = {"onnx2tf": with_onnx2tf, "litert_torch": with_litert_torch}
