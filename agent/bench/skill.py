"""``ncode ranker eval``: how well a ranker predicts the scores of codes that it has not seen, without a search.

For each seed, a random order of the table's classes: the first trials of it are the history, and up to 1,000 others,
the same ones whatever the history's length, are to be predicted. *Spearman* is the rank correlation of the ranker's
scores with the true ones. *Log-likelihood*, in nats a code, is for rankers that predict distributions: the mean log
density at the true score, as a normal score within the history. Ridge regression and a Gaussian process stand beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.bench.methods import (
    CLASSICS,
    OPTIMIZERS,
    YARDSTICKS,
    check_method,
    ranker_of,
    require,
)
from ncode_search.agent.bench.normal_scores import scores_within
from ncode_search.agent.bench.report import columns, interval, number
from ncode_search.agent.bench.runner import run_jobs
from ncode_search.agent.bench.statistics import Difference, paired
from ncode_search.agent.bench.tasks import Task
from ncode_search.agent.devices import available_cores
from ncode_search.agent.errors import InputError
from ncode_search.agent.observations import Codes, Observations
from ncode_search.agent.ranking.base import Ranker
from ncode_search.agent.score_table import Rows

Values = NDArray[np.float64]

LENGTHS = (10, 25, 50, 100, 200)
"""Trials in a history, unless said otherwise."""
UNSEEN = 1000
"""Most codes that are predicted."""
CHUNK = 255
"""Most candidates a call, as in a search; the yardsticks get all at once, because each call fits them anew."""
LEAST_UNSEEN = 10
MEASURES = {"spearman": "Spearman", "likelihood": "log-likelihood, nats a code"}


class Prediction(Protocol):
    """A distribution for each candidate, in normal scores of the history."""

    @property
    def mean(self) -> Values:
        """Shape ``(m,)``."""

    def log_density(self, scores: Values) -> Values:
        """The natural logarithm of the density at each candidate's true score, shape ``(m,)``."""


@runtime_checkable
class Predictor(Protocol):
    """A ranker that predicts distributions, too."""

    def predict(self, known: Observations, pool: Codes, rng: np.random.Generator) -> Prediction:
        """What the scores of the candidates, shape ``(m, L)``, will be."""


@dataclass(frozen=True)
class Skill:
    """A ranker on one task with histories of one length."""

    ranker: str
    length: int
    spearman: Values
    """Shape ``(seeds,)``."""
    likelihood: Values | None
    """Shape ``(seeds,)``; None of a ranker that predicts no distributions."""

    def measure(self, name: str) -> Values | None:
        """One of `MEASURES`."""
        values: Values | None = getattr(self, name)
        return values


@dataclass(frozen=True)
class SkillReport:
    """A ranker beside the yardsticks."""

    model: str
    tasks: Sequence[Task]
    seeds: int
    skills: Sequence[Sequence[Skill]]
    """For each task; all rankers at the first length, then at the next."""

    def __str__(self) -> str:
        blocks = zip(self.tasks, self.skills, strict=True)
        return "\n\n".join("\n".join(self._task_lines(task, skills)) for task, skills in blocks)

    def as_document(self) -> dict[str, Any]:
        """For JSON."""
        tasks = [
            {"metric": task.name, "skills": [self._document(one, skills) for one in skills]}
            for task, skills in zip(self.tasks, self.skills, strict=True)
        ]
        return {"model": self.model, "seeds": self.seeds, "tasks": tasks}

    def ahead(self, skills: Sequence[Skill], length: int, measure: str) -> tuple[str, Difference] | None:
        """How far the model is ahead of the better yardstick, by the mean, and which that is; None without figures."""
        figures = {one.ranker: one.measure(measure) for one in skills if one.length == length}
        own = figures.pop(self.model)
        others = {name: values for name, values in figures.items() if values is not None}
        if own is None or not others:
            return None
        better = max(others, key=lambda name: float(others[name].mean()))
        return better, paired(own - others[better])

    def _document(self, one: Skill, skills: Sequence[Skill]) -> dict[str, Any]:
        document: dict[str, Any] = {"ranker": one.ranker, "trials": one.length}
        for measure in MEASURES:
            values = one.measure(measure)
            document[measure] = None if values is None else values.tolist()
            ahead = self.ahead(skills, one.length, measure) if one.ranker == self.model else None
            if ahead:
                document[f"{measure}_ahead"] = {"of": ahead[0], **vars(ahead[1])}
        return document

    def _task_lines(self, task: Task, skills: Sequence[Skill]) -> Iterator[str]:
        yield f"{task.name}: {len(task.table):,} codes, {self.seeds} seeds; mean and sd over the seeds"
        for measure, title in MEASURES.items():
            yield f"\n{title}"
            yield from columns(list(self._rows(skills, measure)))
        yield f"\nahead: of the better yardstick; mean of paired differences of {self.model} with its 95% t interval"

    def _rows(self, skills: Sequence[Skill], measure: str) -> Iterator[list[str]]:
        rankers = list(dict.fromkeys(one.ranker for one in skills))
        yield ["trials", *(cell for ranker in rankers for cell in (ranker, "sd")), "ahead", "of"]
        for length in dict.fromkeys(one.length for one in skills):
            of = [one.measure(measure) for one in skills if one.length == length]
            ahead = self.ahead(skills, length, measure)
            cells = [cell for values in of for cell in _mean_and_deviation(values)]
            yield [str(length), *cells, *([interval(ahead[1]), ahead[0]] if ahead else ["-", "-"])]


def run_eval(
    model: str,
    tasks: Sequence[Task],
    seeds: int = 20,
    at: Sequence[int] = LENGTHS,
    *,
    processes: int | None = None,
) -> SkillReport:
    """Judge the ranker `model`, a name as of a bench, beside the yardsticks, by histories of each length in `at`.

    Lengths that leave no codes to predict are left out. Raises `InputError` for a name, a file or a length that
    cannot be.
    """
    _check(model, seeds, at)
    lengths = [_lengths_for(task, at) for task in tasks]
    rankers = [model, *(name for name in YARDSTICKS if name != model)]
    plan = _Plan(tasks, lengths, rankers)
    jobs = [(task, seed) for task in range(len(tasks)) for seed in range(seeds)]
    measured = run_jobs(_measure, plan, jobs, processes or available_cores(), "histories")
    grouped = [measured[task * seeds : (task + 1) * seeds] for task in range(len(tasks))]
    return SkillReport(model, tasks, seeds, [_gather(of, rankers, at) for of, at in zip(grouped, lengths, strict=True)])


@dataclass(frozen=True)
class _Plan:
    tasks: Sequence[Task]
    lengths: Sequence[Sequence[int]]
    rankers: Sequence[str]


_Figures = dict[tuple[str, int], tuple[float, float | None]]
"""Ranker and length to Spearman and log-likelihood."""


def _measure(plan: _Plan, job: tuple[int, int]) -> _Figures:
    number, seed = job
    task, lengths = plan.tasks[number], plan.lengths[number]
    order = _random_classes(task, np.random.default_rng(seed))
    unseen = order[max(lengths) :][:UNSEEN]
    figures: _Figures = {}
    for name in plan.rankers:
        ranker = ranker_of(name, task.table.space)
        ranker.load()
        try:
            for length in lengths:
                figures[name, length] = _judge(ranker, name, task, order[:length], unseen, seed)
        finally:
            ranker.close()
    return figures


def _judge(ranker: Ranker, name: str, task: Task, seen: Rows, unseen: Rows, seed: int) -> tuple[float, float | None]:
    table = task.table
    nothing = table.codes[:0]
    leaders = np.argsort(-table.values[seen], kind="stable").tolist()
    known = Observations(table.codes[seen], table.values[seen], nothing, nothing, leaders)
    truth = scores_within(table.values[seen], table.values[unseen])
    size = len(unseen) if name in YARDSTICKS else CHUNK
    scores, densities = [], []
    for start in range(0, len(unseen), size):
        pool, rng = table.codes[unseen[start : start + size]], np.random.default_rng([seed, len(seen), start])
        if isinstance(ranker, Predictor):
            prediction = ranker.predict(known, pool, rng)
            scores.append(prediction.mean)
            densities.append(prediction.log_density(truth[start : start + size]))
        else:
            scores.append(ranker.score(known, pool, rng))
    likelihood = float(np.concatenate(densities).mean()) if densities else None
    return spearman(np.concatenate(scores), table.values[unseen]), likelihood


def spearman(a: Values, b: Values) -> float:
    """Rank correlation, ties sharing their mean rank; 0 where one of them is constant."""
    ranks = np.array([_ranks(a), _ranks(b)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    norms = np.sqrt((ranks**2).sum(axis=1))
    return float(ranks[0] @ ranks[1] / norms.prod()) if norms.all() else 0.0


def _ranks(values: Values) -> Values:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[where])


def _random_classes(task: Task, rng: np.random.Generator) -> Rows:
    """Rows of the canonical codes in random order."""
    rows: Rows = rng.permutation(np.unique(task.table.canon))
    return rows


def _gather(measured: Sequence[_Figures], rankers: Sequence[str], lengths: Sequence[int]) -> list[Skill]:
    skills = []
    for length in lengths:
        for name in rankers:
            figures = [one[name, length] for one in measured]
            likelihood = [value for _, value in figures if value is not None]
            skills.append(
                Skill(
                    name,
                    length,
                    np.array([value for value, _ in figures]),
                    np.array(likelihood) if likelihood else None,
                )
            )
    return skills


def _check(model: str, seeds: int, at: Sequence[int]) -> None:
    if model in {*OPTIMIZERS, "smac", *(set(CLASSICS) - {"random", "evolution"})}:
        raise InputError(f"{model} is a whole search and ranks nothing; give a ranker or the path of a .gguf file")
    check_method(model)
    require(["sklearn", "scipy"], "ncode ranker eval")
    if seeds < 1:
        raise InputError(f"--seeds is {seeds}; allowed: whole numbers from 1")
    if not at or min(at) < 1:
        raise InputError("--at needs lengths of histories, whole numbers from 1, such as 25,50,100")


def _lengths_for(task: Task, at: Sequence[int]) -> list[int]:
    classes = len(np.unique(task.table.canon))
    lengths = [length for length in sorted(set(at)) if length + LEAST_UNSEEN <= classes]
    if not lengths:
        raise InputError(f"{task.name}: {classes} classes are too few for a history of {min(at)}; give a smaller --at")
    return lengths


def _mean_and_deviation(values: Values | None) -> tuple[str, str]:
    if values is None:
        return "-", "-"
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return f"{values.mean():.3f}", number(deviation, 2)
