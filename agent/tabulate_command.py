"""The command ``ncode tabulate``. Nothing heavier than click is imported before it needs it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("file", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The table: a .csv, or a .csv.gz.")
@click.option("--sample", type=int, help="So many configurations, drawn uniformly.  [default: all of them]")
@click.option("--workers", type=int, help="Evaluator processes.")
@click.option("--seed", type=int, help="Seed of the draw and of the trainings.")
@click.option(
    "--history", type=PATH, help="The SQLite file that makes it resumable.  [default: the table's name + .db]"
)
@click.option("--quiet", is_flag=True, help="Print nothing but warnings and the end.")
def tabulate(
    file: Path,
    output: Path,
    sample: int | None,
    workers: int | None,
    seed: int | None,
    history: Path | None,
    quiet: bool,
) -> None:
    """Train every configuration of FILE.toml's space once, and write their scores to a table.

    Searches on the table cost milliseconds a trial afterwards: `ncode bench --table TABLE --metric value`, or an
    [evaluator] of kind = "table". Configurations that the space says are equal are trained once. The same command goes
    on where it was stopped; a larger --sample adds to a smaller one.
    """
    from ncode_search.agent.lasting_output import lasting_output
    from ncode_search.agent.search_file import Overrides, SearchFile
    from ncode_search.agent.tabulate import check_output, history_of, tabulate_file

    check_output(output)
    overrides = Overrides(workers=workers, seed=seed, history=history or history_of(output))
    with lasting_output():
        code = tabulate_file(SearchFile.load(file, overrides), output, sample, quiet=quiet)
    sys.exit(code)
