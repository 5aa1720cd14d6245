"""``ncode tabulate``: every configuration of a space trained once, as a table of scores.

It is a search whose trials are planned: all classes of equal codes, or some of them drawn uniformly, in random order.
So it has a history, workers and attempts like any search, and goes on where it was stopped. The table is written at the
end, whole or not at all, and the same bytes for the same history.

The columns: ``code``; ``canon``, the canonical code, where codes are equal; ``config.NAME`` a position; ``value``, the
score; the metrics; ``NAME@STEP``, what was reported after every epoch; ``seconds``. A trained class has a row for each
of its codes, so that searches on the table may propose any of them, unless there are too many codes to list.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncode_search import _core
from ncode_search.agent.database import exists, translated
from ncode_search.agent.errors import InputError
from ncode_search.agent.export import cell
from ncode_search.agent.history import History, Trial
from ncode_search.agent.observations import Codes
from ncode_search.agent.run_record import DONE, EXHAUSTED
from ncode_search.agent.running import exit_code, run_search
from ncode_search.agent.search_file import SearchFile
from ncode_search.agent.settings import RankerSettings, SearchSettings
from ncode_search.agent.space import COUNTED, SearchSpace
from ncode_search.agent.states import TrialState
from ncode_search.agent.whole_files import write_atomically
from ncode_search.evaluators.table import CANON, CODE, CONFIG

LISTED_ROWS = 200_000
"""Codes of the largest space of which equal codes have rows of their own."""

_AT_ONCE = 1 << 16
_DRAWS = 64
"""Batches of draws that may find no new class before a sample is given up."""

Row = dict[str, Any]


def tabulate_file(file: SearchFile, output: Path, sample: int | None, *, quiet: bool) -> int:
    """Train what is planned, go on if it was stopped, and write the table. Returns the exit code.

    Raises `NcodeError` for what stands in its way.
    """
    plan = planned(file.space, sample, file.settings.seed)
    others = _looked_into(file, plan)
    ranker = RankerSettings(kind="random", pool=1, startup=0)
    to_the_end = dataclasses.replace(file, settings=_to_the_end(file.settings, len(plan) + others), ranker=ranker)
    outcome = run_search(to_the_end, quiet=quiet, plan=plan)
    if outcome.how not in (DONE, EXHAUSTED) or outcome.best is None:
        print(f"{outcome.completed - others} of {len(plan)} configurations are trained; {output} is not written yet.")
        return exit_code(outcome) or 1
    # Not read-only: the last one to close the file removes its write-ahead log, if it may write.
    with History.attach(file.history) as history:
        rows = table_rows(history, plan)
    write_table(output, rows)
    print(f"{output}: {_said(len(plan), outcome.completed - others, rows)}")
    return 0


def _to_the_end(settings: SearchSettings, trials: int) -> SearchSettings:
    """Nothing ends the run before all is trained, but what fails from the first trial on."""
    return dataclasses.replace(
        settings.without_stop(), trials=trials, prune_after=None, patience=None, failure_limit=1.0
    )


def _looked_into(file: SearchFile, plan: Codes) -> int:
    """How many trials that the history has already are not of the plan, such as those of a search.

    Raises `InputError` where they were trained with another seed: a table is of one.
    """
    if not exists(file.history):
        return 0
    with translated(file.history), History.read(file.history) as history:
        trained = [trial.canonical for trial in history.trials(TrialState.COMPLETE)]
        seeds = {start["settings"]["search"]["seed"] for start in history.starts()} - {file.settings.seed}
    if trained and seeds:
        raise InputError(
            f"{file.history}: its configurations were trained with seed {min(seeds)}, not {file.settings.seed}; "
            f"give that one as --seed, or another --history"
        )
    return len(set(trained) - set(file.space.to_text(plan)))


def planned(space: SearchSpace, sample: int | None, seed: int) -> Codes:
    """The canonical codes to train, shape ``(n, L)``, in random order: a smaller sample begins a larger one.

    Every class of equal codes is as likely, however many codes it has.

    Raises `InputError` where the space is too large to be tabulated as a whole, or the sample is no number.
    """
    if sample is not None and sample < 1:
        raise InputError(f"--sample is {sample}; allowed: whole numbers from 1")
    rng = np.random.default_rng(seed)
    if space.feasible <= COUNTED:
        codes = np.concatenate([_canonical_only(space, part) for part in _listed(space)])
        shuffled: Codes = codes[rng.permutation(len(codes))]
        return shuffled[:sample]
    if sample is None:
        raise InputError(f"the space has {space.feasible:,} codes; say with --sample how many of them to train")
    return _drawn(space, sample, rng)


def _listed(space: SearchSpace) -> Iterator[Codes]:
    """All feasible codes, but one of those that differ only in what does not matter."""
    return (space.draws.enumerate(start, _AT_ONCE) for start in range(0, space.feasible, _AT_ONCE))


def _canonical_only(space: SearchSpace, codes: Codes) -> Codes:
    kept: Codes = codes[(space.canonical(codes) == codes).all(axis=1)]
    return kept


def _drawn(space: SearchSpace, count: int, rng: np.random.Generator) -> Codes:
    """Of a space too large to be listed. Draws that are no canonical codes are dropped, or large classes would come up
    more often.
    """
    drawn = _core.CodeSet(space.core)
    parts: list[Codes] = []
    in_vain = 0
    while len(drawn) < count and in_vain < _DRAWS:
        codes = _canonical_only(space, space.draws.random(_AT_ONCE, int(rng.integers(1 << 63))))
        parts.append(codes[drawn.insert(codes)])
        in_vain = 0 if len(parts[-1]) else in_vain + 1
    enough: Codes = np.concatenate(parts)[:count]
    return enough


def table_rows(history: History, plan: Codes) -> list[Row]:
    """A row for every code of each planned class that completed, equal codes next to each other."""
    space = history.space()
    trained = {trial.canonical: trial for trial in history.trials(TrialState.COMPLETE)}
    wanted = [code for code in sorted(space.to_text(plan)) if code in trained]
    curves = _curves(history)
    equal = _equal_codes(space, wanted)
    return [
        _row(space, code, trained[canonical], curves.get(trained[canonical].id, {}))
        for canonical in wanted
        for code in equal[canonical]
    ]


def write_table(output: Path, rows: list[Row]) -> None:
    """All columns that any row has, in the order of their first appearance; gzip where the name ends so."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    text = buffer.getvalue().encode()
    write_atomically(output, gzip.compress(text, mtime=0) if output.suffix == ".gz" else text)


def check_output(output: Path) -> None:
    """Refuse, before anything is trained, a table that could not be written. Raises `InputError`."""
    if not output.parent.is_dir():
        raise InputError(f"{output}: there is no folder {output.parent}; make it first")
    if output.is_dir() or not output.name.endswith((".csv", ".csv.gz")):
        raise InputError(f"{output}: a table is a file; give it a name that ends in .csv or .csv.gz")


def history_of(output: Path) -> Path:
    """Where the trials of a table are kept while it is made."""
    return output.with_name(output.name.removesuffix(".gz").removesuffix(".csv") + ".db")


def _equal_codes(space: SearchSpace, wanted: list[str]) -> dict[str, list[str]]:
    """Canonical code to all codes of its class."""
    if not space.has_twins or space.size > LISTED_ROWS:
        return {code: [code] for code in wanted}
    codes = space.core.enumerate(0, space.size)
    equal: dict[str, list[str]] = {code: [] for code in wanted}
    for code, canonical in zip(space.to_text(codes), space.to_text(space.canonical(codes)), strict=True):
        if canonical in equal:
            equal[canonical].append(code)
    return equal


def _row(space: SearchSpace, code: str, trial: Trial, curve: Mapping[str, float]) -> Row:
    canon = {CANON: trial.canonical} if space.has_twins else {}
    config = {f"{CONFIG}{name}": cell(option) for name, option in space.decode(code).items()}
    row: Row = {CODE: code, **canon, **config, "value": trial.value}
    for name, number in {**(trial.metrics or {}), **curve, "seconds": trial.seconds}.items():
        row[f"metric.{name}" if name in row else name] = number
    return row


def _curves(history: History) -> dict[int, dict[str, float]]:
    """Trial to what it reported after its epochs, of each epoch the newest report."""
    curves: dict[int, dict[str, float]] = {}
    for trial, step, text in history.db.conn.execute("SELECT trial, step, metrics FROM epochs ORDER BY step, attempt"):
        named = {f"{name}@{step}": number for name, number in json.loads(text).items()}
        curves.setdefault(trial, {}).update(named)
    return curves


def _columns(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _said(planned: int, completed: int, rows: list[Row]) -> str:
    failed = f", {planned - completed} of {planned} failed and are left out" if completed < planned else ""
    return f"{completed} configurations in {len(rows)} rows, {len(_columns(rows))} columns{failed}"
