"""Training data of the embedded ranker on disk: shards of tasks as plain arrays.

A shard is a ``.npz`` with a batch of tasks for every length of history. It is a function of (seed, number) alone and
written whole or not at all, so any number of processes may make shards of one folder, and whoever starts again makes
only what is missing.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.bench.runner import run_jobs
from ncode_search.agent.errors import InputError
from ncode_search.agent.score_table import ScoreTable
from ncode_search.agent.tuning.landscapes import VERSION
from ncode_search.agent.tuning.published import Source
from ncode_search.agent.tuning.tasks import LENGTHS, Task, draw_task
from ncode_search.agent.whole_files import write_atomically

BATCH = 16
"""Tasks a batch."""
SHARD = BATCH * len(LENGTHS)
"""Tasks a shard."""
ABOUT = "made.json"
_TABLE_SHARE = 0.35


@dataclass(frozen=True)
class Batch:
    """B tasks with histories of up to n trials, m queries and up to L positions; unused places hold zeros."""

    codes: NDArray[np.uint8]
    """Trials, then queries: shape ``(B, n + m, L)``."""
    sizes: NDArray[np.uint8]
    """Options a position, shape ``(B, L)``; 0 where a task has no such position."""
    ordered: NDArray[np.uint8]
    """How many options of each position are in an order, shape ``(B, L)``."""
    relevance: NDArray[np.float16]
    """Shape ``(B, D)``."""
    trial_facts: NDArray[np.float16]
    """Shape ``(B, n, 15)``."""
    query_facts: NDArray[np.float16]
    """Shape ``(B, m, 15)``."""
    whole: NDArray[np.float32]
    """Shape ``(B, 17)``."""
    mean: NDArray[np.float32]
    """The surrogates' predictions, shape ``(B, m, 3)``."""
    sd: NDArray[np.float32]
    targets: NDArray[np.float32]
    """Shape ``(B, m)``."""
    random: NDArray[np.bool_]
    """Shape ``(B, m)``."""
    trials: NDArray[np.int32]
    """How many trials each task has, shape ``(B,)``."""


def write_shards(
    folder: Path,
    tasks: int,
    seed: int,
    sources: Sequence[Source],
    *,
    jobs: int = 1,
) -> int:
    """Make shards with at least `tasks` tasks, or those that `folder` lacks; how many tasks they have.

    Raises `InputError` for wrong numbers, for tables that cannot be read, and for a folder of other data.
    """
    if tasks < 1 or seed < 0:
        raise InputError(f"--samples {tasks}, --seed {seed}: ask for one sample at least, and a seed from 0")
    shards = -(-tasks // SHARD)
    [source.read() for source in sources]  # before anything is written: the tables may be wrong
    tables = [f"{one.path.name}:{'-' if one.minimize else ''}{one.metric}" for one in sources]
    _claim(folder, {"version": VERSION, "seed": seed, "tables": tables})
    run_jobs(_make, _Making(folder, seed, tuple(sources)), range(shards), jobs, "shards")
    return shards * SHARD


def about(folder: Path) -> dict[str, Any]:
    """What the shards of `folder` were made from. Raises `InputError` where that is damaged."""
    path = folder / ABOUT
    try:
        return dict(json.loads(path.read_text())) if path.exists() else {}
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): name another folder") from error


def _claim(folder: Path, made: dict[str, Any]) -> None:
    """Write down what the folder's data are made from; refuse one that holds other data."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (found := about(folder)) and found.get("version") != made["version"]:
            raise InputError(f"{folder} holds data of another ncode-search, whose seeds gave other tasks: name another")
        if found and found != made:
            raise InputError(f"{folder} holds data of seed {found['seed']} and tables {found['tables']}: name another")
        if not found:
            write_atomically(folder / ABOUT, json.dumps(made).encode())
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}): name another folder") from error


@dataclass(frozen=True)
class _Making:
    """What all shards of a folder have in common."""

    folder: Path
    seed: int
    sources: tuple[Source, ...]


def _make(making: _Making, number: int) -> bool:
    return write_shard(making.folder, number, making.seed, _read(making.sources))


@lru_cache(maxsize=1)
def _read(sources: tuple[Source, ...]) -> list[ScoreTable]:
    """Once a process."""
    return [source.read() for source in sources]


def write_shard(folder: Path, number: int, seed: int, tables: Sequence[ScoreTable]) -> bool:
    """Make shard `number`, unless it is there; says whether it was made."""
    path = folder / f"{number:05d}.npz"
    if path.exists():
        return False
    arrays: dict[str, Any] = {}
    for length in LENGTHS:
        rng = np.random.default_rng([seed, number, length])
        batch = stack([draw_task(length, tables, _TABLE_SHARE, rng) for _ in range(BATCH)])
        arrays |= {f"{length}.{field.name}": getattr(batch, field.name) for field in fields(Batch)}
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(partial, path)
    return True


def shards_of(folder: Path) -> list[Path]:
    """The shards of a folder, in order. Raises `InputError` where there are none."""
    if shards := sorted(folder.glob("*.npz")):
        return shards
    raise InputError(f"{folder} has no training data: make some with `ncode ranker data --format arrays`")


def read_shard(path: Path) -> list[Batch]:
    """The batches of a shard. Raises `InputError` where it is damaged."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            lengths = dict.fromkeys(name.split(".")[0] for name in arrays.files)
            return [Batch(**{field.name: arrays[f"{one}.{field.name}"] for field in fields(Batch)}) for one in lengths]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path} is damaged ({error}): delete it and make it again with `ncode ranker data`"
        ) from error


def stack(tasks: Sequence[Task]) -> Batch:
    """Tasks as one batch, padded with zeros."""
    trials = [len(task.trials.scores) for task in tasks]
    most = max(trials)

    def split(task: Task, array: NDArray[Any]) -> NDArray[Any]:
        """Trials padded to `most`, then queries."""
        count = len(task.trials.scores)
        padding = np.zeros((most - count, *array.shape[1:]), dtype=array.dtype)
        return np.concatenate([array[:count], padding, array[count:]])

    facts = [split(task, task.reading.facts) for task in tasks]
    return Batch(
        codes=_padded([split(task, task.codes) for task in tasks], np.uint8),
        sizes=_padded([np.array(task.sizes) for task in tasks], np.uint8),
        ordered=_padded([np.array(task.ordered) for task in tasks], np.uint8),
        relevance=_padded([task.reading.relevance for task in tasks], np.float16),
        trial_facts=np.stack([one[:most, :15] for one in facts]).astype(np.float16),
        query_facts=np.stack([one[most:, 15:30] for one in facts]).astype(np.float16),
        whole=np.stack([one[-1, 30:47] for one in facts]).astype(np.float32),
        mean=np.stack([task.reading.prior.mean for task in tasks]).astype(np.float32),
        sd=np.stack([task.reading.prior.sd for task in tasks]).astype(np.float32),
        targets=np.stack([task.targets for task in tasks]).astype(np.float32),
        random=np.stack([task.random for task in tasks]),
        trials=np.array(trials, dtype=np.int32),
    )


def _padded(arrays: Sequence[NDArray[Any]], kind: Any) -> NDArray[Any]:
    """Stacked, their last axes padded with zeros to the longest."""
    longest = max(array.shape[-1] for array in arrays)
    padded = [np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, longest - array.shape[-1])]) for array in arrays]
    return np.stack(padded).astype(kind)
