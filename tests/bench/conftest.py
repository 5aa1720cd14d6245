"""Small tables of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ncode_search.agent.bench.tasks import Task
from ncode_search.agent.bench.trials import Run
from ncode_search.agent.score_table import ScoreTable
from ncode_search.agent.space import SearchSpace


def make_task(*sizes: int, seed: int = 0, twins: bool = False, share: float = 1.0, noise: float = 0.5) -> Task:
    """Additive scores with `noise`, no two the same.

    `twins`: a code read backwards is the same thing; `share`: how much of the space the table has.
    """
    rng = np.random.default_rng(seed)
    space = SearchSpace({f"p{at}": [str(digit) for digit in range(size)] for at, size in enumerate(sizes)})
    codes = space.core.enumerate(0, space.size)
    codes = codes[np.sort(rng.permutation(len(codes))[: round(share * len(codes))])]
    values = sum(rng.normal(size=size)[codes[:, at]] for at, size in enumerate(sizes))
    values = values + noise * rng.normal(size=len(codes))
    rows = np.arange(len(codes))
    canon = np.minimum(rows, ScoreTable(space, codes, values, values, rows).rows_of(codes[:, ::-1])) if twins else rows
    return Task("score", ScoreTable(space, codes, values[canon], 100 - values[canon], canon), reported="other")


def make_run(rows: Sequence[int], method: str = "m", seed: int = 0) -> Run:
    """A run that evaluated these rows in a second each."""
    nothing = np.zeros(len(rows), dtype=bool)
    return Run(method, seed, np.array(rows, dtype=np.intp), nothing, nothing, np.ones(len(rows)))


def write_table(folder: Path, task: Task, name: str = "table.csv") -> Path:
    """The task as a CSV with the columns score and other."""
    texts = task.table.space.to_text(task.table.codes)
    lines = [
        f"{code},{value},{other}"
        for code, value, other in zip(texts, task.table.values, task.table.report, strict=True)
    ]
    (folder / name).write_text("\n".join(["code,score,other", *lines]))
    return folder / name
