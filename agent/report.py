"""What a person sees of a search: live while it runs on a terminal, a plain log elsewhere, and its end in words."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ncode_search.agent.history import History, Narrowing, Objective, Trial
from ncode_search.agent.observer import Observer
from ncode_search.agent.outcome import Outcome
from ncode_search.agent.space import SearchSpace
from ncode_search.agent.states import TrialState

FORECASTS = 32
"""Newest forecasts whose errors `status` shows."""
_SHOWN = 3
"""Reasons of failures that are shown where no trial completed."""


@dataclass
class _Running:
    """A trial under way."""

    code: str
    worker: int
    since: float
    progress: str = "starting"


class Progress(Observer):
    """Counts what happens, shows it on `console`, live where that is a terminal."""

    def __init__(self, console: Console, objective: Objective, trials: int, *, quiet: bool = False) -> None:
        self._console = console
        self._objective = objective
        self._target = trials
        self._quiet = quiet
        self._running: dict[int, _Running] = {}
        self._completed = 0
        self._completed_here = 0
        self._best: Trial | None = None
        self._began = time.monotonic()
        self._plain = quiet or not console.is_terminal
        self._is_open = False

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the progress until the end of the block."""
        if self._plain:
            yield
            return
        with Live(self, console=self._console, refresh_per_second=4, transient=True):
            yield

    # Being told

    def opened(self, completed: int, best: Trial | None) -> None:
        """See `Observer`."""
        self._completed, self._best = completed, best
        self._is_open = True

    def started(self, trial: int, text: str, worker: int) -> None:
        """See `Observer`."""
        if not self._completed_here and not self._running:
            self._began = time.monotonic()
        self._running[trial] = _Running(text, worker, time.monotonic())

    def reported(self, trial: int, step: int, metrics: Mapping[str, float]) -> None:
        """See `Observer`."""
        if running := self._running.get(trial):
            numbers = "  ".join(f"{name} {_number(value)}" for name, value in metrics.items())
            running.progress = f"epoch {step}  {numbers}"

    def finished(self, trial: Trial) -> None:
        """See `Observer`."""
        self._running.pop(trial.id, None)
        if trial.state is TrialState.COMPLETE:
            self._completed += 1
            self._completed_here += 1
            if self._best is None or self._is_better(trial, self._best):
                self._best = trial
        if self._plain and not self._quiet:
            self._console.print(self._line(trial), markup=False, highlight=False, soft_wrap=True)

    def _is_better(self, trial: Trial, best: Trial) -> bool:
        assert trial.value is not None
        assert best.value is not None
        return self._objective.sign * trial.value > self._objective.sign * best.value

    # Showing

    def _line(self, trial: Trial) -> str:
        seconds = (trial.finished_at or time.time()) - (trial.started_at or time.time())
        end = f"{_number(trial.value)}" if trial.value is not None else _short_error(trial)
        best = f"best {_number(self._best.value)} ({self._best.code})" if self._best else "no best yet"
        return (
            f"[{self._completed}/{self._target}] trial {trial.id} {trial.code} {trial.state.value} {end}, "
            f"{seconds:.1f} s, by {trial.proposed_by}; {best}; {self._rate()}"
        )

    def _rate(self) -> str:
        minutes = (time.monotonic() - self._began) / 60
        if not self._completed_here:
            return "no trial of this run done yet" if self._is_open else "starting the workers and the ranker"
        rate = self._completed_here / minutes
        left = (self._target - self._completed) / rate
        return f"{rate:.1f} trials/min, {_minutes(left)} left"

    def __rich__(self) -> RenderableType:
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(f"{self._completed}/{self._target} trials"),
            ProgressBar(total=self._target, completed=self._completed, width=30),
            Text(self._rate()),
        )
        best = f"best {_number(self._best.value)}  code {self._best.code}  trial {self._best.id}" if self._best else ""
        rows = Table.grid(padding=(0, 2))
        for number, running in sorted(self._running.items()):
            elapsed = f"{time.monotonic() - running.since:.0f} s"
            rows.add_row(f"  worker {running.worker}", f"trial {number}", running.code, running.progress, elapsed)
        return Group(head, Text(best), rows)


def summary(history: History, outcome: Outcome, space: SearchSpace) -> str:
    """How a run ended, and the best configuration in words."""
    lines = [_ending(outcome, space)]
    if outcome.best is not None:
        lines += ["", *best_lines(outcome.best, space)]
    elif not outcome.paused:  # which has said why
        lines += [f"  {count} failed: {error}" for error, count in [*history.failures().items()][:_SHOWN]]
    fallbacks = fallback_lines(history)
    return "\n".join([*lines, *fallbacks])


def _ending(outcome: Outcome, space: SearchSpace) -> str:
    if outcome.interrupted:
        return f"Stopped at once with {outcome.completed} trials completed; those under way start again next time."
    if outcome.paused:
        return f"Paused with {outcome.completed} trials completed: {outcome.paused}; the same command goes on."
    if outcome.stopped:
        return f"Stopped with {outcome.completed} trials completed; the same command goes on."
    if outcome.stagnant:
        return f"Done: {outcome.completed} trials completed, the last of them without a new best for long enough."
    if outcome.exhausted:
        return f"The space is exhausted: {space.size_text}; all were tried, {outcome.completed} of them completed."
    if outcome.nothing_new:
        return (
            f"No new code was found: {space.size_text}, too many to be listed, but few that differ; "
            f"{outcome.completed} trials completed."
        )
    return f"Done: {outcome.completed} trials completed."


def best_lines(best: Trial, space: SearchSpace) -> list[str]:
    """The best trial: its value, its configuration a position a line, its metrics."""
    config = space.decode(best.code)
    width = max(map(len, config))
    lines = [f"Best: {_number(best.value)} (trial {best.id}, code {best.code})"]
    lines += [f"  {name:<{width}}  {option_text(option)}" for name, option in config.items()]
    if best.metrics:
        lines.append("  " + ", ".join(f"{name} {_number(value)}" for name, value in best.metrics.items()))
    return lines


def fallback_lines(history: History) -> list[str]:
    """How often another ranker had to decide, and why; empty where it never had."""
    rows = history.db.conn.execute(
        "SELECT reason, count(*) FROM decisions WHERE fallback GROUP BY reason ORDER BY 2 DESC"
    ).fetchall()
    return [f"{count} decisions by evolution instead of the ranker: {reason}" for reason, count in rows]


def trust_lines(history: History) -> list[str]:
    """How far the ranker is trusted, and how well it and its yardsticks predicted of late; empty where it predicts no
    values.
    """
    rows = history.db.conn.execute(
        "SELECT predicted, trust, value FROM decisions JOIN trials ON trials.id = decisions.trial "
        "WHERE predicted IS NOT NULL AND value IS NOT NULL ORDER BY trial DESC LIMIT ?",
        [FORECASTS],
    ).fetchall()
    if not rows:
        return []
    trust: dict[str, float] = json.loads(rows[0][1])
    errors = [{name: abs(one - value) for name, one in json.loads(text).items()} for text, _, value in rows]
    said = ", ".join(
        f"{name} {share:.0%} (off by {_number(median(error[name] for error in errors))})"
        for name, share in trust.items()
    )
    return [f"{said}; errors are medians of the last {len(rows)} forecasts"]


def status_lines(history: History, owner: str | None) -> list[str]:
    """A search at a glance."""
    counts = history.counts()
    space, objective = history.space(), history.objective()
    settings = history.meta().get("settings", {})
    lines = [
        f"history   {history.path}",
        f"search    {'running, ' + owner if owner else 'not running'}",
        f"space     {len(space)} positions, {space.size_text}",
        f"objective {objective.goal}" + (f", {json.dumps(objective.evaluator)}" if objective.evaluator else ""),
        "trials    " + ", ".join(f"{counts[state]} {state.value}" for state in TrialState)
        + (f"; {settings['trials']} to complete" if "trials" in settings else ""),
    ]  # fmt: skip
    for trial in history.trials(TrialState.RUNNING):
        lines.append(f"running   trial {trial.id}  {trial.code}  on {trial.device}{_last_epoch(history, trial)}")
    lines += [f"kept      {_kept_text(space, one)}" for one in history.narrowings()]
    lines += [f"trust     {line}" for line in trust_lines(history)]
    lines += [f"fallback  {line}" for line in fallback_lines(history)]
    if best := history.best():
        lines.append(f"best      {_number(best.value)}  trial {best.id}  {best.code}")
    return lines


def _kept_text(space: SearchSpace, narrowing: Narrowing) -> str:
    """What a search kept to, where that is less than all."""
    kept = "; ".join(
        f"{name} {', '.join(map(option_text, options))}"
        for name, options in narrowing.kept.items()
        if len(options) < len(space.positions[name])
    )
    setting = f"prune_after = {narrowing.after}, keep = {narrowing.keep}"
    return f"from trial {narrowing.trial} on ({setting}): {kept or 'all options, as the best ones fit no bound'}"


def _last_epoch(history: History, trial: Trial) -> str:
    row = history.db.conn.execute(
        "SELECT step, metrics FROM epochs WHERE trial = ? AND attempt = ? ORDER BY step DESC LIMIT 1",
        [trial.id, trial.attempt],
    ).fetchone()
    return f"  epoch {row[0]}  {row[1]}" if row else ""


def _short_error(trial: Trial) -> str:
    lines = (trial.error or "").strip().splitlines()
    return f"({lines[-1]})" if lines else ""


def _number(value: Any) -> str:
    """Whole numbers whole, others to four digits."""
    return f"{value:.0f}" if float(value).is_integer() and abs(value) >= 10 else f"{value:.4g}"


def option_text(option: Any) -> str:
    """An option as people write it."""
    return option if isinstance(option, str) else json.dumps(option)


def _minutes(minutes: float) -> str:
    seconds = round(minutes * 60)
    if seconds >= 3600:
        return f"{seconds // 3600}:{seconds % 3600 // 60:02}:{seconds % 60:02} h"
    return f"{seconds // 60}:{seconds % 60:02} min"
