"""The command ``ncode prune``. Nothing heavier than click is imported before it needs it."""

from __future__ import annotations

from pathlib import Path

import click

from ncode_search.agent.bench_commands import count_or_share

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("file", type=PATH)
@click.option("--supernet-epochs", "epochs", type=int, default=20, show_default=True, help="Epochs to train it.")
@click.option(
    "--keep", default="0.6", show_default=True, help="Options of every edge to keep: how many, as 3, or what share."
)
@click.option("-o", "--output", type=PATH, help="The new search file.  [default: FILE_pruned.toml]")
@click.option("--seed", type=int, help="Seed of the supernet; default: the file's.")
def prune(file: Path, epochs: int, keep: str, output: Path | None, seed: int | None) -> None:
    """Drop the operations of FILE.toml's cells that a supernet makes the least of, into a new search file.

    The supernet has all options of every edge at once and is trained on one random path a step. An option's saliency
    is the L1 norm of the weights that scale its output. The new file has the rest of FILE.toml, its comments included,
    and a history of its own; the supernet is saved beside it as safetensors.
    """
    from ncode_search.agent.prune_run import prune_file
    from ncode_search.agent.search_file import Overrides, SearchFile

    share = count_or_share("--keep", keep)
    output = output or file.with_name(f"{file.stem}_pruned.toml")
    for line in prune_file(SearchFile.load(file, Overrides(seed=seed)), output, epochs, share):
        print(line, flush=True)
