"""The command ``ncode bench``: what it may be told, checked before hours are spent.

Nothing heavier than click is imported before a command needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from ncode_search.agent.errors import InputError

PATH = click.Path(path_type=Path)
Command = TypeVar("Command", bound=Callable[..., None])

DEFAULT_BUDGETS = (25, 50, 100, 192)


class Listed(click.ParamType[tuple[str, ...]]):
    """Names with commas between them."""

    name = "list"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The names, without blanks around them."""
        return tuple(name for part in str(value).split(",") if (name := part.strip()))


def table_options(command: Command) -> Command:
    """The options that say which table is looked at, and how."""
    for option in (
        click.option("--canon", type=PATH, help="A CSV with columns code and canon: which codes are the same thing."),
        click.option("--minimize", is_flag=True, help="Lower is better in the table."),
        click.option(
            "--metric",
            "metrics",
            type=Listed(),
            multiple=True,
            required=True,
            help="The column to judge by; several with commas, or the option several times: one after another.",
        ),
        click.option("--table", type=PATH, required=True, help="A CSV, plain or gzip, with a column code."),
    ):
        command = option(command)
    return command


@click.command()
@table_options
@click.option(
    "--report", "reports", type=Listed(), multiple=True, help="Another column to report; one, or one a metric."
)
@click.option(
    "--rankers",
    type=Listed(),
    default="embedded,ridge,gp,pick,evolution,tpe",
    show_default=True,
    help="Who to compare, with commas between; the first is who the others are compared with.",
)
@click.option("--trials", type=int, default=192, show_default=True, help="Trials of a search.")
@click.option("--seeds", type=int, default=20, show_default=True, help="Searches of each.")
@click.option("--budgets", type=Listed(), help="Trials after which to compare.  [default: 25,50,100,192 and --trials]")
@click.option("--pool", type=int, default=128, show_default=True, help="Candidates a decision.")
@click.option("--startup", type=int, default=10, show_default=True, help="Uniform trials, the same for all rankers.")
@click.option("--jobs", type=int, help="Processes; by default one a core. The results are the same.")
@click.option("--json", "json_path", type=PATH, help="Write all figures to this file.")
@click.option("--plot", type=PATH, help="Draw the best so far over the trials: a .png, .svg or .pdf.")
def bench(
    table: Path,
    metrics: tuple[tuple[str, ...], ...],
    minimize: bool,
    reports: tuple[tuple[str, ...], ...],
    canon: Path | None,
    rankers: tuple[str, ...],
    trials: int,
    seeds: int,
    budgets: tuple[str, ...] | None,
    pool: int,
    startup: int,
    jobs: int | None,
    json_path: Path | None,
    plot: Path | None,
) -> None:
    """Run whole searches on a table of measured scores, and compare rankers.

    \b
    In --rankers, the product's own search with another ranker at its pools:
      embedded, llama, or the path of a .gguf file: a model
      ridge, gp        one-hot ridge regression; a Gaussian process with expected improvement
      pick             a random pick from the pool
      evolution-pool   what decides where a model cannot
    and searches as their users run them, without these pools:
      random           uniform, without repeats
      evolution        regularized evolution, population 10, sample 3
      local            local search with restarts
      tpe, optuna-gp   Optuna's samplers
      smac             SMAC3

    A code that the table does not have is a failed trial. ridge, gp, tpe, optuna-gp and --plot need the extra "bench",
    smac the extra "smac".
    """
    from ncode_search.agent.bench import plot as plots
    from ncode_search.agent.bench import report
    from ncode_search.agent.bench.methods import check_methods, require
    from ncode_search.agent.bench.runner import Plan, run_searches
    from ncode_search.agent.bench.statistics import compare
    from ncode_search.agent.bench.tasks import read_tasks
    from ncode_search.agent.bench.trials import BenchSettings

    settings = BenchSettings(trials, pool, startup)
    at_least_one(seeds=seeds, jobs=jobs)
    checked = _budgets(budgets, trials)
    require(["scipy"], "ncode bench")
    check_methods(rankers)
    check_folders(json_path, plot)
    if plot:
        plots.check_plot(plot)
    tasks = read_tasks(table, joined(metrics), minimize=minimize, reports=joined(reports), canon=canon)
    runs = run_searches(Plan(tasks, settings), rankers, seeds, jobs or cores())
    comparisons = [compare(task, of, settings, checked) for task, of in zip(tasks, runs, strict=True)]
    print(report.as_text(comparisons, settings))
    if json_path:
        report.write_atomically(json_path, report.as_json(comparisons, settings).encode())
    if plot:
        report.write_atomically(plot, plots.draw(comparisons, plot.suffix.lstrip(".").lower()))


def cores() -> int:
    """How many cores this process may use."""
    from ncode_search.agent.bench.runner import available_cores

    return available_cores()


def joined(lists: Sequence[tuple[str, ...]]) -> list[str]:
    """An option that may be given several times, and have commas."""
    return [name for names in lists for name in names]


def whole_numbers(option: str, texts: Sequence[str]) -> list[int]:
    """Raises `InputError` where one is none."""
    try:
        return [int(text) for text in texts]
    except ValueError as error:
        raise InputError(f"{option}: {error}; give whole numbers with commas between") from None


def at_least_one(**options: int | None) -> None:
    """Raise `InputError` for an option below 1."""
    for name, value in options.items():
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}; allowed: whole numbers from 1")


def check_folders(*paths: Path | None) -> None:
    """Raise `InputError` where a file cannot be put, before anything is computed for it."""
    for path in paths:
        if path and not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}; make it first")
        if path and path.is_dir():
            raise InputError(f"{path}: is a folder; name a file")


def _budgets(texts: tuple[str, ...] | None, trials: int) -> list[int]:
    """Sorted, and within the trials."""
    if not texts:
        return sorted({budget for budget in DEFAULT_BUDGETS if budget < trials} | {trials})
    budgets = sorted(set(whole_numbers("--budgets", texts)))
    if budgets[0] < 1 or budgets[-1] > trials:
        raise InputError(f"--budgets has {budgets[0]} to {budgets[-1]}; allowed: 1 to --trials, which is {trials}")
    return budgets
