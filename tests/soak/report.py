"""What a soak prints."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sqlite3
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.soak.samples import Sample, opened
from tests.soak.soak import FAULTY, JUMPING, Soak
from tests.soak.subject import OPTIONS, POSITIONS

SLICES = 12
"""Of the time, but none shorter than half a minute."""
DECISIONS = """
SELECT trial, ranker, fallback, coalesce(reason, ''), decisions.seconds, proposed_by
FROM decisions JOIN trials ON trials.id = trial
"""


@dataclass(frozen=True)
class Decision:
    """As the history has it."""

    trial: int
    ranker: str
    fell_back: int
    reason: str
    seconds: float
    proposed_by: str


def report(soak: Soak, *, is_done: bool) -> str:
    """Of a soak that is done, or as far as it is."""
    with contextlib.closing(opened(soak.search.history)) as db:
        states = Counter(dict(db.execute("SELECT state, count(*) FROM trials GROUP BY state").fetchall()))
        (attempts,) = db.execute("SELECT coalesce(sum(attempt), 0) FROM trials").fetchone()
        decisions = [Decision(*row) for row in db.execute(DECISIONS)]
    asked = [decision for decision in decisions if decision.proposed_by != "startup"]
    return "\n".join([
        *_head(soak), *_trials(soak, states, attempts), *_decided(asked), "", *_faults(soak), "",
        *_slices(soak, asked), "", *_invariants(soak, is_done=is_done),
    ])  # fmt: skip


def _head(soak: Soak) -> Iterator[str]:
    plan = soak.plan
    minutes = soak.samples.taken[-1].at / 60 if soak.samples.taken else 0.0
    load = f"{os.cpu_count()} cores with a load of {os.getloadavg()[2]:.1f}"
    yield f"soak        {minutes:.1f} of {plan.minutes:g} minutes, seed {plan.seed}; {load}"
    system = f"{platform.system()} {platform.release()}"
    yield f"versions    Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {system}"
    yield (
        f"search      {OPTIONS**POSITIONS:,} codes of a table, {plan.workers} workers, evaluations of "
        f"{plan.sleep[0]:g} to {plan.sleep[1]:g} s, the packaged model through llama.cpp"
    )


def _trials(soak: Soak, states: Counter[str], attempts: int) -> Iterator[str]:
    counts = f"{states['complete']:,} complete, {states['failed']:,} failed, {attempts:,} attempts"
    yield f"trials      {counts}; {soak.agents:,} agents one after another"


def _decided(asked: Sequence[Decision]) -> Iterator[str]:
    by = Counter("evolution, as a fallback" if decision.fell_back else decision.ranker for decision in asked)
    listed = "; ".join(f"{count:,} by {ranker}" for ranker, count in by.most_common())
    yield f"decisions   {len(asked):,}: {listed}"
    reasons = Counter(_kind(decision.reason) for decision in asked if decision.fell_back)
    for at, (reason, count) in enumerate(reasons.most_common()):
        yield f"{'' if at else 'fallbacks':<12}{count:>5,}  {reason}"


def _kind(reason: str) -> str:
    """A reason without what differs from time to time."""
    kind = re.sub(r"http://[\w.:/]+", "URL", reason)
    kind = re.sub(r"spared after \d+ failures in a row.*", "spared after failures in a row", kind)
    return kind if len(kind) <= 90 else kind[:87] + "..."


def _faults(soak: Soak) -> Iterator[str]:
    yield f"{'fault':<54}{'times':>6}   s to the next completed trial: median, longest"
    for name in [*(fault.name for fault in soak.plan.faults), FAULTY, JUMPING]:
        waits = soak.waits[name]
        figures = f"{statistics.median(waits):>10.1f}{max(waits):>8.1f}" if waits else ""
        yield f"{name:<54}{soak.struck[name]:>6}{figures}".rstrip()
    yield f"{'all':<54}{soak.struck.total():>6}"
    if not soak.has_small_disk:
        yield "no disk was filled: only root may mount a small file system here"
    for (what, code), count in soak.refusals.most_common():
        yield f"{count:,} x an agent was started meanwhile, exited with {code}, and was started again: {what}"


def _slices(soak: Soak, asked: Sequence[Decision]) -> Iterator[str]:
    yield "             trials            decisions, fell    the model's, in ms     agent's memory, MB  its age,"
    yield "  minutes  complete   faults    made   back   median   95%  longest     median  largest         s"
    samples = soak.samples.taken
    length = max(samples[-1].at / SLICES, 30.0) if samples else 30.0
    first = Sample(0, 0, 0, 0, 0, 0)
    for at in range(SLICES):
        inside = [sample for sample in samples if at * length <= sample.at < (at + 1) * length + 1e-9]
        if inside:
            yield _slice(first, inside, asked)
            first = inside[-1]


def _slice(first: Sample, inside: Sequence[Sample], asked: Sequence[Decision]) -> str:
    last = inside[-1]
    made = [decision for decision in asked if first.proposed < decision.trial <= last.proposed]
    model = sorted(1000 * it.seconds for it in made if it.ranker == "embedded" and not it.fell_back)
    sizes = [sample.agent_bytes / 1e6 for sample in inside if sample.agent_bytes]
    latency = memory = " " * 24
    if model:
        latency = f"{statistics.median(model):>9.0f}{model[int(0.95 * len(model))]:>6.0f}{model[-1]:>9.0f}"
    if sizes:
        memory = f"{statistics.median(sizes):>11.0f}{max(sizes):>9.0f}    "
    counts = f"{last.complete - first.complete:>10,}{last.faults - first.faults:>9,}"
    fell_back, oldest = sum(decision.fell_back for decision in made), max(sample.agent_age for sample in inside)
    begin_end = f"{first.at / 60:>5.1f}-{last.at / 60:>5.1f}"
    return f"{begin_end}{counts}{len(made):>8,}{fell_back:>7,}{latency}{memory}{oldest:>7.0f}"


def _invariants(soak: Soak, *, is_done: bool) -> Iterator[str]:
    if not is_done:
        yield "it goes on, and has not been judged"
    elif soak.problems:
        yield "violated:"
        yield from (f"  {problem}" for problem in soak.problems)
    else:
        more = f"{soak.plan.last} trials later"
        yield f"{more}, by a program that only reads the SQLite file and the evaluators' own log:"
        yield "  every completed evaluation is recorded exactly once, with its value"
        yield "  no code was evaluated twice to completion"
        yield "  no trial is left running, and none made a move that it may not"
        yield "  the search went on to its target; no agent ended by itself; no process is left behind"
        yield "all invariants hold"
