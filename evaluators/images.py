"""Labelled images in memory: scikit-learn's digits, or a folder of pictures. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from ncode_search.evaluators.base import EvaluatorError


@dataclass(frozen=True)
class Split:
    """Images and their classes."""

    images: torch.Tensor
    """Shape ``(n, channels, height, width)``, dtype uint8: four times as many fit into memory as with floats."""
    labels: torch.Tensor
    """Shape ``(n,)``, dtype int64."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageData:
    """What a network learns from and is judged by."""

    train: Split
    val: Split
    test: Split | None
    classes: int
    mean: torch.Tensor
    """Of the training images, each channel by itself, shape ``(channels, 1, 1)``, in units of the uint8 values."""
    std: torch.Tensor
    """Like `mean`; one where a channel is constant."""

    @property
    def channels(self) -> int:
        return self.train.images.shape[1]

    def batches(self, split: Split, order: torch.Tensor, size: int, device: str) -> Iterator[tuple[torch.Tensor, ...]]:
        """Standardised images and labels on `device`, in the given order.

        The batches are equally large, give or take one: batch normalisation cannot train on a last batch of one image.
        """
        mean, std = self.mean.to(device), self.std.to(device)
        for chosen in order.tensor_split(-(-len(order) // size)):
            images = split.images[chosen].to(device).float()
            yield (images - mean) / std, split.labels[chosen].to(device)


def digits(split_seed: int) -> ImageData:
    """The 1,797 real 8x8 digits: half to train on, a quarter each to validate and to test."""
    source = load_digits()
    pixels = np.rint(source.images[:, None] * (255 / 16)).astype(np.uint8)
    labels = source.target.astype(np.int64)
    train, rest = _divide(np.arange(len(labels)), labels, split_seed)
    val, test = _divide(rest, labels, split_seed)
    splits = [Split(torch.from_numpy(pixels[part]), torch.from_numpy(labels[part])) for part in (train, val, test)]
    return _with_statistics(splits[0], splits[1], splits[2], classes=10)


def _divide(indices: NDArray[np.intp], labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.intp], ...]:
    halves = train_test_split(indices, test_size=0.5, random_state=seed, stratify=labels[indices])
    return tuple(np.sort(half) for half in halves)


def image_folder(path: Path, image_size: int) -> ImageData:
    """Images under ``train/<class>/``, ``val/<class>/`` and, if it is there, ``test/<class>/``.

    They are resized to squares of `image_size` pixels, in grey if all of them are grey, else in colour.

    Raises:
        EvaluatorError: for a missing folder, an empty class, classes that differ, a file that is no image.
    """
    names = _classes(path / "train")
    parts = ["train", "val"] + ["test"] * (path / "test").exists()
    for part in parts:
        _check_classes(path / part, names)
    loaded = [_load_split(path / part, names, image_size) for part in parts]
    if all(_is_grey(split) for split in loaded):
        loaded = [Split(split.images[:, :1].contiguous(), split.labels) for split in loaded]
    return _with_statistics(loaded[0], loaded[1], loaded[2] if len(loaded) == 3 else None, classes=len(names))


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise EvaluatorError(
            f'[evaluator] data: there is no folder {folder}; give "digits" or a folder of train/<class>/, val/<class>/'
        )
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _check_classes(folder: Path, names: list[str]) -> None:
    found = _classes(folder)
    if len(names) < 2:
        raise EvaluatorError(
            f"[evaluator] data: {folder.parent / 'train'} has {len(names)} class folders; at least 2 are needed"
        )
    if found != names:
        missing, extra = sorted(set(names) - set(found)), sorted(set(found) - set(names))
        raise EvaluatorError(
            f"[evaluator] data: the classes of {folder} differ from those of train/: missing {missing}, extra {extra}; "
            f"give every part the same class folders"
        )


def _load_split(folder: Path, names: list[str], image_size: int) -> Split:
    images, labels = [], []
    for label, name in enumerate(names):
        files = _files(folder / name)
        images += [_load_image(file, image_size) for file in files]
        labels += [label] * len(files)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Split(pixels, torch.tensor(labels))


def _files(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    if not files:
        raise EvaluatorError(
            f"[evaluator] data: class folder {folder} has no images; add some or remove the class from every part"
        )
    return files


def _load_image(file: Path, image_size: int) -> NDArray[np.uint8]:
    """Shape ``(image_size, image_size, 3)``."""
    try:
        with Image.open(file) as image:
            resized = image.convert("RGB").resize((image_size, image_size), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise EvaluatorError(
            f"[evaluator] data: cannot read {file} as an image ({reason}); repair or remove it"
        ) from error
    return np.asarray(resized)


def _is_grey(split: Split) -> bool:
    return bool((split.images == split.images[:, :1]).all())


def _with_statistics(train: Split, val: Split, test: Split | None, classes: int) -> ImageData:
    pixels = train.images.float()
    std, mean = torch.std_mean(pixels, dim=(0, 2, 3), correction=0)
    std = torch.where(std > 0, std, 1.0)
    return ImageData(train, val, test, classes, mean[:, None, None], std[:, None, None])
