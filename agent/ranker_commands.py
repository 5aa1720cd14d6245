"""The commands ``ncode ranker ...``: make a ranker and judge it.

Nothing heavier than click is imported before a command needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)
AT_LEAST_ONE = click.IntRange(min=1)


@click.group()
def ranker() -> None:
    """Make rankers: training data, training, export; and judge them."""


@ranker.command()
@click.argument("out", type=PATH)
@click.option("--table", "tables", multiple=True, metavar="FILE:[-]COLUMN[,...]")
@click.option("--samples", type=int, default=228_000, show_default=True, help="Samples to write.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of every random draw.")
@click.option(
    "--format", "form", default="published", show_default=True, help="published, sharegpt, alpaca, trl or arrays."
)
@click.option("--history", type=int, default=200, show_default=True, help="Most past trials in a sample.")
@click.option("--least-history", type=int, default=1, show_default=True, help="Fewest past trials in a sample.")
@click.option("--pool", type=int, default=10, show_default=True, help="Candidates in a sample.")
@click.option("--pools", type=int, default=1, show_default=True, help="Samples that share a history.")
@click.option("--most-rows", type=int, help="Rows of the table in a subspace, at most; small ones are easier to learn.")
@click.option("--salient", type=float, default=0.0, show_default=True, help="Share of subspaces pruned by mean scores.")
@click.option("--describe", default="", metavar="TEXT", help="Begin each prompt with TEXT and the metric's name.")
@click.option("--jobs", type=AT_LEAST_ONE, help="Processes; by default one a core. The file is the same.")
def data(
    out: Path,
    tables: tuple[str, ...],
    samples: int,
    seed: int,
    form: str,
    jobs: int | None,
    **sample: Any,
) -> None:
    """Write training samples for a language model to OUT.jsonl or OUT.jsonl.gz, or go on with that file.

    With --format arrays: tasks for the embedded ranker, to the folder OUT. They come from synthetic landscapes and,
    over a third of them, from the tables, if there are any; the options for histories, pools, subspaces and
    descriptions do not matter.

    Samples are searches in random subspaces of tables: CSV files with a column "code" and a column a metric. Give
    --table once a file; name the columns behind a colon, and put a minus before a column where lower is better.
    """
    from ncode_search.agent.devices import available_cores
    from ncode_search.agent.tuning.progress import Progress
    from ncode_search.agent.tuning.published import SampleSettings, Source

    sources = [source for table in tables for source in Source.parse(table)]
    if form == "arrays":
        from ncode_search.agent.tuning.arrays import write_shards

        made = write_shards(out, samples, seed, sources, jobs=jobs or available_cores())
        print(f"{out}: {made:,} tasks")
        return
    from ncode_search.agent.tuning.data import DataSettings, write_samples

    settings = DataSettings(sources, samples, seed, form, SampleSettings(**sample))
    with Progress(samples, "samples") as progress:
        write_samples(out, settings, jobs=jobs or available_cores(), report=progress)
    print(f"{out}: {samples:,} samples")


@ranker.group()
def train() -> None:
    """Train a ranker: fine-tune a language model, or start from scratch."""


@train.command()
@click.argument("base")
@click.argument("samples", type=PATH)
@click.argument("out", type=PATH)
@click.option("--lora", type=int, default=0, metavar="RANK", help="Train adapters of this rank, not all weights.")
@click.option("--lora-alpha", type=int, help="Strength of the adapters; by default twice their rank.")
@click.option("--epochs", type=int, default=1, show_default=True)
@click.option("--batch", type=int, default=16, show_default=True, help="Samples a step.")
@click.option("--rate", type=float, help="Highest learning rate; by default 1e-5, and 2e-4 for adapters.")
@click.option("--warmup", type=float, default=0.1, show_default=True, help="Share of the steps in which it rises.")
@click.option("--context", type=int, default=20_480, show_default=True, help="Most tokens of a sample.")
@click.option("--pack", type=int, default=4096, show_default=True, help="Most tokens of a packed row; 0: no packing.")
@click.option("--bf16/--fp32", default=True, show_default=True, help="Precision of the computation.")
@click.option("--checkpointing", is_flag=True, help="Compute activations twice: less memory, a third slower.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--minutes", type=float, default=5.0, show_default=True, help="Between two checkpoints.")
@click.option("--validate", type=PATH, help="Samples to answer before and after the training.")
@click.option("--validate-most", type=AT_LEAST_ONE, default=200, show_default=True, help="Of these, so many.")
@click.option("--threads", type=int, help="CPU threads.")
def finetune(
    base: str,
    samples: Path,
    out: Path,
    minutes: float,
    validate: Path | None,
    validate_most: int,
    threads: int | None,
    **settings: Any,
) -> None:
    """Fine-tune BASE, a Llama, on SAMPLES in the published format; write it to the folder OUT, or go on with that.

    BASE is a .gguf file, the folder of a checkpoint, a name on the Hugging Face hub, or smollm2. The defaults are the
    published recipe. Started by "accelerate launch", it uses several GPUs; by "torchrun", several processes.
    """
    from ncode_search.agent.tuning.hf_model import require_libraries

    require_libraries(threads)
    from ncode_search.agent.tuning.progress import StepLine
    from ncode_search.agent.tuning.tune_run import TuneJob, tune
    from ncode_search.agent.tuning.tune_settings import TuneSettings

    job = TuneJob(base, samples, out, TuneSettings(**settings), minutes, validate, validate_most)
    with StepLine() as line:
        tune(job, line, line.say)


@train.command()
@click.argument("data", type=PATH)
@click.argument("out", type=PATH)
@click.option("--steps", type=int, default=24_000, show_default=True, help="Batches to learn from.")
@click.option("--rate", type=float, default=1.5e-3, show_default=True, help="Highest learning rate.")
@click.option("--width", type=int, default=128, show_default=True, help="Of the network.")
@click.option("--layers", type=int, default=6, show_default=True, help="Of the network.")
@click.option("--bf16/--fp32", default=True, show_default=True, help="Precision of the computation.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--minutes", type=float, default=4.0, show_default=True, help="Between two checkpoints.")
@click.option(
    "--validate", multiple=True, metavar="FILE:[-]COLUMN[,...]", help="Tables to predict and to search at times."
)
@click.option("--search-minutes", type=float, default=10.0, show_default=True, help="Between validations by searching.")
@click.option("--search-seeds", type=int, default=4, show_default=True, help="Searches a table; 0: only predict.")
@click.option("--search-trials", type=int, default=50, show_default=True, help="Trials of each of these searches.")
@click.option("--threads", type=int, help="CPU threads.")
def scratch(
    data: Path,
    out: Path,
    width: int,
    layers: int,
    minutes: float,
    validate: tuple[str, ...],
    search_minutes: float,
    search_seeds: int,
    search_trials: int,
    **settings: Any,
) -> None:
    """Train an embedded ranker on the arrays in DATA; checkpoints and log go to the folder OUT, or go on there.

    A line of the log has the loss in nats and its gain over the surrogates that the model starts from; with --validate
    also the rank correlation on tables given 25, 50 and 100 trials, and its lead over the best surrogate. Less often,
    and at the end, the network searches the tables: "search" is the mean log10 of the best trial's rank in the table,
    lower is better, "search_surrogates" the same without the network. The checkpoint that searched best is OUT/best.pt.
    TensorBoard finds the same figures in OUT/logs, if it is installed.
    """
    from ncode_search.agent.tuning.hf_model import require_libraries

    require_libraries()
    from ncode_search.agent.tuning.judging import skill_judge
    from ncode_search.agent.tuning.network import Shape
    from ncode_search.agent.tuning.published import Source
    from ncode_search.agent.tuning.scratch import BEST, TrainingSettings, train
    from ncode_search.agent.tuning.searching import SearchJudge

    tables = [source.read() for text in validate for source in Source.parse(text)]
    training = TrainingSettings(
        save_every=60 * minutes, search_every=60 * search_minutes, shape=Shape.of(width, layers), **settings
    )
    judge = skill_judge(tables) if tables else None
    search = SearchJudge(tables, search_seeds, search_trials) if tables and search_seeds else None
    train(data, out, training, judge, search)
    if (best := out / BEST).exists():
        print(f"{best}: the checkpoint that searched best, which can be exported, too")
    print(f"{out}: trained; next: ncode ranker export {out} {out.name}.gguf --quantize Q8_0")


@ranker.command()
@click.argument("checkpoint")
@click.argument("out", type=PATH)
@click.option("--quantize", "kind", default="F16", show_default=True, help="F32, F16, Q8_0, Q4_K_M and so on.")
def export(checkpoint: str, out: Path, kind: str) -> None:
    """Write CHECKPOINT, the folder of a trained ranker, as OUT.gguf for llama.cpp.

    Of an embedded ranker it is the newest checkpoint; of another one, such as best.pt, give the file. Of a
    fine-tuned model adapters are merged; the tokenizer, what the model is and its training data go into the file.
    """
    from ncode_search.agent.tuning.hf_model import require_libraries

    require_libraries()
    from ncode_search.agent.tuning import embedded_gguf, hf_export

    write = embedded_gguf.export if embedded_gguf.is_checkpoint(checkpoint) else hf_export.export
    write(checkpoint, out, kind)
    print(f"{out}: {out.stat().st_size / 1e6:,.1f} MB, {kind.upper()}")


@ranker.command()
@click.argument("model")
@click.argument("samples", type=PATH)
@click.option("--most", type=AT_LEAST_ONE, default=200, show_default=True, help="Samples to ask, from the first.")
@click.option("--threads", type=int, help="CPU threads.")
def answers(model: str, samples: Path, most: int, threads: int | None) -> None:
    """Ask MODEL for the best candidate of each pool of SAMPLES, and say how often it is right.

    MODEL is a .gguf file or smollm2, run by llama.cpp, or a checkpoint's folder, run by PyTorch.
    """
    from ncode_search.agent.tuning.answers import chance, opened, read_samples, share_right
    from ncode_search.agent.tuning.progress import Progress

    found = read_samples(samples, most)
    with opened(model, threads) as answering, Progress(len(found), "pools") as progress:
        share = share_right(answering, found, progress)
    error = 100 * (share * (1 - share) / len(found)) ** 0.5
    print(f"{model}: {share:.1%} of {len(found)} pools answered right")
    print(f"standard error {error:.1f} points, chance {chance(found):.1%}")
