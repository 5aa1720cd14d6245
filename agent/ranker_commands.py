"""The commands ``ncode ranker ...``: make a ranker and judge it.

Nothing heavier than click is imported before a command needs it.
"""

from __future__ import annotations

from pathlib import Path

import click

PATH = click.Path(path_type=Path)


@click.group()
def ranker() -> None:
    """Make rankers: training data, training, export; and judge them."""


@ranker.command()
@click.argument("out", type=PATH)
@click.option("--table", "tables", multiple=True, required=True, metavar="FILE:[-]COLUMN[,...]")
@click.option("--samples", type=int, default=228_000, show_default=True, help="Samples to write.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of every random draw.")
@click.option("--format", "form", default="published", show_default=True, help="published, sharegpt, alpaca or trl.")
@click.option("--history", type=int, default=200, show_default=True, help="Most past trials in a sample.")
@click.option("--pool", type=int, default=10, show_default=True, help="Candidates in a sample.")
@click.option("--describe", default="", metavar="TEXT", help="Begin each prompt with TEXT and the metric's name.")
@click.option("--jobs", type=int, help="Processes; by default one a core. The file is the same.")
def data(
    out: Path,
    tables: tuple[str, ...],
    samples: int,
    seed: int,
    form: str,
    history: int,
    pool: int,
    describe: str,
    jobs: int | None,
) -> None:
    """Write training samples for a language model to OUT.jsonl or OUT.jsonl.gz, or go on with that file.

    Samples are searches in random subspaces of tables: CSV files with a column "code" and a column a metric. Give
    --table once a file; name the columns behind a colon, and put a minus before a column where lower is better.
    """
    from ncode_search.agent.tuning.data import DataSettings, write_samples
    from ncode_search.agent.tuning.progress import Progress, usable_cores
    from ncode_search.agent.tuning.published import SampleSettings, Source

    sources = [source for table in tables for source in Source.parse(table)]
    settings = DataSettings(sources, samples, seed, form, SampleSettings(history, pool, describe))
    with Progress(samples, "samples") as progress:
        write_samples(out, settings, jobs=jobs or usable_cores(), report=progress)
    print(f"{out}: {samples:,} samples")


@ranker.group()
def train() -> None:
    """Train a ranker: fine-tune a language model, or start from scratch."""
