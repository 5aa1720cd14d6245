"""Images and their masks from folders: what a segmentation learns from. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ncode_search.evaluators.base import EvaluatorError
from ncode_search.evaluators.lora_training import Batch
from ncode_search.evaluators.picture_files import check_contrast, is_hidden, open_picture

UNLABELLED = 255
"""The value of a mask's pixels that count for nothing."""

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_ONE_NUMBER = ("1", "L", "P", "I", "I;16")
"""Pillow's modes whose pixels are one number."""


@dataclass(frozen=True)
class MaskedImages:
    """Images of one size, and a class for every pixel."""

    images: torch.Tensor
    """Shape ``(n, 3, size, size)``, dtype uint8."""
    masks: torch.Tensor
    """Shape ``(n, size, size)``, dtype uint8."""
    mean: Sequence[float] = (0.0, 0.0, 0.0)
    """What a model takes for 0, of each channel, where pixels are from 0 to 1."""
    std: Sequence[float] = (1.0, 1.0, 1.0)
    """What it takes for 1 more."""

    def __len__(self) -> int:
        return len(self.masks)

    def scaled(self, mean: Sequence[float], std: Sequence[float]) -> MaskedImages:
        """The same for a model that takes these for 0 and for 1 more."""
        return replace(self, mean=mean, std=std)

    def batch(self, chosen: Sequence[int]) -> Batch:
        """Standardised images and their masks."""
        mean, std = (torch.tensor(scale)[:, None, None] * 255 for scale in (self.mean, self.std))
        pixels = (self.images[chosen].float() - mean) / std
        labels = self.masks[chosen].long()
        return Batch({"pixel_values": pixels, "labels": labels}, int((labels != UNLABELLED).sum()))


def read_masked_images(folder: Path, size: int) -> dict[str, MaskedImages]:
    """The parts ``train``, ``val`` and, if it is there, ``test``, of a folder: each with ``images/`` and ``masks/``.

    A mask has the name of its image, whatever follows the last dot; its pixels are numbers of classes. `size` is what
    the sides are resized to, in pixels.

    Raises:
        EvaluatorError: for what is missing, what is no image, or an image and a mask that do not fit.
    """
    parts = ["train", "val"] + ["test"] * (folder / "test").exists()
    read = {part: MaskedImages(*_read_part(folder / part, size)) for part in parts}
    check_contrast(read["train"].images)
    return read


def count_classes(parts: Mapping[str, MaskedImages], classes: int) -> int:
    """The number of classes: `classes`, or where that is 0, what the training masks need.

    Raises:
        EvaluatorError: for numbers that are none of a class, and a class that no training mask has.
    """
    found = {part: {*np.unique(images.masks.numpy()).tolist()} - {UNLABELLED} for part, images in parts.items()}
    for part, values in found.items():
        if not values:
            raise EvaluatorError(f"[evaluator] data: no mask of {part}/ has a pixel of any class; all are {UNLABELLED}")
    count = classes or max(found["train"]) + 1
    if count < 2:
        raise EvaluatorError("[evaluator] data: the training masks have one class; at least 2 are needed")
    for part, values in found.items():
        if wrong := sorted(value for value in values if value >= count):
            raise EvaluatorError(
                f"[evaluator] data: a mask of {part}/ has the value {wrong[0]}; classes are 0 to {count - 1}, "
                f"and {UNLABELLED} is no class; repair it, or set classes"
            )
    if empty := sorted(set(range(count)) - found["train"]):
        raise EvaluatorError(
            f"[evaluator] data: no mask of train/ has a pixel of class {empty[0]}; number them closely"
        )
    return count


def _read_part(folder: Path, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, masks = _named(folder / "images"), _named(folder / "masks")
    if lone := sorted(images.keys() ^ masks.keys()):
        lacks = "masks/" if lone[0] in images else "images/"
        raise EvaluatorError(f"[evaluator] data: {folder / lacks} has no {lone[0]}; give every image its mask")
    pairs = [_read_pair(images[name], masks[name], size) for name in sorted(images)]
    pixels = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2).contiguous()
    return pixels, torch.from_numpy(np.stack([mask for _, mask in pairs]))


def _named(folder: Path) -> dict[str, Path]:
    """The images of a folder by their names without suffix."""
    if not folder.is_dir():
        raise EvaluatorError(
            f"[evaluator] data: there is no folder {folder}; give train/images/, train/masks/, val/images/, val/masks/"
        )
    files: dict[str, Path] = {}
    pictures = (file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES and not is_hidden(file, folder))
    for file in sorted(pictures):
        if (other := files.setdefault(file.stem, file)) != file:
            raise EvaluatorError(f"[evaluator] data: {other} and {file.name} have one name; rename or remove either")
    if not files:
        raise EvaluatorError(f"[evaluator] data: {folder} has no images ({', '.join(_SUFFIXES)}); give some")
    return files


def _read_pair(image_file: Path, mask_file: Path, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    image, mask = open_picture(image_file, "RGB"), open_picture(mask_file)
    if image.size != mask.size:
        raise EvaluatorError(
            f"[evaluator] data: {image_file} has {_sides(image)} pixels, its mask {_sides(mask)}; make them alike"
        )
    if mask.mode not in _ONE_NUMBER:
        raise EvaluatorError(
            f"[evaluator] data: the pixels of {mask_file} are colours ({mask.mode}), no numbers of classes; "
            "give a grey or palette image"
        )
    classes = np.asarray(mask.resize((size, size), Image.Resampling.NEAREST)).astype(np.int64)
    if classes.min() < 0 or classes.max() > UNLABELLED:
        raise EvaluatorError(f"[evaluator] data: {mask_file} has the value {classes.max()}; allowed: 0 to {UNLABELLED}")
    resized = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized), classes.astype(np.uint8)


def _sides(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"
