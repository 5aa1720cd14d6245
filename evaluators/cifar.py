"""CIFAR-10 and CIFAR-100 as their authors' binary version has them on disk; nothing is unpickled or downloaded.

A file is records without a header: the labels, a byte each (CIFAR-10: the class; CIFAR-100: the coarse class, then the
fine one, which is used), then 3,072 bytes of pixels: red, green, blue, each 32 rows of 32
(https://www.cs.toronto.edu/~kriz/cifar.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ncode_search.evaluators.base import EvaluatorError
from ncode_search.evaluators.images import ImageData, Split, divide, with_statistics

SIDE = 32
_PIXELS = 3 * SIDE * SIDE
_VAL_SHARE = 0.1


@dataclass(frozen=True)
class _Version:
    train: str
    """A pattern for the names of its files."""
    test: str
    labels: int
    """Bytes before the pixels; the last is the class."""
    classes: int


_VERSIONS = (_Version("data_batch_*.bin", "test_batch.bin", 1, 10), _Version("train.bin", "test.bin", 2, 100))
_PICKLED = ("data_batch_1", "batches.meta", "train")


def is_cifar(folder: Path) -> bool:
    """Whether the folder has files of either, also of the pickled version, which `cifar` refuses with the mend."""
    return _find(folder) is not None or _is_pickled(folder)


def cifar(folder: Path, split_seed: int) -> ImageData:
    """A tenth of each class of the training images is what is validated on; the test images are for the test.

    Raises:
        EvaluatorError: for the pickled version, a file of another size, a label that is none, missing test images.
    """
    version = _find(folder)
    if version is None:
        raise EvaluatorError(
            f"[evaluator] data: {folder} is CIFAR's Python version, which is pickled; get the binary version "
            f"(cifar-10-binary.tar.gz, cifar-100-binary.tar.gz) and name the folder of its .bin files"
        )
    files = sorted(folder.glob(version.train))
    parts = [_read(file, version) for file in files]
    train = Split(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
    labels = train.labels.numpy()
    few = np.flatnonzero(np.bincount(labels, minlength=version.classes) < 2)
    if len(few):
        raise EvaluatorError(
            f"[evaluator] data: {folder} has fewer than 2 training images of class {few[0]}; get all of its files"
        )
    val_share = max(_VAL_SHARE, version.classes / len(labels))
    kept, val = divide(np.arange(len(labels)), labels, split_seed, val_share)
    test = _read(folder / version.test, version)
    return with_statistics(train.part(kept), train.part(val), test, version.classes)


def _find(folder: Path) -> _Version | None:
    return next((one for one in _VERSIONS if any(folder.glob(one.train))), None)


def _is_pickled(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _PICKLED)


def _read(file: Path, version: _Version) -> Split:
    try:
        content = np.fromfile(file, np.uint8)
    except OSError as error:
        raise EvaluatorError(f"[evaluator] data: cannot read {file} ({error.strerror}); get it again") from error
    record = version.labels + _PIXELS
    if not len(content) or len(content) % record:
        raise EvaluatorError(
            f"[evaluator] data: {file} has {len(content):,} bytes, which is no whole number of images of "
            f"{SIDE}x{SIDE} pixels with their labels, {record:,} bytes each; get it again"
        )
    records = content.reshape(-1, record)
    labels = records[:, version.labels - 1].astype(np.int64)
    if labels.max() >= version.classes:
        raise EvaluatorError(
            f"[evaluator] data: {file} has the label {labels.max()}, above {version.classes - 1}; get it again"
        )
    pixels = np.ascontiguousarray(records[:, version.labels :]).reshape(-1, 3, SIDE, SIDE)
    return Split(torch.from_numpy(pixels), torch.from_numpy(labels))
