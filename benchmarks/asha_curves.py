"""Early stopping on curves that are known: whole searches with the product's own scheduler in seconds.

The score table of `ncode tabulate` has what every network scored after every epoch. An evaluator replays that to its
search, which stops trials and goes on with them as always; each search has as many epochs as one that trains all of
its trials to their end. Rules are written rule:least_epochs:reduction.

    python benchmarks/asha_curves.py [--seeds 20] [--ranker random] [--rules asha:1:4,asha:2:4,median:2]

The table is that of the digits, or another one of its space: NCODE_CURVES=FILE.csv.gz.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import gzip
import logging
import os
import signal
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

from ncode_search.agent.history import Trial
from ncode_search.agent.observer import Observer
from ncode_search.agent.search_file import SearchFile
from ncode_search.evaluators.base import Context

TABLES = Path(__file__).parents[1] / "examples" / "tables"
TABLE = Path(os.environ.get("NCODE_CURVES", TABLES / "digits_cnn.csv.gz"))
METRIC = "val_accuracy"
RULES = "asha:1:2,asha:1:3,asha:1:4,asha:2:2,asha:2:3,asha:2:4,median:1,median:2"
SHARES = (0.4, 0.6, 1.0)
"""Of the epochs of a search that trains all of its trials to their end."""

Run = list[tuple[int, float]]
"""After how many epochs of a search its best score was which."""


@cache
def curves() -> dict[str, list[float]]:
    """Code to what it scored after each epoch."""
    with gzip.open(TABLE, "rt") as file:
        rows = list(csv.DictReader(file))
    steps = sorted(int(name.partition("@")[2]) for name in rows[0] if name.startswith(f"{METRIC}@"))
    return {row["code"]: [float(row[f"{METRIC}@{step}"]) for step in steps] for row in rows}


def evaluate(config: Mapping[str, Any], context: Context) -> float:
    """Report what the table has for the code, from where the trial was stopped."""
    state, curve = context.restore(), curves()[context.code]
    for epoch in range((state["epoch"] if state else 0) + 1, len(curve) + 1):
        if epoch < len(curve):
            context.checkpoint({"epoch": epoch})
        context.report(epoch, **{METRIC: curve[epoch - 1]})
    return curve[-1]


class Watch(Observer):
    """Counts epochs, notes each new best, and ends a search that has used them up."""

    def __init__(self, most: int) -> None:
        self._most, self._epochs, self.run, self.trials = most, 0, Run(), 0

    def reported(self, trial: int, step: int, metrics: Mapping[str, float]) -> None:
        self._epochs, self.trials = self._epochs + 1, max(trial, self.trials)
        if self._epochs == self._most:
            os.kill(os.getpid(), signal.SIGINT)

    def finished(self, trial: Trial) -> None:
        if trial.value is not None:
            self.run.append((self._epochs, max(trial.value, self.run[-1][1] if self.run else trial.value)))


def search(rule: str | None, seed: int, ranker: str, trials: int) -> Watch:
    """One search; without a rule all its trials are trained to their end."""
    length = len(next(iter(curves().values())))
    watch = Watch(trials * length if rule else -1)
    with TemporaryDirectory() as folder:
        file = SearchFile.load(TABLES / "digits_cnn.toml")
        changed = {"seed": seed, "workers": 1, "backup_every": 0, "trials": trials, **_settings(rule, length, trials)}
        dataclasses.replace(
            file,
            path=Path(__file__),
            history=Path(folder) / "search.db",
            evaluator={"kind": "python", "function": f"{Path(__file__).name}:evaluate"},
            ranker=dataclasses.replace(file.ranker, kind=ranker, startup=file.ranker.startup_trials(trials)),
            settings=dataclasses.replace(file.settings, **changed),
        ).to_search(watch).run()
    return watch


def _settings(rule: str | None, length: int, trials: int) -> dict[str, Any]:
    if rule is None:
        return {}
    name, least, *reduction = rule.split(":")
    settings = {"stop": name, "metric": METRIC, "least_epochs": int(least), "most_epochs": length}
    return {**settings, "trials": trials * length, **({"reduction": int(reduction[0])} if reduction else {})}


def best(watch: Watch, epochs: float) -> float:
    """The best score after so many epochs."""
    return max((score for used, score in watch.run if used <= epochs), default=0.0)


def row(rule: str | None, runs: list[Watch], whole: list[Watch], epochs: int) -> str:
    """A line of the table."""
    scores = [[best(run, share * epochs) for run in runs] for share in SHARES]
    targets = [best(run, epochs) for run in whole]
    reached = [sum(map(float.__ge__, at, targets)) for at in scores]
    cells = [f"{mean(at):.4f} ± {stdev(at):.4f}" for at in scores]
    counts = [f"{mean(run.trials for run in runs):.0f}, {mean(len(run.run) for run in runs):.0f}"]
    return f"| {' | '.join([rule or 'none', *cells, *map(str, reached[1:]), *counts])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", default=RULES)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--ranker", default="embedded")
    parser.add_argument("--trials", type=int, default=40)
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # every search is interrupted at its end
    epochs = given.trials * len(next(iter(curves().values())))
    shares = " | ".join(f"best after {share:.0%}" for share in SHARES)
    print(f"| rule | {shares} | as good after {SHARES[1]:.0%} | after 100% | trials, completed |")
    print(f"|---|{'---|' * len(SHARES)}---|---|---|")
    whole = [search(None, seed, given.ranker, given.trials) for seed in range(given.seeds)]
    print(row(None, whole, whole, epochs), flush=True)
    for rule in given.rules.split(","):
        runs = [search(rule, seed, given.ranker, given.trials) for seed in range(given.seeds)]
        print(row(rule, runs, whole, epochs), flush=True)


if __name__ == "__main__":
    main()
