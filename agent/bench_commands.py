"""The commands ``ncode bench`` and ``ncode ranker eval``: what they may be told, checked before hours are spent.

Nothing heavier than click is imported before a command needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ncode_search.agent.errors import InputError

if TYPE_CHECKING:
    from ncode_search.agent.bench.tasks import Task

PATH = click.Path(path_type=Path)
Command = TypeVar("Command", bound=Callable[..., None])

DEFAULT_BUDGETS = (25, 50, 100, 192)

_METHODS = """
\b
In --rankers, the product's own search with another ranker at its pools:
  embedded, llama, the path of a .gguf file, or a server's address: a model
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


def table_options(command: Command) -> Command:
    """The options that say which table is looked at, and how."""
    for option in (
        click.option("--ordered", metavar="LIST", help="Positions, from 0, whose digits stand for rising numbers."),
        click.option("--canon", type=PATH, help="A CSV with columns code and canon: which codes are the same thing."),
        click.option("--minimize", is_flag=True, help="Lower is better in the table."),
        click.option(
            "--metric",
            "metrics",
            multiple=True,
            required=True,
            help="The column to judge by; several with commas, or the option several times: one after another.",
        ),
        click.option("--table", type=PATH, required=True, help="A CSV, plain or gzip, with a column code."),
    ):
        command = option(command)
    return command


@click.command(epilog=_METHODS)
@table_options
@click.option("--report", "reports", multiple=True, help="Another column to report; one, or one a metric.")
@click.option(
    "--rankers",
    default="embedded,ridge,gp,pick,evolution,tpe",
    show_default=True,
    help="Who to compare, with commas between; the first is who the others are compared with.",
)
@click.option("--trials", type=int, default=192, show_default=True, help="Trials of a search.")
@click.option("--seeds", type=int, default=20, show_default=True, help="Searches of each.")
@click.option("--budgets", help="Trials after which to compare.  [default: 25,50,100,192 and --trials]")
@click.option("--pool", type=int, default=128, show_default=True, help="Candidates a decision.")
@click.option("--startup", type=int, default=10, show_default=True, help="Uniform trials, the same for all rankers.")
@click.option("--prune-after", type=int, help="Trials after which rankers' pools keep to the options that did best.")
@click.option(
    "--keep", default="0.5", show_default=True, help="With it: how many options, as 2, or what share, as 0.5."
)
@click.option("--jobs", type=int, help="Processes; by default one a core. The results are the same.")
@click.option("--json", "json_path", type=PATH, help="Write all figures to this file.")
@click.option("--plot", type=PATH, help="Draw the best so far over the trials: a .png, .svg or .pdf.")
def bench(
    reports: tuple[str, ...],
    rankers: str,
    trials: int,
    seeds: int,
    budgets: str | None,
    pool: int,
    startup: int,
    prune_after: int | None,
    keep: str,
    jobs: int | None,
    json_path: Path | None,
    plot: Path | None,
    **of_table: Any,
) -> None:
    """Run whole searches on a table of measured scores, and compare rankers."""
    from ncode_search.agent.bench import plot as plots
    from ncode_search.agent.bench import report
    from ncode_search.agent.bench.methods import check_methods, require
    from ncode_search.agent.bench.runner import Plan, run_searches
    from ncode_search.agent.bench.statistics import compare
    from ncode_search.agent.bench.trials import BenchSettings
    from ncode_search.agent.devices import available_cores

    settings = BenchSettings(trials, pool, startup, prune_after, count_or_share("--keep", keep))
    _at_least_one(seeds=seeds, jobs=jobs)
    checked, methods = _budgets(budgets, trials), _listed(rankers)
    require(["scipy"], "ncode bench")
    check_methods(methods)
    _check_places(json_path, plot)
    if plot:
        plots.check_plot(plot)
    tasks = _tasks(**of_table, reports=_listed(*reports))
    runs = run_searches(Plan(tasks, settings), methods, seeds, jobs or available_cores())
    comparisons = [compare(task, of, settings, checked) for task, of in zip(tasks, runs, strict=True)]
    print(report.as_text(comparisons, settings))
    report.write(comparisons, settings, json_path, plot)


@click.command("eval")
@click.argument("model")
@table_options
@click.option("--seeds", type=int, default=20, show_default=True, help="Histories of each length.")
@click.option("--at", default="10,25,50,100,200", show_default=True, help="Random trials in a history.")
@click.option("--jobs", type=int, help="Processes; by default one a core. The results are the same.")
@click.option("--json", "json_path", type=PATH, help="Write all figures to this file.")
def evaluate(model: str, seeds: int, at: str, jobs: int | None, json_path: Path | None, **of_table: Any) -> None:
    """Judge how well MODEL, a .gguf file, a server's address or a ranker's name, predicts scores: without a search.

    Spearman's correlation with the true scores of up to 1,000 unseen codes, and log-likelihood, for rankers that
    predict distributions; beside ridge regression and a Gaussian process. Needs the extra "bench".
    """
    import json

    from ncode_search.agent.bench.report import finite
    from ncode_search.agent.bench.skill import run_eval
    from ncode_search.agent.whole_files import write_atomically

    _at_least_one(seeds=seeds, jobs=jobs)
    _check_places(json_path)
    result = run_eval(model, _tasks(**of_table), seeds, _whole_numbers("--at", at), processes=jobs)
    print(result)
    if json_path:
        write_atomically(json_path, (json.dumps(finite(result.as_document()), indent=1) + "\n").encode())


def _tasks(
    table: Path,
    metrics: tuple[str, ...],
    minimize: bool,
    canon: Path | None,
    ordered: str | None,
    reports: Sequence[str] = (),
) -> list[Task]:
    """What `table_options` say."""
    from ncode_search.agent.bench.tasks import read_tasks

    order = _whole_numbers("--ordered", ordered or "")
    return read_tasks(table, _listed(*metrics), minimize=minimize, reports=reports, canon=canon, ordered=order)


def _listed(*texts: str) -> list[str]:
    """The names in an option that has commas, and may be given several times."""
    return [name for text in texts for part in text.split(",") if (name := part.strip())]


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(name) for name in _listed(text)]
    except ValueError:
        raise InputError(f"{option} is {text!r}; give whole numbers with commas between") from None


def count_or_share(option: str, text: str) -> int | float:
    """How many, or what share. Raises `InputError` for text that is neither."""
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise InputError(f"{option} is {text!r}; give a number of options, or a share such as 0.5") from None


def _at_least_one(**options: int | None) -> None:
    for name, value in options.items():
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}; allowed: whole numbers from 1")


def _check_places(*paths: Path | None) -> None:
    """Refuse files that cannot be put there, before anything is computed for them."""
    for path in paths:
        if path and not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}; make it first")
        if path and path.is_dir():
            raise InputError(f"{path}: is a folder; name a file")


def _budgets(text: str | None, trials: int) -> list[int]:
    """Sorted, and within the trials."""
    if text is None:
        return sorted({budget for budget in DEFAULT_BUDGETS if budget < trials} | {trials})
    budgets = sorted(set(_whole_numbers("--budgets", text)))
    if not budgets or budgets[0] < 1 or budgets[-1] > trials:
        raise InputError(f"--budgets is {text!r}; allowed: whole numbers from 1 to --trials, which is {trials}")
    return budgets
