"""What the evaluators' tests share: contexts that record, folders of digits as pictures."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sklearn.datasets import load_digits  # type: ignore[import-untyped]

from ncode_search.evaluators.base import Context

Reports = list[tuple[int, dict[str, float]]]


@pytest.fixture
def reports() -> Reports:
    """What the evaluations of a test reported, as ``(step, metrics)``."""
    return []


@pytest.fixture
def make_context(tmp_path: Path, reports: Reports) -> Callable[..., Context]:
    """Contexts of trials that begin, whose reports go to `reports`; keywords change what they say."""

    def report(step: int, **metrics: float) -> None:
        reports.append((step, metrics))

    numbers = itertools.count()

    def make(**changes: Any) -> Context:
        defaults = {"trial": 0, "code": "0", "seed": 0, "device": "cpu", "threads": 1}
        folders = {"folder": tmp_path, "trial_folder": tmp_path / f"trial{next(numbers)}"}
        return Context(**{**defaults, **folders, "report": report, **changes})

    return make


@pytest.fixture(scope="module")
def frozen_libraries() -> Iterator[None]:
    """As in a worker, what is imported is not looked at after every trial: it would be most of a tiny trial's time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """The digits 0 to 2 as PNG files: ``pictures/<part>/<class>/<number>.png``, 20, 10 and 10 a class."""
    source = load_digits(n_class=3)
    root = tmp_path / "pictures"
    for label in range(3):
        images = source.images[source.target == label]
        for part, first, last in (("train", 0, 20), ("val", 20, 30), ("test", 30, 40)):
            folder = root / part / f"digit{label}"
            folder.mkdir(parents=True)
            for number in range(first, last):
                pixels = (images[number] * 15.9375).round().astype("uint8")
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root
