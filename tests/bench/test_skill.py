"""Skill without a search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from ncode_search.agent.bench import skill
from ncode_search.agent.bench.skill import Skill, SkillReport, run_eval, spearman
from ncode_search.agent.bench.tasks import Task
from ncode_search.agent.errors import InputError
from ncode_search.agent.observations import Observations
from ncode_search.agent.ranking.baselines import RandomRanker
from ncode_search.agent.space import SearchSpace

from .conftest import make_task


def test_spearman_against_scipy() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 5, 40).astype(float), rng.normal(size=40)
    assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
    assert spearman(np.ones(40), other) == spearman(other, np.ones(40)) == 0.0


def test_eval_of_a_random_ranker_beside_the_yardsticks() -> None:
    task = make_task(4, 4, 4, 4, noise=0.1)
    report = run_eval("pick", [task], seeds=4, at=[10, 60, 5000], processes=1)
    skills = {(one.ranker, one.length): one for one in report.skills[0]}
    assert set(skills) == {(ranker, length) for ranker in ("pick", "ridge", "gp") for length in (10, 60)}
    for ranker in ("ridge", "gp"):
        assert skills[ranker, 60].spearman.mean() > 0.95 > skills[ranker, 10].spearman.mean() > 0.2
        likelihood = skills[ranker, 60].likelihood
        assert likelihood is not None
        assert likelihood.mean() > -0.5  # the marginal one is -1.42
    assert abs(skills["pick", 60].spearman.mean()) < 0.2
    assert skills["pick", 60].likelihood is None
    text = str(report)
    assert text.startswith("score: 256 codes, 4 seeds")
    assert "Spearman" in text
    figures = report.as_document()["tasks"][0]["skills"][0]
    assert figures["spearman_ahead"]["of"] in {"ridge", "gp"}
    assert figures["likelihood"] is None


class Oracle(RandomRanker):
    """Knows all; notes what it was asked."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.calls: list[tuple[Observations, NDArray[np.uint8]]] = []

    def predict(self, known: Observations, pool: NDArray[np.uint8], rng: np.random.Generator) -> Oracle:
        self.calls.append((known, pool))
        self.mean = self.task.table.values[self.task.table.rows_of(pool)]
        return self

    def log_density(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        known, pool = self.calls[-1]
        values = self.task.table.values[self.task.table.rows_of(pool)]
        # The true score: a quantile of a standard normal, by how many of the history are below.
        below = [(sum(known.values < value) + 0.5 * sum(known.values == value) + 0.5) for value in values]
        assert scores == pytest.approx(stats.norm.ppf(np.array(below) / (len(known) + 1)))
        return scores


def test_histories_and_unseen_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(6, 6, 6, 6, twins=True)
    oracle = Oracle(task)
    monkeypatch.setattr(skill, "ranker_of", lambda name, space: oracle)
    plan = skill._Plan([task], [[10, 25]], ["oracle"])
    figures = skill._measure(plan, (0, 3))
    assert figures["oracle", 10][0] == figures["oracle", 25][0] == pytest.approx(1.0)
    classes = len(set(task.table.canon))
    for length, calls in ((10, oracle.calls[:3]), (25, oracle.calls[3:])):
        assert [len(pool) for _, pool in calls] == [255, 255, classes - 25 - 510]
        known = calls[0][0]
        assert len(known) == length
        rows = [*task.table.rows_of(known.codes), *(row for _, pool in calls for row in task.table.rows_of(pool))]
        assert len(set(task.table.canon[rows])) == len(rows)  # one of each class, none of them seen
        assert known.best(3).tolist() == np.argsort(-known.values)[:3].tolist()
    # The shorter history is the beginning of the longer one, and the codes to predict are the same.
    assert (oracle.calls[0][0].codes == oracle.calls[3][0].codes[:10]).all()
    assert (oracle.calls[1][1] == oracle.calls[4][1]).all()


def test_ahead_is_of_the_better_yardstick() -> None:
    own, ridge, gp = np.array([0.5, 0.7]), np.array([0.4, 0.4]), np.array([0.1, 0.9])
    skills = [Skill(name, 10, values, None) for name, values in (("m", own), ("ridge", ridge), ("gp", gp))]
    report = SkillReport("m", [make_task(2, 2)], 2, [skills])
    found = report.ahead(skills, 10, "spearman")
    assert found is not None
    assert found[0] == "gp"
    assert found[1].mean == pytest.approx(0.1)
    assert report.ahead(skills, 10, "likelihood") is None


@pytest.mark.parametrize(
    ("model", "seeds", "at", "text"),
    [
        ("tpe", 1, [3], "tpe is a whole search and ranks nothing"),
        ("nope", 1, [3], "there is no method 'nope'"),
        ("missing.gguf", 1, [3], "missing.gguf: there is no such file"),
        ("pick", 0, [3], "--seeds is 0"),
        ("pick", 1, [0], "--at needs"),
        ("pick", 1, [10], "score: 16 classes are too few for a history of 10"),
    ],
)
def test_what_cannot_be_judged(model: str, seeds: int, at: list[int], text: str) -> None:
    with pytest.raises(InputError, match=text):
        run_eval(model, [make_task(4, 4)], seeds, at)


def test_a_language_model_is_judged_by_its_scores(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    task = make_task(3, 3, 3)
    skills = run_eval(str(tiny_gguf), [task], seeds=1, at=[5], processes=1).skills[0]
    assert [one.ranker for one in skills] == [str(tiny_gguf), "ridge", "gp"]
    assert -1 <= skills[0].spearman[0] <= 1
    assert skills[0].likelihood is None
    assert isinstance(task.table.space, SearchSpace)
