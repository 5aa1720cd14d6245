"""Pictures of the user's, opened with one line for those that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image

from ncode_search.evaluators.base import EvaluatorError

_MOST_GREY = 2**16 - 1
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets a picture upright, by the orientation that its EXIF says; 1 is upright."""


def is_hidden(file: Path, folder: Path) -> bool:
    """Whether a file of a folder, or a folder on the way to it, is one that programs keep for themselves."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def open_picture(file: Path, mode: str | None = None) -> Image.Image:
    """A whole picture in memory, upright as viewers show it, in Pillow's `mode`; None: in its own.

    Raises `EvaluatorError` for another file, and for pixels that have no range to convert them by.
    """
    try:
        with Image.open(file) as image:
            # Else Pillow maps grey TIFFs without compression into memory, and mixes up width and height of turned ones.
            image.filename = ""
            upright = _upright(image)
            return upright if mode is None else _in_8_bits(upright, file).convert(mode)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise EvaluatorError(
            f"[evaluator] data: cannot read {file} as an image ({reason}); repair or remove it"
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    """The same as viewers show it. Nothing but the orientation is asked for: other damage of the EXIF is no matter."""
    image.load()  # before: a TIFF turns itself with this, and then no longer says how
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # of whatever kind: what is damaged raises many
        turn = None
    return image.copy() if turn is None else image.transpose(turn)


def _in_8_bits(image: Image.Image, file: Path) -> Image.Image:
    """The same, but that grey of 16 bits is scaled by its whole range: Pillow would cut off what is above 255."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    if image.mode == "F" or pixels.min() < 0 or pixels.max() > _MOST_GREY:
        raise EvaluatorError(
            f"[evaluator] data: the pixels of {file} go from {pixels.min()} to {pixels.max()} (mode {image.mode}), "
            "which is grey of neither 8 nor 16 bits; save it as such"
        )
    return Image.fromarray(np.rint(pixels / (_MOST_GREY / 255)).astype(np.uint8))


def check_contrast(images: torch.Tensor) -> None:
    """Refuse images to train on, shape ``(n, channels, height, width)``, that are all of one colour.

    Raises `EvaluatorError`.
    """
    if bool((images == images[:1, :, :1, :1]).all()):
        colour = ", ".join(map(str, images[0, :, 0, 0].tolist()))
        raise EvaluatorError(
            f"[evaluator] data: all pixels of all training images are {colour}, of 0 to 255; give images that differ"
        )
