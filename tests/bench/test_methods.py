"""Methods: who repeats codes and who does not, what they do where codes fail or run out."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ncode_search.agent.bench.classics import EvolutionSearch, LocalSearch
from ncode_search.agent.bench.methods import check_methods, make_method, ranker_of
from ncode_search.agent.bench.product import ProductSearch
from ncode_search.agent.bench.tasks import MISSING, Task
from ncode_search.agent.bench.trials import BenchSettings, Run, run_search
from ncode_search.agent.errors import InputError
from ncode_search.agent.observations import Observations
from ncode_search.agent.ranking.baselines import EvolutionRanker, RandomRanker
from ncode_search.agent.search import Search
from ncode_search.agent.settings import RankerSettings

from .conftest import make_task

PRODUCT = ["pick", "evolution-pool", "ridge", "gp"]
NEEDS = {"smac": "smac", "optuna-gp": "torch"}
ALL = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(NEEDS.get(name, "numpy")) is None, reason="not installed"))
    for name in [*PRODUCT, "random", "evolution", "local", "tpe", "optuna-gp", "smac"]
]


FEW = {"smac": 5, "optuna-gp": 14}
"""Trials of the slow ones."""


def run(name: str, task: Task, trials: int = 40, seed: int = 0, pool: int = 16, startup: int = 10, **more: Any) -> Run:
    settings = BenchSettings(trials, pool, startup, **more)
    return run_search(name, make_method(name, task, settings, seed), task, seed, trials)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_seed_decides_the_run_and_repeats_are_counted(name: str) -> None:
    task, trials = make_task(3, 4, 3, 4), FEW.get(name, 40)
    one, again, other = run(name, task, trials), run(name, task, trials), run(name, task, trials, seed=1)
    assert len(one.rows) == trials
    assert one.rows.tolist() == again.rows.tolist() != other.rows.tolist()
    assert one.repeats.tolist() == [row in one.rows[:at] for at, row in enumerate(one.rows)]
    assert one.twins.tolist() == one.repeats.tolist()
    assert (one.seconds > 0).all()


@pytest.mark.parametrize("name", PRODUCT)
def test_the_products_searches_never_repeat_a_class(name: str) -> None:
    task = make_task(3, 3, 3, 3, twins=True)
    searched = run(name, task, trials=81)
    assert not searched.twins.any()
    assert sorted(task.table.canon[searched.rows]) == sorted(set(task.table.canon))  # all 45, then it ends


def test_twins_are_counted_where_a_method_does_not_know_them() -> None:
    task = make_task(3, 3, 3, 3, twins=True)
    searched = run("random", task, trials=81)
    classes = task.table.canon[searched.rows].tolist()
    assert not searched.repeats.any()
    assert searched.twins.sum() == 81 - 45
    assert searched.twins.tolist() == [one in classes[:at] for at, one in enumerate(classes)]


class Spy(RandomRanker):
    def __init__(self) -> None:
        self.pools: list[NDArray[np.uint8]] = []
        self.known: list[Observations] = []

    def score(self, known: Observations, pool: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float64]:
        self.pools.append(pool.copy())
        self.known.append(known)
        return super().score(known, pool, rng)


def test_pools_are_full_of_canonical_codes_and_none_of_a_class_that_was_evaluated() -> None:
    task, spy = make_task(4, 4, 4, 4, twins=True), Spy()
    searched = run_search("spy", ProductSearch(task, spy, BenchSettings(30, 64, 10), 0), task, 0, 30)
    assert len(spy.pools) == 20  # the ranker is not asked in the startup trials
    for at, pool in enumerate(spy.pools, start=10):
        rows = task.table.rows_of(pool)
        assert (task.table.canon[rows] == rows).all()
        assert len(rows) == len(set(rows)) == 64
        assert not set(rows) & set(searched.rows[:at])


def test_the_products_rankers_start_alike_and_uniformly() -> None:
    task = make_task(5, 5, 5, 5)
    runs = [run(name, task, startup=10) for name in PRODUCT]
    assert len({tuple(one.rows[:10]) for one in runs}) == 1
    assert len({tuple(one.rows[:20]) for one in runs}) == len(runs)
    starts = np.concatenate([run("pick", task, trials=10, seed=seed).rows for seed in range(60)])
    assert abs(task.table.values[starts].mean() - task.table.values.mean()) < 4 * task.table.values.std() / np.sqrt(600)


@pytest.mark.parametrize(("share", "prune_after"), [(1.0, None), (0.7, None), (0.7, 12)])
def test_the_product_decides_as_a_search_does(tmp_path: Path, share: float, prune_after: int | None) -> None:
    task = make_task(4, 3, 4, share=share)
    settings = RankerSettings(kind="evolution", pool=12, startup=0)
    narrowed = {"prune_after": prune_after, "keep": 0.5}
    with Search(
        task.table.space, history=tmp_path / "h.db", seed=5, trials=30, ranker_settings=settings, **narrowed
    ) as search:
        asked = []
        for _ in range(30):
            trial = search.ask()
            row = task.row_of(task.table.space.from_text([trial.code])[0])
            asked.append(row)
            if row == MISSING:
                search.tell(trial, error="no such code")
            else:
                search.tell(trial, task.table.values[row])
    in_memory = run("evolution-pool", task, trials=30, seed=5, pool=12, startup=0, **narrowed)
    assert in_memory.rows.tolist() == asked


@pytest.mark.parametrize("name", ALL)
def test_codes_that_the_table_lacks_are_failed_trials(name: str) -> None:
    task = make_task(3, 4, 3, 4, share=0.6)
    searched = run(name, task, FEW.get(name, 40))
    failed = searched.rows == MISSING
    assert 0 < failed.sum() < len(failed)
    assert (task.table.values[searched.rows[~failed]] > task.table.values.mean()).any()


@pytest.mark.parametrize("name", ["pick", "random", "local", "smac"])
def test_a_method_without_repeats_ends_with_the_space(name: str) -> None:
    if name == "smac":
        pytest.importorskip("smac")
    task = make_task(2, 3, 2)
    assert sorted(run(name, task, trials=50).rows) == list(range(12))


@pytest.mark.parametrize("name", ["evolution", "tpe"])
def test_methods_as_their_users_run_them_repeat_codes(name: str) -> None:
    searched = run(name, make_task(3, 3, 3), trials=60)
    assert searched.repeats.sum() == 60 - len(set(searched.rows)) > 30


def test_evolution_changes_one_position_of_one_of_the_newest_ten() -> None:
    task = make_task(4, 4, 4, 4, 4)
    codes = task.table.codes[run("evolution", task, trials=100).rows]
    for at in range(10, 100):
        assert np.count_nonzero(codes[at - 10 : at] != codes[at], axis=1).min() <= 1
    method = EvolutionSearch(task.table.space, seed=0)
    for value in range(10):
        code = method.ask()
        method.tell(code, float(value))
    children = [method.ask() for _ in range(300)]
    nearest = [np.count_nonzero(child != code) for child in children]
    assert 0.2 < np.mean(np.array(nearest) == 1) < 0.5  # the best of ten wins 27% of tournaments of three


def test_local_search_moves_to_the_first_better_neighbour_up_to_a_local_optimum() -> None:
    task = make_task(4, 4, 4, 4)
    table, rows = task.table, run("local", task, trials=256).rows.tolist()
    assert len(rows) == len(set(rows)) == 256
    current = rows[0]
    for at in range(1, 100):
        around = set(table.rows_of(table.space.core.neighbours(table.codes[current])))
        # What is known already is moved to without a trial.
        while (
            best := max(around & set(rows[:at]), key=lambda row: table.values[row], default=current)
        ) != current and (table.values[best] > table.values[current]):
            current = best
            around = set(table.rows_of(table.space.core.neighbours(table.codes[current])))
        if around <= set(rows[:at]):
            current = rows[at]  # a local optimum: a new start
            continue
        assert rows[at] in around
        if table.values[rows[at]] > table.values[current]:
            current = rows[at]


def test_local_search_climbs_a_smooth_hill_at_once() -> None:
    task = make_task(4, 4, 4, 4, noise=0.0)
    searched = run("local", task, trials=60)
    assert task.table.values[searched.rows].max() == task.optimum


def test_local_search_without_a_value_starts_anew() -> None:
    method = LocalSearch(make_task(3, 3).table.space, seed=0)
    codes = []
    for _ in range(9):
        codes.append(method.ask())
        method.tell(codes[-1], None)
    assert len({code.tobytes() for code in codes}) == 9
    assert method.ask() is None


def test_a_ranker_that_fails_costs_no_trial() -> None:
    class Broken(RandomRanker):
        def score(self, known: Observations, pool: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float64]:
            if len(known) % 2:
                raise RuntimeError("no answer")
            return np.full(len(pool), np.nan)

    task = make_task(4, 4, 4)
    searched = run_search("broken", ProductSearch(task, Broken(), BenchSettings(30, 16, 10), 0), task, 0, 30)
    assert (len(searched.rows), searched.fallbacks) == (30, 20)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], "--rankers is empty"),
        (["ridge", "ridge"], "'ridge' twice"),
        (["nope"], "there is no method 'nope'; choose from .*ridge"),
        (["missing.gguf"], "missing.gguf: there is no such file"),
    ],
)
def test_names_that_cannot_be(names: list[str], text: str) -> None:
    with pytest.raises(InputError, match=text):
        check_methods(names)


@pytest.mark.parametrize(("name", "package"), [("gp", "sklearn"), ("tpe", "optuna"), ("smac", "smac")])
def test_missing_packages_are_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncode_search.agent.bench.methods.find_spec", lambda asked: None if asked == package else True)
    extra = "smac" if name == "smac" else "bench"
    with pytest.raises(InputError, match=rf"^{name} needs the package {package}, .* 'ncode-search\[{extra}\]'$"):
        check_methods([name])


def test_two_names_are_rankers_and_searches() -> None:
    space = make_task(2, 2).table.space
    assert isinstance(ranker_of("evolution-pool", space), EvolutionRanker)
    assert isinstance(ranker_of("pick", space), RandomRanker)
    with pytest.raises(InputError, match="--pool is 0"):
        BenchSettings(pool=0)
