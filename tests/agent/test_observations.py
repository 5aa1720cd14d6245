"""The log behind decisions: the same answers as sorting everything, at every length."""

import numpy as np
import pytest

from ncode_search.agent.observations import LEADERS, ObservationLog, Observations


def codes_of(numbers: np.ndarray) -> np.ndarray:
    return np.stack([numbers // 256, numbers % 256], axis=1).astype(np.uint8)


@pytest.mark.parametrize("loaded", [0, 1, 300])
def test_the_best_are_those_of_a_stable_sort(loaded: int) -> None:
    values = np.random.default_rng(0).integers(0, 50, 700).astype(float)
    codes = codes_of(np.arange(700))
    log = ObservationLog(2)
    log.load(codes[:loaded], values[:loaded], codes[:0])
    for trial in range(loaded, 700):
        log.begin(trial, codes[trial])
        log.complete(trial, values[trial])
        if trial % 37 == 0 or trial == 699:
            expected = np.argsort(-values[: trial + 1], kind="stable")
            for count in (1, 10, LEADERS, LEADERS + 1, 1000):
                assert log.view().best(count).tolist() == expected[:count].tolist()
    assert np.array_equal(log.view().codes, codes)
    assert np.array_equal(log.view().values, values)


def test_a_view_does_not_change_when_the_log_grows() -> None:
    log = ObservationLog(2)
    log.begin(1, np.array([1, 1], dtype=np.uint8))
    view = log.view()
    log.complete(1, 0.5)
    assert (len(view), len(view.pending)) == (0, 1)
    assert (len(log.view()), len(log.view().pending)) == (1, 0)
    with pytest.raises(ValueError, match="read-only"):
        log.view().values[0] = 1.0


def same(first: Observations, second: Observations) -> bool:
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("codes", "values", "pending", "failed", "pruned", "partial")
    ) and np.array_equal(first.best(5), second.best(5))


@pytest.mark.parametrize("end", ["complete", "fail", "prune"])
def test_the_view_before_the_last_trial_s_end_does_not_depend_on_whether_it_has_ended(end: str) -> None:
    log = ObservationLog(2)
    for trial in range(5):
        log.begin(trial, np.array([trial, 0], dtype=np.uint8))
        log.complete(trial, float(trial))
    last = np.array([9, 9], dtype=np.uint8)
    log.begin(9, last)
    before = log.view_without_last(last)
    if end == "complete":
        log.complete(9, 99.0)
    elif end == "prune":
        log.prune(9, 0.5)
    else:
        log.fail(9)
    assert same(before, log.view_without_last(last))
    assert not same(before, log.view())


def test_a_stopped_trial_has_a_last_score_and_is_in_flight_again_when_it_is_promoted() -> None:
    log = ObservationLog(2)
    codes = codes_of(np.arange(4))
    log.load_pruned([1, 2], codes[:2], [0.1, 0.2])
    log.begin(3, codes[2])
    log.prune(3, 0.3)
    known = log.view()
    assert (len(known), len(known.failed), known.partial.tolist()) == (0, 0, [0.1, 0.2, 0.3])
    assert np.array_equal(known.pruned, codes[:3])
    log.promote(2)
    assert np.array_equal(known.pruned, codes[:3]), "a ranker may still be reading it"
    assert list(log.in_flight) == [2]
    assert np.array_equal(log.view().pruned, codes[[0, 2]])
    assert np.array_equal(log.view().pending, codes[[1]])
    log.complete(2, 0.9)
    assert (log.view().values.tolist(), log.view().partial.tolist()) == ([0.9], [0.1, 0.3])
