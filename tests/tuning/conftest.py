"""A small table of scores as a file."""

import itertools
from pathlib import Path

import numpy as np
import pytest


def write_table(path: Path, sizes=(4, 3, 5, 3), *, rows: int | None = None, seed: int = 0) -> Path:
    """A table of two additive scores, complete or with `rows` random rows."""
    codes = list(itertools.product(*map(range, sizes)))
    rng = np.random.default_rng(seed)
    effects = [rng.normal(size=size) for size in sizes]
    chosen = sorted(rng.permutation(len(codes))[:rows].tolist())
    values = {at: sum(float(effect[digit]) for effect, digit in zip(effects, codes[at], strict=True)) for at in chosen}
    lines = [f"{''.join(map(str, codes[at]))},{value:.6f},{-value:.6f}\n" for at, value in values.items()]
    path.write_text("code,acc,loss\n" + "".join(lines))
    return path


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("table") / "table.csv")
