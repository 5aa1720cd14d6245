"""How many training epochs a search with ASHA needs for the best score that a search without it comes to.

For each seed: a search of examples/digits_cnn.toml as it stands (40 trials of 4 epochs), then the same with
``stop = "asha"``, until it has reached that score or has trained as many epochs. Epochs are counted from the histories.
Searches that are in the folder already are gone on with, so that this may be stopped and started again.

    python benchmarks/asha.py FOLDER [--seeds 5] [--epochs 4] [--least-epochs 2] [--reduction 4] [--workers 1]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncode_search.agent.history import History, Trial
from ncode_search.agent.observer import Observer
from ncode_search.agent.search import Search
from ncode_search.agent.search_file import SearchFile
from ncode_search.agent.states import TrialState

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits_cnn.toml"


class StopsAt(Observer):
    """Ends a search once it has a score, or has trained so many epochs."""

    def __init__(self, history: Path, target: float, most: int) -> None:
        self._history, self._target, self._most = history, target, most

    def finished(self, trial: Trial) -> None:
        reached = trial.value is not None and trial.value >= self._target
        if reached or epochs_of(self._history) >= self._most:
            os.kill(os.getpid(), signal.SIGINT)


def epochs_of(path: Path, until: float | None = None) -> int:
    """Epochs that were trained, of the trials up to and with the first that reached the score `until`."""
    with History.read(path) as history:
        moment = "SELECT min(finished_at) FROM trials WHERE state = 'complete' AND value >= ?"
        end = None if until is None else history.db.execute(moment, [until]).fetchone()[0]
        query = "SELECT count(*) FROM epochs" + (" WHERE reported_at <= ?" if end else "")
        return int(history.db.execute(query, [end] if end else []).fetchone()[0])


def counts(path: Path) -> tuple[dict[TrialState, int], float]:
    """Trials by state, and the best score."""
    with History.read(path) as history:
        best = history.best()
        return history.counts(), float("nan") if best is None or best.value is None else best.value


def search(
    path: Path, seed: int, evaluator: Mapping[str, Any], observer: Observer | None, **settings_changed: Any
) -> Search:
    """The example's search with these changes."""
    file = SearchFile.load(EXAMPLE)
    settings = dataclasses.replace(file.settings, seed=seed, **settings_changed)
    evaluator = {**file.evaluator, **evaluator}
    return dataclasses.replace(file, history=path, evaluator=evaluator, settings=settings).to_search(observer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--least-epochs", type=int, default=2)
    parser.add_argument("--reduction", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--trials", type=int, default=40)
    given = parser.parse_args()
    given.folder.mkdir(exist_ok=True)
    print(
        "| seed | best of all | epochs of all | until its best | epochs with ASHA | best | complete, pruned | share |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for seed in range(given.seeds):
        print(compare(given, seed), flush=True)


def compare(given: argparse.Namespace, seed: int) -> str:
    """One row of the table."""
    evaluator = {"epochs": given.epochs}
    whole = given.folder / f"whole{given.epochs}-{seed}.db"
    search(whole, seed, evaluator, None, workers=given.workers, trials=given.trials).run()
    _, target = counts(whole)
    most = epochs_of(whole)
    halving = given.folder / f"asha{given.epochs}-{given.least_epochs}-{given.reduction}-{seed}.db"
    observer = StopsAt(halving, target, most)
    if not halving.exists() or (counts(halving)[1] < target and epochs_of(halving) < most):
        stopping = {"stop": "asha", "least_epochs": given.least_epochs, "reduction": given.reduction}
        search(halving, seed, evaluator, observer, workers=given.workers, trials=10 * given.trials, **stopping).run()
    states, best = counts(halving)
    took = epochs_of(halving, target) if best >= target else epochs_of(halving)
    share = f"{took / most:.0%}" if best >= target else "not reached"
    done = f"{states[TrialState.COMPLETE]}, {states[TrialState.PRUNED]}"
    return f"| {seed} | {target:.4f} | {most} | {epochs_of(whole, target)} | {took} | {best:.4f} | {done} | {share} |"


if __name__ == "__main__":
    main()
