"""Labelled images in memory: scikit-learn's digits, or folders of pictures. Nothing is downloaded."""

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
from ncode_search.evaluators.picture_files import check_contrast, is_hidden, open_picture


@dataclass(frozen=True)
class Split:
    """Images and their classes."""

    images: torch.Tensor
    """Shape ``(n, channels, height, width)``, dtype uint8: four times as many fit into memory as with floats."""
    labels: torch.Tensor
    """Shape ``(n,)``, dtype int64."""

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, chosen: NDArray[np.intp]) -> Split:
        """Some of the images."""
        return Split(self.images[chosen], self.labels[chosen])


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
    train, rest = divide(np.arange(len(labels)), labels, split_seed)
    val, test = divide(rest, labels, split_seed)
    whole = Split(torch.from_numpy(pixels), torch.from_numpy(labels))
    return with_statistics(whole.part(train), whole.part(val), whole.part(test), classes=10)


def divide(
    indices: NDArray[np.intp], labels: NDArray[np.int64], seed: int, share: float = 0.5
) -> tuple[NDArray[np.intp], ...]:
    """In two, the second with this share of every class."""
    parts = train_test_split(indices, test_size=share, random_state=seed, stratify=labels[indices])
    return tuple(np.sort(part) for part in parts)


def image_folder(path: Path, image_size: int) -> ImageData:
    """Images under ``train/<class>/``, ``val/<class>/`` and, if it is there, ``test/<class>/``.

    They are resized to squares of `image_size` pixels, in grey if all of them are grey, else in colour.

    Raises:
        EvaluatorError: for a missing folder, an empty class, classes that differ, a file that is no image.
    """
    _check_folder(path)
    names = _classes(path / "train")
    parts = ["train", "val"] + ["test"] * (path / "test").exists()
    for part in parts:
        _check_classes(path / part, names)
    loaded = _without_colour([_load_split(path / part, names, image_size) for part in parts])
    return with_statistics(loaded[0], loaded[1], loaded[2] if len(loaded) == 3 else None, classes=len(names))


def divided_folder(path: Path, image_size: int, split_seed: int) -> ImageData:
    """Images under ``<class>/``: in each class two thirds to train on, a sixth each to validate and to test.

    Resized as `image_folder` does. Raises `EvaluatorError` as it does, and for a class of fewer than six images.
    """
    names = _classes(path)
    _check_count(path, names)
    loaded = _without_colour([_load_split(path, names, image_size)])[0]
    for name, count in zip(names, loaded.labels.bincount().tolist(), strict=True):
        if count < 6:
            raise EvaluatorError(
                f"[evaluator] data: class folder {path / name} has {count} images, to be divided into parts to train "
                f"on, validate and test; give it at least 6"
            )
    train, rest = divide(np.arange(len(loaded)), loaded.labels.numpy(), split_seed, 1 / 3)
    val, test = divide(rest, loaded.labels.numpy(), split_seed)
    return with_statistics(loaded.part(train), loaded.part(val), loaded.part(test), classes=len(names))


def _classes(folder: Path) -> list[str]:
    _check_folder(folder)
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise EvaluatorError(
            f'[evaluator] data: there is no folder {folder}; give "digits", a folder of <class>/, of train/<class>/ '
            f"and val/<class>/, or of CIFAR's binary version"
        )


def _check_classes(folder: Path, names: list[str]) -> None:
    found = _classes(folder)
    _check_count(folder.parent / "train", names)
    if found != names:
        missing, extra = sorted(set(names) - set(found)), sorted(set(found) - set(names))
        raise EvaluatorError(
            f"[evaluator] data: the classes of {folder} differ from those of train/: missing {missing}, extra {extra}; "
            f"give every part the same class folders"
        )


def _check_count(folder: Path, names: list[str]) -> None:
    if len(names) < 2:
        raise EvaluatorError(f"[evaluator] data: {folder} has {len(names)} class folders; at least 2 are needed")


def _load_split(folder: Path, names: list[str], image_size: int) -> Split:
    images, labels = [], []
    for label, name in enumerate(names):
        files = _files(folder / name)
        images += [_load_image(file, image_size) for file in files]
        labels += [label] * len(files)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Split(pixels, torch.tensor(labels))


def _files(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not is_hidden(file, folder))
    if not files:
        raise EvaluatorError(
            f"[evaluator] data: class folder {folder} has no images; add some or remove the class from every part"
        )
    return files


def _load_image(file: Path, image_size: int) -> NDArray[np.uint8]:
    """Shape ``(image_size, image_size, 3)``."""
    picture = open_picture(file, "RGB")
    return np.asarray(picture.resize((image_size, image_size), Image.Resampling.BILINEAR))


def _without_colour(splits: list[Split]) -> list[Split]:
    """With one channel if all images are grey."""
    if not all(map(_is_grey, splits)):
        return splits
    return [Split(split.images[:, :1].contiguous(), split.labels) for split in splits]


def _is_grey(split: Split) -> bool:
    return bool((split.images == split.images[:, :1]).all())


def with_statistics(train: Split, val: Split, test: Split | None, classes: int) -> ImageData:
    """The data with the mean and spread of its training images; raises `EvaluatorError` where all are one colour."""
    check_contrast(train.images)
    pixels = train.images.float()
    std, mean = torch.std_mean(pixels, dim=(0, 2, 3), correction=0)
    std = torch.where(std > 0, std, 1.0)
    return ImageData(train, val, test, classes, mean[:, None, None], std[:, None, None])
