"""A network in training is judged by the searches that it would make, and what it says is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ncode_search.agent.bench.methods import make_method  # noqa: E402
from ncode_search.agent.bench.tasks import Task  # noqa: E402
from ncode_search.agent.bench.trials import BenchSettings, Run, run_search  # noqa: E402
from ncode_search.agent.errors import InputError  # noqa: E402
from ncode_search.agent.score_table import ScoreTable  # noqa: E402
from ncode_search.agent.space import SearchSpace  # noqa: E402
from ncode_search.agent.tuning import arrays, scratch  # noqa: E402
from ncode_search.agent.tuning.embedded_gguf import export, is_checkpoint, load_checkpoint, write_gguf  # noqa: E402
from ncode_search.agent.tuning.network import RankerNetwork, Shape  # noqa: E402
from ncode_search.agent.tuning.searching import SearchJudge, log_rank  # noqa: E402

SMALL = Shape(width=32, layers=2, heads=1, hidden=32)
TRIALS = 25


@pytest.fixture(scope="module")
def table() -> ScoreTable:
    """4,096 codes with additive scores and what cannot be predicted."""
    rng = np.random.default_rng(0)
    space = SearchSpace({f"p{at}": list("0123") for at in range(6)})
    codes = space.core.enumerate(0, space.size)
    values = sum(rng.normal(size=4)[codes[:, at]] for at in range(6)) + 0.4 * rng.normal(size=len(codes))
    return ScoreTable(space, codes, values, values, np.arange(len(codes)))


def network(spread: float) -> RankerNetwork:
    """One whose outputs have about this standard deviation."""
    torch.manual_seed(1)
    made = RankerNetwork(SMALL)
    torch.nn.init.normal_(made.head.weight, std=spread / SMALL.width**0.5)
    return made


def test_it_searches_as_the_bench_does_with_the_exported_network(table: ScoreTable, tmp_path: Path) -> None:
    opinionated = network(300.0)
    figures = SearchJudge([table], seeds=2, trials=TRIALS)(opinionated)
    write_gguf(opinionated, tmp_path / "out.gguf", {})
    task, settings = Task("score", table), BenchSettings(trials=TRIALS)
    ranks = []
    for seed in range(2):
        method = make_method(str(tmp_path / "out.gguf"), task, settings, seed)
        best = table.values[run_search("out", method, task, seed, TRIALS).rows].max()
        ranks.append(np.log10((table.values >= best).sum()))
    assert figures["search"] == pytest.approx(np.mean(ranks), abs=1e-4)
    assert figures["search"] != figures["search_surrogates"], "the network has a say"
    assert figures["search_error"] > 0
    assert figures["search_fallbacks"] == 0


def test_an_untrained_network_searches_as_the_surrogates_do(table: ScoreTable) -> None:
    judge = SearchJudge([table], seeds=1, trials=TRIALS)
    untrained = judge(RankerNetwork(SMALL))
    assert untrained["search"] == untrained["search_surrogates"]
    assert judge(network(300.0))["search_surrogates"] == untrained["search_surrogates"]


def test_a_broken_network_does_not_pass_for_one_that_searches(table: ScoreTable) -> None:
    broken = network(1.0)
    torch.nn.init.constant_(broken.head.weight, float("nan"))
    assert SearchJudge([table], seeds=1, trials=TRIALS)(broken)["search_fallbacks"] == TRIALS - BenchSettings().startup


def test_ranks_are_of_classes() -> None:
    space = SearchSpace({"a": list("01234")})
    values, canon = np.array([1.0, 3.0, 3.0, 2.0, 0.0]), np.array([0, 1, 1, 3, 4])
    task = Task("score", ScoreTable(space, space.core.enumerate(0, 5), values, values, canon))
    found = {row: log_rank(task, run(row), 1) for row in range(5)}
    assert found == pytest.approx({0: np.log10(3), 1: 0, 2: 0, 3: np.log10(2), 4: np.log10(4)})


def run(row: int) -> Run:
    nothing = np.zeros(1, dtype=bool)
    return Run("m", 0, np.array([row]), nothing, nothing, np.ones(1))


def test_numbers_are_checked(table: ScoreTable) -> None:
    with pytest.raises(InputError, match="0 searches of 5 trials"):
        SearchJudge([table], 0, 5)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (arrays, scratch):
        monkeypatch.setattr(module, "LENGTHS", (5, 12))
    monkeypatch.setattr(arrays, "BATCH", 4)
    (folder := tmp_path / "data").mkdir()
    assert arrays.write_shard(folder, 0, 7, [])
    return folder


def settings(steps: int, search_every: float = 0.0) -> scratch.TrainingSettings:
    return scratch.TrainingSettings(
        steps=steps, warmup=1, decay=0.0, threads=1, shape=SMALL, report_every=1, search_every=search_every
    )


def searches(*ranks: float, **others: float) -> scratch.Judge:
    """A judge that finds these ranks in turn."""
    left = iter(ranks)
    return lambda _: {"search": next(left), "search_surrogates": 0.5, "search_fallbacks": 0, **others}


def steps_of(file: Path) -> int:
    return int(load_checkpoint(file)[1]["steps"])


def test_the_checkpoint_that_searched_best_is_kept(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    scratch.train(data, run, settings(3), search=searches(0.2, 0.2, 0.3, 0.3))
    assert steps_of(run / scratch.BEST) == 2, "of equals, the one that has learned more"
    assert steps_of(run / scratch.CHECKPOINT) == 3
    export(str(run / scratch.BEST), tmp_path / "best.gguf", "F32")
    assert is_checkpoint(str(run / scratch.BEST))
    assert not is_checkpoint(str(tmp_path / "other.pt"))
    scratch.train(data, run, settings(4), search=searches(0.25, 0.25))
    assert steps_of(run / scratch.BEST) == 2, "a run that goes on knows what was best"
    scratch.train(data, run, settings(5), search=searches(0.1, 0.1, search_fallbacks=1))
    assert steps_of(run / scratch.BEST) == 2, "decisions of another ranker are no search of the network's"
    scratch.train(data, run, settings(6), search=searches(0.9, 0.9, search_surrogates=0.8))
    assert steps_of(run / scratch.BEST) == 6, "other tables, other ranks"


def test_searches_are_logged_and_change_nothing_of_the_training(table: ScoreTable, data: Path, tmp_path: Path) -> None:
    judge = SearchJudge([table], seeds=1, trials=12)
    searched = scratch.train(data, tmp_path / "searched", settings(3), search=judge).state_dict()
    plain = scratch.train(data, tmp_path / "plain", settings(3)).state_dict()
    for name, weights in plain.items():
        torch.testing.assert_close(searched[name], weights, atol=0, rtol=0)
    lines = log_of(tmp_path / "searched")
    assert [line["step"] for line in lines if "search" in line] == [1, 2, 3, 3]
    judged = load_checkpoint(tmp_path / "searched" / scratch.CHECKPOINT)[1]["judged"]
    assert judged == {name: figure for name, figure in lines[-1].items() if name != "step"}
    assert not [line for line in log_of(tmp_path / "plain") if "search" in line]


def test_searches_wait_for_their_time_and_come_at_the_end(data: Path, tmp_path: Path) -> None:
    scratch.train(data, tmp_path / "run", settings(3, search_every=3600.0), search=searches(0.4))
    assert [line["step"] for line in log_of(tmp_path / "run") if "search" in line] == [3]


def test_tensorboard_finds_the_figures_of_the_log(
    data: Path, tmp_path: Path, scalars: Callable[[Path, str], list[tuple[int, float]]]
) -> None:
    run = tmp_path / "run"
    scratch.train(data, run, settings(2, 3600.0), lambda _: {"skill25": 0.7}, searches(0.4))
    scratch.train(data, run, settings(4, 3600.0))
    for name in ("loss", "gain", "skill25", "search"):
        expected = [(line["step"], line[name]) for line in log_of(run) if name in line]
        np.testing.assert_allclose(scalars(run / "logs", name), expected, atol=1e-4, err_msg=name)


def log_of(run: Path) -> list[Mapping[str, float]]:
    return [json.loads(line) for line in (run / scratch.LOG).read_text().splitlines()]
