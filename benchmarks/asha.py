"""How many training epochs a search with ASHA needs for the best score that a search without it comes to.

For each seed: a search of examples/digits_cnn.toml as it stands (40 trials of 4 epochs), then the same with
``stop = "asha"``, until it has reached that score or has trained as many epochs. Epochs are counted from the histories.
Searches that are in the folder already are gone on with, so that this may be stopped and started again.

A best score is the luckiest of many trainings. With ``--again 10`` the best network of all whole trials, and that of
the search with ASHA after 60% of the epochs, are trained with so many other seeds, which neither search saw.

    python benchmarks/asha.py FOLDER [--seeds 5] [--least-epochs 2] [--reduction 4] [--again 10]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

from ncode_search.agent.history import History, Trial
from ncode_search.agent.observer import Observer
from ncode_search.agent.search import Search
from ncode_search.agent.search_file import SearchFile
from ncode_search.agent.states import TrialState
from ncode_search.evaluators.base import Context
from ncode_search.evaluators.cnn import CnnEvaluator

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits_cnn.toml"
SHARE = 0.6
"""Of the epochs of all whole trials."""


class StopsAt(Observer):
    """Ends a search once it has a score, and has trained `least` epochs, or once it has trained `most`."""

    def __init__(self, history: Path, target: float, least: int, most: int) -> None:
        self._history, self._target, self._least, self._most = history, target, least, most

    def finished(self, trial: Trial) -> None:
        epochs = epochs_of(self._history)
        reached = epochs >= self._least and best_of(self._history) >= self._target
        if reached or epochs >= self._most:
            os.kill(os.getpid(), signal.SIGINT)


def epochs_of(path: Path, until: float | None = None) -> int:
    """Epochs that were trained, of the trials up to and with the first that reached the score `until`."""
    with History.read(path) as history:
        moment = "SELECT min(finished_at) FROM trials WHERE state = 'complete' AND value >= ?"
        end = None if until is None else history.db.execute(moment, [until]).fetchone()[0]
        query = "SELECT count(*) FROM epochs" + (" WHERE reported_at <= ?" if end else "")
        return int(history.db.execute(query, [end] if end else []).fetchone()[0])


def best_of(path: Path) -> float:
    """The best score."""
    with History.read(path) as history:
        best = history.best()
        return float("-inf") if best is None or best.value is None else best.value


def best_within(path: Path, epochs: int) -> Trial:
    """The best trial of those that completed while so many epochs were trained, the first among equals."""
    with History.read(path) as history:
        row = history.db.execute(
            "SELECT id FROM trials WHERE state = 'complete' AND "
            "(SELECT count(*) FROM epochs WHERE reported_at <= finished_at) <= ? ORDER BY value DESC, finished_at",
            [epochs],
        ).fetchone()
        return history.trial(row[0])


def search(
    path: Path, seed: int, evaluator: Mapping[str, Any], observer: Observer | None, **settings_changed: Any
) -> Search:
    """The example's search with these changes."""
    file = SearchFile.load(EXAMPLE)
    settings = dataclasses.replace(file.settings, seed=seed, **settings_changed)
    evaluator = {**file.evaluator, **evaluator}
    return dataclasses.replace(file, history=path, evaluator=evaluator, settings=settings).to_search(observer)


def trained_again(trial: Trial, epochs: int, times: int) -> str:
    """Validation accuracy of a trial's network with other seeds."""
    config = SearchFile.load(EXAMPLE).space.decode(trial.code)
    evaluator = CnnEvaluator(epochs=epochs, folder=EXAMPLE.parent)
    with TemporaryDirectory() as folder:
        here = Path(folder)
        contexts = [
            Context(1, trial.code, 1000 + seed, "cpu", 1, here, lambda *_, **__: None, here / str(seed))
            for seed in range(times)
        ]
        scores = [evaluator(config, context).value for context in contexts]
    return f"{mean(scores):.4f} ± {stdev(scores):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--least-epochs", type=int, default=2)
    parser.add_argument("--reduction", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--again", type=int, default=0)
    given = parser.parse_args()
    given.folder.mkdir(exist_ok=True)
    again = " trained again | trained again |" if given.again else ""
    print(f"| seed | best of all | until it | with ASHA | complete, pruned | share | best at {SHARE:.0%} |{again}")
    print(f"|---|---|---|---|---|---|---|{'---|---|' if given.again else ''}")
    for seed in range(given.seeds):
        print(compare(given, seed), flush=True)


def compare(given: argparse.Namespace, seed: int) -> str:
    """One row of the table."""
    evaluator = {"epochs": given.epochs}
    whole = given.folder / f"whole{given.epochs}-{seed}.db"
    search(whole, seed, evaluator, None, workers=given.workers, trials=given.trials).run()
    target, most = best_of(whole), epochs_of(whole)
    part = round(SHARE * most)
    halving = given.folder / f"asha{given.epochs}-{given.least_epochs}-{given.reduction}-{seed}.db"
    done = epochs_of(halving) if halving.exists() else 0
    if done < part or (done < most and best_of(halving) < target):
        stopping = {"stop": "asha", "least_epochs": given.least_epochs, "reduction": given.reduction}
        observer = StopsAt(halving, target, part, most)
        search(halving, seed, evaluator, observer, workers=given.workers, trials=10 * given.trials, **stopping).run()
    took = epochs_of(halving, target) if best_of(halving) >= target else None
    share = "not reached" if took is None else f"{took / most:.0%}"
    best = best_within(halving, part)
    with History.read(halving) as history:
        states = history.counts()
    row = [
        f"{seed} | {target:.4f} | {epochs_of(whole, target)} | {took or '-'}",
        f"{states[TrialState.COMPLETE]}, {states[TrialState.PRUNED]} | {share} | {best.value:.4f}",
    ]
    if given.again:
        row += [trained_again(trial, given.epochs, given.again) for trial in (best_within(whole, most), best)]
    return f"| {' | '.join(row)} |"


if __name__ == "__main__":
    main()
