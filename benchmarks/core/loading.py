"""The codes of a history of a million trials: out of the SQLite file, parsed, and in the set of codes that are seen."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.core.measuring import measure
from benchmarks.loop import SPACE, prefilled
from ncode_search import _core
from ncode_search.agent.history import History


def bench_loading(trials: int, repeats: int) -> None:
    """Print the seconds of each step."""
    with tempfile.TemporaryDirectory() as folder, History.read(prefilled(Path(folder) / "h.db", trials)) as history:
        text = history.codes()
        codes = SPACE.from_joined(text)
        rows = measure(
            {
                "read from SQLite": history.codes,
                "parse": lambda: SPACE.from_joined(text),
                "insert": lambda: _core.CodeSet(SPACE.core).insert(codes),
                "all of it": lambda: _core.CodeSet(SPACE.core).insert(SPACE.from_joined(history.codes())),
            },
            repeats,
        )
    print(f"\nThe codes of a history of {trials:,} trials, {len(SPACE)} positions")
    for row in rows:
        print(f"  {row.name:20} {row.seconds:.3f} s")
