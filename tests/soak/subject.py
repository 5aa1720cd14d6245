"""The search that is hurt, and the plan of it."""

from __future__ import annotations

import itertools
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from ncode_search.agent.ranking.embedded import PACKAGED
from tests.faults.harness import FaultySearch
from tests.soak.faults import FAULTS, Fault

POSITIONS, OPTIONS = 5, 9
"""59,049 codes: more than two hours can evaluate."""
RANKER = 'model = "model.gguf"\npool = 64\nshuffles = 1\ndeadline = 3'
SPACE = "\n".join(f"p{at} = {list(range(OPTIONS))}" for at in range(POSITIONS))


@dataclass(frozen=True)
class Plan:
    """What is to be done."""

    minutes: float = 120.0
    seed: int = 1
    workers: int = 4
    sleep: tuple[float, float] = (0.3, 3.0)
    """Seconds that an evaluation takes."""
    pause: tuple[float, float] = (2.0, 8.0)
    """Seconds between two faults."""
    timeout: float = 20.0
    """Of a trial, in seconds: far more than a busy machine makes of `sleep`."""
    last: int = 40
    """Trials that are completed at the end, when nothing is done to the search any more."""
    faults: tuple[Fault, ...] = FAULTS


def make_search(plan: Plan, folder: Path, disk: Path | None) -> FaultySearch:
    """With all that it needs in `folder`, and its history on `disk`, where there is one."""
    write_table(folder / "table.csv")
    shutil.copy(PACKAGED, folder / "model.gguf")
    for name in ("orders", "temporary"):
        (folder / name).mkdir()
    environment = {
        "NCODE_TEST_SECONDS": "{} {}".format(*plan.sleep),
        "TMPDIR": str(folder / "temporary"),
    }
    return FaultySearch(
        folder, "looked_up", trials=OPTIONS**POSITIONS, workers=plan.workers, timeout=plan.timeout, seed=plan.seed,
        space=SPACE, ranker=RANKER, environment=environment, history=disk and disk / "search.db",
    )  # fmt: skip


def write_table(path: Path) -> None:
    """A score for every code of the space: hills that positions make together."""
    lines = ["code,score"]
    for code in itertools.product(range(OPTIONS), repeat=POSITIONS):
        score = sum(math.sin(2.1 * (at + 1) * option) for at, option in enumerate(code))
        score += sum(math.cos(left - right) for left, right in itertools.pairwise(code))
        lines.append(f"{''.join(map(str, code))},{score:.6f}")
    path.write_text("\n".join(lines) + "\n")
