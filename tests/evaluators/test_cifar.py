"""CIFAR's binary files, written here with few images: what is read from them, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ncode_search.evaluators.base import Context, EvaluatorError
from ncode_search.evaluators.cifar import cifar, is_cifar
from ncode_search.evaluators.cnn import CnnEvaluator


def write(file: Path, labels: list[int], version: int = 10) -> np.ndarray:
    """Images of noise around a grey that tells their class, 128 apart; returns their bytes, shape ``(n, 3072)``."""
    rng = np.random.default_rng(len(labels))
    grey = 20 + 20 * (np.array(labels) % 10)
    pixels = (grey[:, None] + rng.integers(0, 8, (len(labels), 3072))).astype(np.uint8)
    before = [labels] if version == 10 else [[0] * len(labels), labels]
    np.concatenate([np.array(before, np.uint8).T, pixels], axis=1).tofile(file)
    return pixels


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for batch in range(1, 3):
        write(folder / f"data_batch_{batch}.bin", list(range(10)) * 3)
    write(folder / "test_batch.bin", list(range(10)))
    return folder


def test_reads_cifar_10(cifar10: Path) -> None:
    assert is_cifar(cifar10)
    data = cifar(cifar10, split_seed=0)
    assert data.test is not None
    assert data.train.images.shape == (50, 3, 32, 32)
    assert (len(data.val), len(data.test), data.classes) == (10, 10, 10)
    assert data.val.labels.bincount().tolist() == [1] * 10
    pixels = write(cifar10 / "test_batch.bin", list(range(10)))
    assert torch.equal(data.test.images, torch.from_numpy(pixels).reshape(-1, 3, 32, 32))
    assert data.test.labels.tolist() == list(range(10))


def test_reads_the_fine_labels_of_cifar_100(tmp_path: Path) -> None:
    write(tmp_path / "train.bin", list(range(100)) * 2, version=100)
    write(tmp_path / "test.bin", [99, 0], version=100)
    data = cifar(tmp_path, split_seed=0)
    assert data.test is not None
    assert (len(data.train), len(data.val), data.classes) == (100, 100, 100)
    assert data.test.labels.tolist() == [99, 0]


def test_a_network_learns_from_it(cifar10: Path, make_context: Callable[..., Context]) -> None:
    options: dict[str, Any] = {"epochs": 12, "batch_size": 10, "learning_rate": 0.01, "shift": 2, "flip": True}
    evaluator = CnnEvaluator(folder=cifar10.parent, data=cifar10.name, **options)
    result = evaluator({"stem.width": 4, "stage2.cells": 0, "stage3.cells": 0}, make_context())
    assert result.value > 0.3


def _refused(folder: Path, **options: Any) -> str:
    with pytest.raises(EvaluatorError) as error:
        CnnEvaluator(folder=folder.parent, data=folder.name, **options)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix("[evaluator] ")


def test_images_of_another_size(cifar10: Path) -> None:
    file = cifar10 / "data_batch_2.bin"
    file.write_bytes(file.read_bytes()[:-1])
    assert _refused(cifar10) == (
        f"data: {file} has 92,189 bytes, which is no whole number of images of 32x32 pixels with their labels, "
        "3,073 bytes each; get it again"
    )
    file.write_bytes(b"")
    assert f"{file} has 0 bytes" in _refused(cifar10)


def test_a_label_that_is_none(cifar10: Path) -> None:
    write(cifar10 / "data_batch_1.bin", [*range(9), 77])
    assert "data_batch_1.bin has the label 77, above 9; get it again" in _refused(cifar10)


def test_an_empty_class(cifar10: Path) -> None:
    for file in cifar10.glob("data_batch_*.bin"):
        write(file, [0, 1, 2, 3, 5, 6, 7, 8, 9])
    assert _refused(cifar10) == (f"data: {cifar10} has fewer than 2 training images of class 4; get all of its files")


def test_missing_test_images(cifar10: Path) -> None:
    (cifar10 / "test_batch.bin").unlink()
    assert f"cannot read {cifar10}/test_batch.bin (No such file or directory); get it again" in _refused(cifar10)


def test_the_pickled_version_is_refused_unread(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert "which is pickled; get the binary version (cifar-10-binary.tar.gz" in _refused(folder)


def test_its_size_is_its_own(cifar10: Path) -> None:
    assert _refused(cifar10, image_size=64) == "image_size = 64: must be left out with CIFAR (32x32)"
    assert _refused(cifar10, shift=32) == "shift = 32: the images have 32x32 pixels; it must be below that"
    shutil.rmtree(cifar10)
    assert "there is no folder" in _refused(cifar10)
