"""From an image to a network's input, and from the input's pixels back to the image's.

Geometry is that of Ultralytics' LetterBox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ethos_runtime.decode import Floats

Image: TypeAlias = NDArray[np.uint8]

PADDING = 114


def letterbox(image: Image, size: tuple[int, int]) -> tuple[Image, float, tuple[int, int]]:
    """Return the image fitted into `size` without distortion, centred on grey.

    Args:
        image: RGB or BGR, [height, width, 3].
        size: Height and width wanted, in pixels.

    Returns:
        The image of that size, the ratio new / old, and the padding left and top in pixels.

    Raises:
        ValueError: The image is no uint8 array of three channels, or is empty.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"expected a uint8 image [height, width, 3], got {image.dtype} {list(image.shape)}")
    (height, width), (new_height, new_width) = image.shape[:2], size
    ratio = min(new_height / height, new_width / width)
    fitted_width, fitted_height = max(round(width * ratio), 1), max(round(height * ratio), 1)
    if (fitted_width, fitted_height) != (width, height):
        image = cv2.resize(image, (fitted_width, fitted_height), interpolation=cv2.INTER_LINEAR)
    # half a pixel of padding goes to the right and bottom
    left, top = round((new_width - fitted_width) / 2 - 0.1), round((new_height - fitted_height) / 2 - 0.1)
    bottom, right = new_height - fitted_height - top, new_width - fitted_width - left
    fitted = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(PADDING,) * 3)
    return fitted, ratio, (left, top)


def to_source(detections: Floats, ratio: float, padding: tuple[int, int], shape: tuple[int, int]) -> Floats:
    """Return detections [n, 6] of a letterboxed image in pixels of its source, clipped to its height and width."""
    result = detections.copy()
    height, width = shape
    left, top = padding
    result[:, [0, 2]] = ((result[:, [0, 2]] - left) / ratio).clip(0, width)
    result[:, [1, 3]] = ((result[:, [1, 3]] - top) / ratio).clip(0, height)
    return result
