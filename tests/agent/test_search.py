"""The loop with real worker processes: it completes, survives every kind of trial, and is repeatable."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from ncode_search import NcodeError, SearchSpace
from ncode_search.agent.errors import HistoryError, InputError
from ncode_search.agent.history import History, Objective, Trial
from ncode_search.agent.observer import Observer
from ncode_search.agent.ranking.baselines import RandomRanker
from ncode_search.agent.settings import RankerSettings
from ncode_search.agent.states import TrialState
from ncode_search.agent.worker import Task
from ncode_search.agent.workers import MOST_EXCUSED, Worker, WorkerDied


def trials_of(search) -> list[Trial]:
    with search.history() as history:
        return list(history.trials())


def test_a_search_completes_its_trials_and_records_everything(make_search, witness: Path) -> None:
    search = make_search(trials=12, workers=2, ranker="evolution")
    outcome = search.run()
    trials = trials_of(search)
    assert outcome.completed == len(trials) == 12
    assert len({trial.code for trial in trials}) == 12
    assert outcome.best.value == max(trial.value for trial in trials)
    assert all(trial.state is TrialState.COMPLETE and trial.attempt == 1 for trial in trials)
    assert all(trial.metrics == {"twice": 2 * trial.value} for trial in trials)
    assert [trial.proposed_by for trial in trials] == ["startup"] * 3 + ["evolution"] * 9
    with search.history() as history:
        assert (history.db["epochs"].count, history.db["decisions"].count) == (12, 12)
        assert history.meta()["settings"]["trials"] == 12
    assert Counter(line.split()[0] for line in witness.read_text().splitlines()) == {"begin": 12, "end": 12}


def test_minimising_finds_the_smallest(make_search) -> None:
    search = make_search("loss", trials=64, goal="minimize")
    assert search.run().best.value == 0.0


def test_a_finished_search_is_reported_without_training_anything(make_search, witness: Path) -> None:
    make_search(trials=3).run()
    seen = witness.read_text()
    assert make_search(trials=3).run().completed == 3
    assert witness.read_text() == seen
    assert make_search(trials=5).run().completed == 5


def test_a_small_space_is_exhausted(make_search) -> None:
    search = make_search(space=SearchSpace({"a": [0, 1], "b": [0, 1, 2]}), trials=100, workers=2)
    outcome = search.run()
    assert (outcome.exhausted, outcome.completed) == (True, 6)
    assert make_search(space=search.space, trials=100).run().exhausted


@pytest.mark.slow
@pytest.mark.parametrize("ranker", ["random", "evolution"])
def test_the_same_seed_and_one_worker_give_the_same_codes_in_the_same_order(make_search, tmp_path, ranker: str) -> None:
    def codes(name: str, seed: int) -> list[str]:
        search = make_search(trials=15, seed=seed, ranker=ranker, history=tmp_path / name)
        search.run()
        return [trial.code for trial in trials_of(search)]

    first = codes("first.db", 7)
    assert first == codes("second.db", 7)
    assert first != codes("third.db", 8)


@pytest.mark.slow
def test_complaint_11_a_search_in_parts_goes_on_as_one_in_one_go(make_search, tmp_path) -> None:
    def codes(name: str, *parts: int) -> list[str]:
        for trials in parts:
            search = make_search(
                trials=trials,
                ranker="evolution",
                ranker_settings=RankerSettings(startup=5),
                history=tmp_path / name,
            )
            search.run()
        return [trial.code for trial in trials_of(search)]

    assert codes("parts.db", 3, 6, 7, 20) == codes("whole.db", 20)


def test_complaint_11_no_decision_draws_the_numbers_of_another_also_after_a_restart(make_search) -> None:
    pools, numbers = [], set()

    class Notes(RandomRanker):
        def score(self, known, pool, rng):
            pools.append(set(map(tuple, pool)))
            numbers.add(rng.random())
            return super().score(known, pool, rng)

    space = SearchSpace({f"p{at}": [0, 1, 2, 3] for at in range(20)})
    for _ in range(2):
        settings = {"ranker": Notes(), "ranker_settings": RankerSettings(startup=0)}
        with make_search(None, space=space, **settings) as search:
            for _ in range(3):
                search.tell(search.ask(), error="no score")  # from which nothing is bred: all pools are uniform
    assert len(numbers) == len(pools) == 6
    assert len(set.union(*pools)) == sum(map(len, pools))


def test_evaluators_get_the_seed(make_search) -> None:
    assert int(make_search("seeded", trials=2, seed=42).run().best.value) == 42


# Trials that go wrong

FATES = ["raise", "exit", "fork", "sysexit", "segfault", "nan", "text", "hang", "prune", "once", "fine"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, request):
    """One search over all fates, because each of them costs a worker process."""
    from ncode_search import Search

    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCODE_TEST_LOG", str(folder / "witness.log"))
        search = Search(
            SearchSpace({"a": FATES}),
            history=folder / "search.db",
            evaluator={"kind": "python", "function": "trial_functions:hostile"},
            folder=Path(__file__).parent,
            ranker="random",
            trials=100,
            workers=2,
            timeout=1.5,
        )
        outcome = search.run()
    trials = {search.space.decode(trial.code)["a"]: trial for trial in trials_of(search)}
    return outcome, trials, (folder / "witness.log").read_text()


def test_no_trial_ends_the_search(hostile) -> None:
    outcome, trials, _ = hostile
    assert (outcome.completed, outcome.exhausted, len(trials)) == (2, True, len(FATES))


@pytest.mark.parametrize(
    ("fate", "error"),
    [
        ("raise", "RuntimeError: no such layer"),
        ("exit", "the worker process exited with code 3"),
        ("fork", "the worker process exited with code 4"),
        ("sysexit", "SystemExit: no more"),
        ("segfault", "the worker process died of SIGSEGV"),
        ("nan", "ValueError: the evaluator returned nan, which is no score"),
        ("text", "TypeError: the evaluator returned '0.5', which is no number"),
        ("hang", "killed: not done within the timeout of 1.5 s"),
    ],
)
def test_a_trial_that_fails_is_tried_again_and_then_failed_with_its_reason(hostile, fate: str, error: str) -> None:
    trial = hostile[1][fate]
    assert (trial.state, trial.attempt, trial.value) == (TrialState.FAILED, 2, None)
    assert error in trial.error


def test_a_traceback_and_the_end_of_the_output_are_kept(hostile) -> None:
    assert "Traceback" in hostile[1]["raise"].error
    assert "about to hang" in hostile[1]["hang"].error
    assert hostile[1]["hang"].error.splitlines()[-1].startswith("killed"), "the cause stands last, where it is shown"


def test_a_second_attempt_can_succeed(hostile) -> None:
    trial = hostile[1]["once"]
    assert (trial.state, trial.attempt, trial.value, trial.error) == (TrialState.COMPLETE, 2, 0.5, None)


def test_a_pruned_trial_is_not_tried_again(hostile) -> None:
    trial = hostile[1]["prune"]
    assert (trial.state, trial.attempt, trial.error) == (TrialState.PRUNED, 1, "no use")


def test_a_worker_is_used_for_many_trials_and_replaced_after_a_crash(hostile, make_search, witness: Path) -> None:
    make_search(trials=10, workers=2).run()
    assert len({line.split()[2] for line in witness.read_text().splitlines()}) == 2
    assert len({line.split()[2] for line in hostile[2].splitlines()}) > 2


def test_a_worker_that_cannot_be_replaced_at_once_is_tried_again(make_search, tmp_path, monkeypatch) -> None:
    module = tmp_path / "fragile.py"
    module.write_text(
        "import os, pathlib\n"
        "broken = pathlib.Path(__file__).with_name('broken')\n"
        "if broken.exists():\n"
        "    broken.unlink()\n"
        "    os._exit(5)\n"
        "def evaluate(config, context):\n"
        "    if context.trial == 2 and not broken.with_name('done').exists():\n"
        "        broken.with_name('done').touch()\n"
        "        broken.touch()\n"
        "        os._exit(6)\n"
        "    return 0.5\n"
    )
    monkeypatch.setattr("ncode_search.agent.loop.RESTART_PAUSES", (0.05,))
    search = make_search(trials=4)
    search._evaluator = {"kind": "python", "function": "fragile:evaluate"}
    search._evaluator_folder = tmp_path
    assert search.run().completed == 4
    assert not (tmp_path / "broken").exists()


# Attempts


class Killer(Observer):
    """Kills the worker of every trial that is finished, which is idle then."""

    def finished(self, trial) -> None:
        if trial.state.is_finished:
            os.kill(int(trial.worker.split(":")[1]), signal.SIGKILL)


def test_the_death_of_an_idle_worker_costs_no_trial_an_attempt(make_search) -> None:
    search = make_search(trials=4, retries=0, observer=Killer())
    assert search.run().completed == 4
    assert [(trial.state, trial.failures) for trial in trials_of(search)] == [(TrialState.COMPLETE, 0)] * 4


@pytest.mark.slow
def test_a_worker_that_never_begins_is_excused_a_few_times_only(make_search, witness: Path) -> None:
    async def deaths(worker: Worker) -> list[bool]:
        excused = []
        for _ in range(MOST_EXCUSED + 1):
            await worker.start()
            os.kill(int(worker.identity.split(":")[1]), signal.SIGKILL)
            with pytest.raises(WorkerDied) as caught:
                await worker.run(Task(1, 1, "000", {}, True), lambda *_: None)
            excused.append(caught.value.is_excused)
        await worker.close()
        return excused

    search = make_search(trials=1)
    search.run()  # the history that a worker writes to
    (worker,) = search._make_workers()
    assert asyncio.run(deaths(worker)) == [True] * MOST_EXCUSED + [False]


def test_attempts_are_counted_in_the_history_also_after_a_restart(make_search, tmp_path) -> None:
    search = make_search("always_fails", trials=1, retries=2)
    objective = Objective("maximize", search._evaluator)
    with History.open(search.path, search.space.positions, objective, search.space.declared) as history:
        history.add(1, "000", "random")
        for failed in (True, False, False):
            history.requeue(1, history.start(1, "gone:1:x", "cpu"), "boom", failed=failed)
    assert search.run().paused
    trial = trials_of(search)[0]
    assert (trial.state, trial.attempt, trial.failures) == (TrialState.FAILED, 5, 3)


def test_every_start_is_recorded_with_its_settings(make_search) -> None:
    make_search(trials=1).run()
    search = make_search(trials=2, workers=2, timeout="1m", seed=3, ranker="evolution")
    search.run()
    with search.history() as history:
        first, second = (start["settings"] for start in history.starts())
    assert (first["search"]["trials"], second["search"]["trials"]) == (1, 2)
    assert (second["search"]["timeout"], second["search"]["seed"]) == (60.0, 3)
    assert (first["ranker"]["kind"], second["ranker"]["kind"]) == ("random", "evolution")
    assert (first["devices"], second["devices"]) == (["cpu"], ["cpu"] * 2)


# Wrong input


@pytest.mark.parametrize(
    ("function", "settings", "said"),
    [
        ("no_such_function", {}, "has no no_such_function"),
        ("score", {"trials": 0}, "trials is 0; allowed: whole numbers from 1"),
        ("score", {"goal": "max"}, "goal is 'max'; allowed: 'maximize', 'minimize'"),
        ("score", {"timeout": 1e18}, "timeout is 1e"),
        ("score", {"timeout": "10 parsecs"}, "timeout is '10 parsecs'"),
        ("score", {"ranker": "oracle"}, "oracle"),
        (None, {}, "without an evaluator"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(make_search, tmp_path, function, settings, said) -> None:
    with pytest.raises(InputError, match=said):
        make_search(function, **settings).run()
    assert not (tmp_path / "search.db").exists()


def test_another_objective_is_refused(make_search) -> None:
    make_search(trials=1).run()
    with pytest.raises(HistoryError, match="another objective"):
        make_search(trials=1, goal="minimize").run()


# Inside an event loop, with an observer


def test_it_runs_inside_an_event_loop(make_search) -> None:
    async def main() -> int:
        with pytest.raises(NcodeError, match="run_async"):
            make_search(trials=2).run()
        return (await make_search(trials=2).run_async()).completed

    assert asyncio.run(main(), debug=True) == 2


def test_an_observer_is_told_what_happens(make_search) -> None:
    class Notes(Observer):
        def __init__(self) -> None:
            self.notes: list = []

        def opened(self, completed, best) -> None:
            self.notes.append(("opened", completed))

        def started(self, trial, text, worker) -> None:
            self.notes.append(("started", trial))

        def reported(self, trial, step, metrics) -> None:
            self.notes.append(("reported", trial, step))

        def finished(self, trial) -> None:
            self.notes.append(("finished", trial.id, trial.state.value))

    notes = Notes()
    make_search(trials=2, observer=notes).run()
    trial = [("started", 1), ("reported", 1, 1), ("finished", 1, "complete")]
    assert notes.notes[:4] == [("opened", 0), *trial]
