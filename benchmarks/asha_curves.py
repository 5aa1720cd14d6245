"""Early stopping on curves that are known: whole searches with the product's own scheduler in seconds.

The score table of `ncode tabulate` has what every network scored after every epoch. An evaluator replays that to its
search, which stops trials and goes on with them as always; each search has as many epochs as one that trains all of
its trials to their end. Rules are written rule:least_epochs:reduction.

    python benchmarks/asha_curves.py [--table TABLE] [--ranker random] [--rules asha:1:4,asha:2:4,median:2]
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
from ncode_search.evaluators.base import Context, Result

TABLES = Path(__file__).parents[1] / "examples" / "tables"
TABLE = "NCODE_CURVES"
"""The environment variable that tells the workers which table it is."""
METRIC, TEST = "val_accuracy", "test_accuracy"
RULES = "asha:1:2,asha:1:3,asha:1:4,asha:2:2,asha:2:3,asha:2:4,median:1,median:2"
SHARES = (0.4, 0.6, 1.0)
"""Of the epochs of a search that trains all of its trials to their end."""

Run = list[tuple[int, float, float]]
"""After how many epochs of a search its best score was which, and how that network did on the test images."""


@cache
def rows() -> dict[str, dict[str, str]]:
    """Code to its row of the table."""
    with gzip.open(os.environ[TABLE], "rt") as file:
        return {row["code"]: row for row in csv.DictReader(file)}


@cache
def curves() -> dict[str, list[float]]:
    """Code to what it scored after each epoch."""
    first = next(iter(rows().values()))
    steps = sorted(int(name.partition("@")[2]) for name in first if name.startswith(f"{METRIC}@"))
    return {code: [float(row[f"{METRIC}@{step}"]) for step in steps] for code, row in rows().items()}


def evaluate(config: Mapping[str, Any], context: Context) -> Result:
    """Report what the table has for the code, from where the trial was stopped."""
    state, curve = context.restore(), curves()[context.code]
    for epoch in range((state["epoch"] if state else 0) + 1, len(curve) + 1):
        if epoch < len(curve):
            context.checkpoint({"epoch": epoch})
        context.report(epoch, **{METRIC: curve[epoch - 1]})
    return Result(curve[-1], {TEST: float(rows()[context.code][TEST])})


class Watch(Observer):
    """Counts epochs, notes each new best, and ends a search that has used them up."""

    def __init__(self, most: int) -> None:
        self._most, self._epochs, self.trials, self.completed = most, 0, 0, 0
        self.run = Run()

    def reported(self, trial: int, step: int, metrics: Mapping[str, float]) -> None:
        self._epochs, self.trials = self._epochs + 1, max(trial, self.trials)
        if self._epochs == self._most:
            os.kill(os.getpid(), signal.SIGINT)

    def finished(self, trial: Trial) -> None:
        if trial.value is not None and trial.metrics is not None:
            self.completed += 1
            if not self.run or trial.value > self.run[-1][1]:
                self.run.append((self._epochs, trial.value, trial.metrics[TEST]))


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


def best(watch: Watch, epochs: float) -> tuple[float, float]:
    """The best score after so many epochs, and that network's on the test images."""
    return next(((score, test) for used, score, test in reversed(watch.run) if used <= epochs), (0.0, 0.0))


def row(rule: str | None, runs: list[Watch], whole: list[Watch], epochs: int) -> str:
    """A line of the table."""
    found = [[best(run, share * epochs) for run in runs] for share in SHARES]
    targets = [best(run, epochs)[0] for run in whole]
    reached = [sum(score >= target for (score, _), target in zip(at, targets, strict=True)) for at in found[1:]]
    scores = [_spread([score for score, _ in at]) for at in found]
    tests = [_spread([test for _, test in at]) for at in found[1:]]
    counts = [f"{mean(run.trials for run in runs):.0f}, {mean(run.completed for run in runs):.0f}"]
    return f"| {' | '.join([rule or 'none', *scores, *map(str, reached), *tests, *counts])} |"


def _spread(numbers: list[float]) -> str:
    return f"{mean(numbers):.4f} ± {stdev(numbers):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLES / "digits_cnn.csv.gz", help="or digits_cnn_12.csv.gz")
    parser.add_argument("--rules", default=RULES)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--ranker", default="embedded")
    parser.add_argument("--trials", type=int, default=40)
    given = parser.parse_args()
    os.environ[TABLE] = str(given.table.resolve())
    logging.disable(logging.WARNING)  # every search is interrupted at its end
    epochs = given.trials * len(next(iter(curves().values())))
    shares = " | ".join(f"best after {share:.0%}" for share in SHARES)
    later = f"as good after {SHARES[1]:.0%} | 100% | test after {SHARES[1]:.0%} | 100%"
    print(f"| rule | {shares} | {later} | trials, completed |")
    print(f"|---|{'---|' * len(SHARES)}---|---|---|---|---|")
    whole = [search(None, seed, given.ranker, given.trials) for seed in range(given.seeds)]
    print(row(None, whole, whole, epochs), flush=True)
    for rule in given.rules.split(","):
        runs = [search(rule, seed, given.ranker, given.trials) for seed in range(given.seeds)]
        print(row(rule, runs, whole, epochs), flush=True)


if __name__ == "__main__":
    main()
