"""How CNNs are trained: positions go before keys, and every option does what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ncode_search.evaluators.base import Context, EvaluatorError
from ncode_search.evaluators.cnn import CnnEvaluator
from ncode_search.evaluators.cnn_recipe import Recipe

MakeContext = Callable[..., Context]
SMALL = {"stem.width": 4}


def _evaluator(folder: Path, **options: Any) -> CnnEvaluator:
    return CnnEvaluator(**{"epochs": 1, "batch_size": 32, **options}, folder=folder)


def _recipe(**options: Any) -> Recipe:
    return Recipe.of(CnnEvaluator(folder=Path(), **options), {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 2),
        ("batch_size", 64),
        ("learning_rate", 0.01),
        ("weight_decay", 5.0),
        ("optimizer", "sgd"),
        ("schedule", "constant"),
        ("label_smoothing", 0.3),
        ("shift", 1),
        ("flip", True),
        ("amp", "bfloat16"),
    ],
)
def test_a_position_is_as_good_as_a_key(
    tmp_path: Path, make_context: MakeContext, reports: list[Any], name: str, value: Any
) -> None:
    epochs = {"epochs": 2} if name == "schedule" else {}
    _evaluator(tmp_path, **epochs)(SMALL, make_context())
    plain, reports[:] = list(reports), []
    _evaluator(tmp_path, **{**epochs, name: value})(SMALL, make_context())
    by_key, reports[:] = list(reports), []
    _evaluator(tmp_path, **epochs)({**SMALL, name: value}, make_context())
    assert reports == by_key != plain


@pytest.mark.slow
def test_channels_last_changes_nothing_but_the_memory(
    tmp_path: Path, make_context: MakeContext, reports: list[Any]
) -> None:
    config = {**SMALL, "stage2.kernel": 3, "stage2.se": 0.5}
    _evaluator(tmp_path)(config, make_context())
    _evaluator(tmp_path, channels_last=True)(config, make_context())
    assert reports[0][1]["train_loss"] == pytest.approx(reports[1][1]["train_loss"], rel=1e-3)
    _evaluator(tmp_path)({**config, "channels_last": True}, make_context())
    assert reports[2] == reports[1]
    assert _recipe(channels_last=True).memory_format is torch.channels_last


@pytest.mark.slow
def test_bfloat16_is_nearly_the_same(tmp_path: Path, make_context: MakeContext, reports: list[Any]) -> None:
    _evaluator(tmp_path)(SMALL, make_context())
    _evaluator(tmp_path, amp="bfloat16")(SMALL, make_context())
    _evaluator(tmp_path, amp="float16")(SMALL, make_context())
    exact, rough, off = (metrics["train_loss"] for _, metrics in reports)
    assert exact == off != rough
    assert rough == pytest.approx(exact, rel=0.02)


def test_images_are_shifted_by_whole_pixels() -> None:
    images = torch.arange(1.0, 37).reshape(1, 1, 6, 6).repeat(200, 2, 1, 1)
    shifted = _recipe(shift=2).augmented(images, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images[0], [2] * 4)
    crops = [padded[:, y : y + 6, x : x + 6] for y in range(5) for x in range(5)]
    found = [next(at for at, crop in enumerate(crops) if torch.equal(crop, one)) for one in shifted]
    assert set(found) == set(range(25))


def test_half_of_the_images_are_mirrored() -> None:
    images = torch.rand(200, 3, 4, 5)
    mirrored = _recipe(flip=True).augmented(images, torch.Generator().manual_seed(0))
    which = (mirrored == images.flip(3)).flatten(1).all(1)
    assert torch.equal(mirrored[~which], images[~which])
    assert 70 < int(which.sum()) < 130


def test_the_learning_rate_falls_along_a_cosine_or_stays() -> None:
    rates: dict[str, list[float]] = {}
    for name in ("cosine", "constant"):
        recipe = _recipe(schedule=name, epochs=4, learning_rate=0.1)
        optimizer = recipe.make_optimizer(torch.nn.Linear(1, 1))
        schedule, rates[name] = recipe.make_schedule(optimizer), []
        for _ in range(4):
            rates[name].append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
    assert rates["cosine"] == pytest.approx([0.1, 0.085355, 0.05, 0.014645], rel=1e-4)
    assert rates["constant"] == [0.1] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing = 1.0: must be a number from 0 to below 1"),
        ({"optimizer": "adam"}, "optimizer = adam: must be adamw, sgd"),
        ({"schedule": "step"}, "schedule = step: must be cosine, constant"),
        ({"shift": -1}, "shift = -1: must be an integer from 0 to 64"),
        ({"shift": 8}, "shift = 8: the images have 8x8 pixels; it must be below that"),
        ({"amp": "fp16"}, "amp = fp16: must be off, bfloat16, float16"),
    ],
)
def test_refuses_what_cannot_be(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(EvaluatorError) as error:
        _evaluator(tmp_path, **options)
    assert str(error.value) == f"[evaluator] {message}"


def test_refuses_a_position_that_the_images_are_too_small_for(tmp_path: Path) -> None:
    with pytest.raises(EvaluatorError, match=r'\[space\] "shift" = 9: the images have 8x8 pixels'):
        _evaluator(tmp_path).check_space({"shift": [0, 9]})


@pytest.mark.slow
def test_an_interrupted_training_goes_on_to_the_same_result(
    tmp_path: Path, make_context: MakeContext, reports: list[Any]
) -> None:
    options = {"epochs": 3, "shift": 1, "flip": True, "optimizer": "sgd", "label_smoothing": 0.1}
    config = {**SMALL, "head.dropout": 0.5, "stage2.se": 0.5}
    whole = _evaluator(tmp_path, **options)(config, make_context())
    expected, reports[:] = list(reports), []

    def interrupt(step: int, **metrics: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _evaluator(tmp_path, **options)(config, make_context(trial_folder=tmp_path / "its", report=interrupt))
    rest = _evaluator(tmp_path, **options)(config, make_context(trial_folder=tmp_path / "its"))
    assert reports == expected[1:]
    assert rest == whole
