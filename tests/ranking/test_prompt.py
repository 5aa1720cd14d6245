"""The published prompt, and what of the history fits."""

from __future__ import annotations

import numpy as np
import pytest

from ncode_search.agent.ranking.prompt import history_text, largest_fit, normalised, pool_text


def test_published_format() -> None:
    text = history_text(["012", "210", "111"], np.array([0.9, 0.33333, -0.5])) + pool_text(["000", "222"])
    assert text == "012|1.0,210|0.5952,111|0.0,000;222;"


@pytest.mark.parametrize("values", [[3.5], [2.0, 2.0, 2.0], [0.0, -0.0]])
def test_equal_scores_are_all_best(values: list[float]) -> None:
    assert normalised(np.array(values)).tolist() == [1.0] * len(values)


def test_no_scores() -> None:
    assert history_text([], np.zeros(0)) == ""


@pytest.mark.parametrize("values", [[1e308, -1e308], [5e-324, 0.0], [1e300, 1e300 - 1e284], [7.0, 7.0 + 1e-15]])
def test_extreme_scores_stay_in_range(values: list[float]) -> None:
    scores = normalised(np.array(values))
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_a_small_score_is_no_exponent() -> None:
    assert history_text(["0", "1", "2"], np.array([1e6, 1.0, 0.0])) == "0|1.0,1|0.0,2|0.0,"


@pytest.mark.parametrize("room", [0, 1, 57, 199, 200, 1000])
def test_largest_fit(room: int) -> None:
    asked: list[int] = []
    assert largest_fit(200, lambda count: asked.append(count) or count <= room) == min(room, 200)  # type: ignore[func-returns-value]
    assert len(asked) <= 9
    assert room < 200 or asked == [200]
