"""Pictures of the user's, opened with one line for those that are none."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ncode_search.evaluators.base import EvaluatorError


def open_picture(file: Path, mode: str | None = None) -> Image.Image:
    """A whole picture in memory, in Pillow's `mode`; None: in its own. Raises `EvaluatorError` for another file."""
    try:
        with Image.open(file) as image:
            opened: Image.Image = image.copy() if mode is None else image.convert(mode)
            return opened
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise EvaluatorError(
            f"[evaluator] data: cannot read {file} as an image ({reason}); repair or remove it"
        ) from error
