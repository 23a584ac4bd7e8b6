"""What can be said of an image file by decoding it once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from PIL import Image, ImageOps, UnidentifiedImageError

from ethos.data.near import look_of

if TYPE_CHECKING:
    from pathlib import Path

ORIENTATION = 0x0112  # EXIF's tag; 1 is upright
UPRIGHT = 1
LYING = frozenset({5, 6, 7, 8})  # orientations that exchange width and height
PLAIN_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})  # grey or colour in 8 bits, with or without alpha
SUFFIXES: dict[str, frozenset[str]] = {
    "BMP": frozenset({".bmp"}),
    "JPEG": frozenset({".jpg", ".jpeg"}),
    "MPO": frozenset({".jpg", ".jpeg"}),
    "PNG": frozenset({".png"}),
    "TIFF": frozenset({".tif", ".tiff"}),
    "WEBP": frozenset({".webp"}),
}
FAILURES = (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError, EOFError)


@dataclass(frozen=True)
class Seen:
    """An image file.

    Attributes:
        width: Pixels, as shown; 0 for a file that is no image.
        height: Pixels, as shown.
        stored_width: Pixels, before the turn that EXIF asks for.
        stored_height: Pixels, before the turn that EXIF asks for.
        whole: Whether all of it decodes.
        form: Its format, such as JPEG.
        mode: How its pixels are stored, in Pillow's words.
        upright: Whether it is stored as it is shown.
        contrast: Brightest less darkest grey value, 0 to 255.
        look: Its difference hash in hex; empty where there is none.
    """

    width: int = 0
    height: int = 0
    stored_width: int = 0
    stored_height: int = 0
    whole: bool = False
    form: str = ""
    mode: str = ""
    upright: bool = True
    contrast: int = 0
    look: str = ""


UNREADABLE = Seen()


def see(path: Path, *, look: bool = True) -> Seen:
    """Return what an image file shows: of a truncated one what its head says, `UNREADABLE` for what is no image.

    Without `look` the difference hash, about a third of the work, is left out.
    """
    try:
        with Image.open(path) as image:
            return _see(image, look)
    except FAILURES:
        return UNREADABLE


def _see(image: Image.Image, look: bool) -> Seen:
    turn = int(image.getexif().get(ORIENTATION, UPRIGHT) or UPRIGHT)
    width, height = image.size
    shown = (height, width) if turn in LYING else (width, height)
    begun = Seen(*shown, width, height, form=image.format or "", mode=image.mode, upright=turn == UPRIGHT)
    try:
        # Pillow, unlike OpenCV, does not fill what a truncated file lacks with grey
        grey = ImageOps.exif_transpose(image).convert("L")
    except FAILURES:
        return begun
    low, high = grey.getextrema()
    contrast = int(high) - int(low)  # type: ignore[arg-type]
    return replace(begun, whole=True, contrast=contrast, look=look_of(grey) if look else "")


def is_named_right(seen: Seen, path: Path) -> bool:
    """Return whether the file's name ends as its content says; formats that are not known are not judged."""
    return path.suffix.lower() in SUFFIXES.get(seen.form, {path.suffix.lower()})
