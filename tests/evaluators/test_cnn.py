"""The CNN evaluator really trains, repeats itself, leaves no trace and fails with a reason."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ncode_search.evaluators.base import Context, DivergedError, EvaluatorError
from ncode_search.evaluators.cnn import CnnEvaluator
from ncode_search.evaluators.cnn_network import Network

MakeContext = Callable[..., Context]
Reports = list[tuple[int, dict[str, float]]]

SMALL = {"stem.width": 8, "cell.0-1": "conv3x3", "stage2.cells": 1, "stage2.width": 16}
"""A network that trains in a quarter of a second an epoch."""


def _evaluator(folder: Path, **options: Any) -> CnnEvaluator:
    return CnnEvaluator(**{"epochs": 1, "batch_size": 16, **options}, folder=folder)


def test_learns_digits(tmp_path: Path, make_context: MakeContext) -> None:
    result = _evaluator(tmp_path, epochs=3)(SMALL, make_context())
    assert result.value > 0.7
    assert set(result.metrics) == {"test_accuracy", "parameters"}
    assert abs(result.metrics["test_accuracy"] - result.value) < 0.1


def test_reports_every_epoch(tmp_path: Path, make_context: MakeContext, reports: Reports) -> None:
    result = _evaluator(tmp_path, epochs=3)(SMALL, make_context())
    assert [step for step, _ in reports] == [1, 2, 3]
    assert all(set(metrics) == {"val_accuracy", "train_loss"} for _, metrics in reports)
    losses = [metrics["train_loss"] for _, metrics in reports]
    assert losses[0] > losses[1] > losses[2]
    assert reports[-1][1]["val_accuracy"] == result.value


def test_counts_the_parameters(tmp_path: Path, make_context: MakeContext) -> None:
    config = {"stem.width": 8, "stem.kernel": 1, "cell.0-1": "conv3x3", "norm": "none"}
    result = _evaluator(tmp_path)(config, make_context())
    assert result.metrics["parameters"] == (8 + 8) + (8 * 8 * 9 + 8) + (8 * 10 + 10)


SCRIPT = """
from pathlib import Path
from ncode_search.evaluators.base import Context
from ncode_search.evaluators.cnn import CnnEvaluator
evaluator = CnnEvaluator(epochs=1, batch_size=16, folder=Path("."))
report = lambda step, **metrics: print(step, metrics)
result = evaluator({config!r}, Context(0, "0", {seed}, "cpu", 1, Path("."), report, Path({folder!r})))
print(result.value, result.metrics["test_accuracy"])
"""


def _in_a_process(seed: int, folder: Path) -> str:
    script = SCRIPT.format(config={**SMALL, "head.dropout": 0.2}, seed=seed, folder=str(folder))
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_repeats_itself_in_another_process(tmp_path: Path) -> None:
    first = _in_a_process(1, tmp_path / "first")
    assert first.count("train_loss") == 1
    assert _in_a_process(1, tmp_path / "second") == first
    assert _in_a_process(2, tmp_path / "third") != first


@pytest.mark.slow
def test_repeats_itself_after_another_trial(tmp_path: Path, make_context: MakeContext, reports: Reports) -> None:
    evaluator, config = _evaluator(tmp_path), {**SMALL, "head.dropout": 0.2}
    evaluator(config, make_context(trial=1))
    evaluator({"cell.0-1": "pool"}, make_context(trial=2))
    evaluator(config, make_context(trial=3))
    assert reports[0] == reports[2] != reports[1]


@pytest.mark.slow
def test_puts_torch_back(tmp_path: Path, make_context: MakeContext) -> None:
    before = torch.get_rng_state(), torch.get_num_threads(), torch.get_deterministic_debug_mode()
    during = []

    def report(step: int, **metrics: float) -> None:
        during.append((torch.get_num_threads(), torch.get_deterministic_debug_mode()))

    _evaluator(tmp_path)(SMALL, make_context(threads=3, report=report))
    assert during == [(3, 2)]
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (torch.get_num_threads(), torch.get_deterministic_debug_mode())


def _fail(step: int, **metrics: float) -> None:
    raise RuntimeError("stop here")


def test_frees_the_network_even_while_the_error_is_kept(tmp_path: Path, make_context: MakeContext) -> None:
    evaluator = _evaluator(tmp_path)
    with pytest.raises(RuntimeError, match="stop here") as kept:
        evaluator(SMALL, make_context(report=_fail))
    alive = [thing for thing in gc.get_objects() if type(thing) is Network]
    assert kept.value.__traceback__ is not None
    assert alive == []


def test_a_cell_without_edges_scores_badly(tmp_path: Path, make_context: MakeContext) -> None:
    config = {"cell.0-1": "none", "cell.0-2": "conv3x3", "cell.1-2": "none", "cell.2-3": "none", "stage2.cells": 2}
    result = _evaluator(tmp_path)(config, make_context())
    assert result.value < 0.2


def test_a_diverging_training_fails_without_a_score(
    tmp_path: Path, make_context: MakeContext, reports: Reports
) -> None:
    with pytest.raises(DivergedError, match=r"training loss is (nan|inf) in epoch 1; a lower learning_rate may help"):
        _evaluator(tmp_path, learning_rate=1e30)({**SMALL, "norm": "none"}, make_context())
    assert reports == []


def test_weights_that_diverge_in_the_last_step_fail_without_a_score(
    tmp_path: Path, make_context: MakeContext, reports: Reports
) -> None:
    """The one batch of the one epoch still has a loss."""
    said = "an output for the validation images is no number: the accuracy is nan in epoch 1; a lower learning_rate may"
    with pytest.raises(DivergedError, match=said):
        _evaluator(tmp_path, learning_rate=1e30, batch_size=1000)(SMALL, make_context())
    assert reports == []


def test_trains_on_a_folder(picture_folder: Path, make_context: MakeContext) -> None:
    evaluator = _evaluator(picture_folder.parent, data="pictures", image_size=8, epochs=8)
    result = evaluator({**SMALL, "cell.0-2": "maxpool", "cell.1-2": "conv7x7"}, make_context())
    assert result.value > 0.7
    assert result.metrics["test_accuracy"] > 0.7


def test_the_users_home_is_where_a_tilde_says(picture_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(picture_folder.parent))
    assert _evaluator(picture_folder, data="~/pictures", image_size=8)._images.classes == 3


def test_a_user_whose_home_is_not_known_has_no_folder(tmp_path: Path) -> None:
    with pytest.raises(EvaluatorError) as error:
        _evaluator(tmp_path, data="~nouser")
    assert str(error.value).startswith(f"[evaluator] data: there is no folder {tmp_path}/~nouser; give ")


def test_data_that_are_no_folder_are_named_as_the_user_wrote_them(tmp_path: Path) -> None:
    (tmp_path / "pictures.zip").touch()
    for name in ("pictures.zip", "pictures"):
        with pytest.raises(EvaluatorError) as error:
            _evaluator(tmp_path, data=name)
        assert str(error.value).startswith(f'[evaluator] data: there is no folder {tmp_path}/{name}; give "digits", a')


@pytest.mark.slow
def test_one_pixel_is_enough(picture_folder: Path, make_context: MakeContext) -> None:
    evaluator = _evaluator(picture_folder.parent, data="pictures", image_size=1)
    for norm in ("none", "batch", "group", "layer"):
        config = {"stem.width": 2, "stem.kernel": 15, "cell.0-1": "sepconv5x5", "stage4.cells": 1, "norm": norm}
        assert 0 <= evaluator(config, make_context()).value <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs = 0: must be an integer from 1"),
        ({"batch_size": 3}, "batch_size = 3: must be an integer from 4"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0: must be a positive number"),
        ({"learning_rate": float("nan")}, "learning_rate = nan: must be a positive number"),
        ({"weight_decay": -1.0}, "weight_decay = -1.0: must be zero or a positive number"),
        ({"split_seed": -1}, "split_seed = -1: must be from 0 to 4294967295"),
        ({"image_size": 16}, 'image_size = 16: must be left out with data = "digits" (8x8)'),
        ({"image_size": 0, "data": "pictures"}, "image_size = 0: must be from 1 to 1024"),
    ],
)
def test_refuses_impossible_numbers(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(EvaluatorError) as error:
        _evaluator(tmp_path, **options)
    assert str(error.value) == f"[evaluator] {message}"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_uses_the_gpu_that_it_was_given(tmp_path: Path, make_context: MakeContext) -> None:
    context: Context = make_context(device="cuda:0")
    torch.cuda.reset_peak_memory_stats()
    assert _evaluator(tmp_path, epochs=3)(SMALL, context).value > 0.7
    assert torch.cuda.max_memory_allocated() > 0
