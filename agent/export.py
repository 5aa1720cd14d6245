"""Trials as text, JSON Lines and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from ncode_search.agent.history import History, Trial
from ncode_search.agent.space import SearchSpace

_INTERNAL = ("lease_seconds", "lease_boot", "lease_clock")
_FIELDS = tuple(name for name in Trial.__dataclass_fields__ if name not in _INTERNAL)
_COLUMNS = tuple(name for name in _FIELDS if name != "metrics")


def as_json(trial: Trial, space: SearchSpace) -> str:
    """One trial with its configuration, as one JSON object."""
    fields = {name: getattr(trial, name) for name in _FIELDS}
    return json.dumps({**fields, "config": space.decode(trial.code)}, ensure_ascii=False)


def json_lines(history: History, space: SearchSpace) -> Iterator[str]:
    """An object a trial."""
    return (as_json(trial, space) for trial in history.trials())


def csv_lines(history: History, space: SearchSpace) -> Iterator[str]:
    """A header and a row a trial; positions and metrics are columns of their own."""
    metrics = _metric_names(history)
    yield _csv_row([*_COLUMNS, *(f"metric.{name}" for name in metrics), *(f"config.{name}" for name in space)])
    for trial in history.trials():
        own = [getattr(trial, name) for name in _COLUMNS]
        own[_COLUMNS.index("state")] = trial.state.value
        measured = [(trial.metrics or {}).get(name) for name in metrics]
        yield _csv_row([*own, *measured, *map(cell, space.decode(trial.code).values())])


def text_lines(history: History, space: SearchSpace) -> Iterator[str]:
    """A line a trial for a person."""
    width = max(len("canonical" if space.has_twins else "code"), len(space))
    form = f"{{:>6}}  {{:<{width}}}  " + (f"{{:<{width}}}  " if space.has_twins else "{}") + "{:<8}  {:>12}  {:>8}  {}"
    canonical = "canonical" if space.has_twins else ""
    yield form.format("trial", "code", canonical, "state", "value", "seconds", "proposed by")
    for trial in history.trials():
        value = "" if trial.value is None else f"{trial.value:.6g}"
        seconds = _seconds(trial)
        error = f"  {trial.error.strip().splitlines()[-1]}" if trial.error and trial.error.strip() else ""
        canonical = trial.canonical if space.has_twins else ""
        yield form.format(
            trial.id, trial.code, canonical, trial.state.value, value, seconds, f"{trial.proposed_by}{error}"
        )


def _seconds(trial: Trial) -> str:
    """What the trial cost; of trials without a record of that, how long their last attempt took."""
    if trial.seconds is None and trial.finished_at and trial.started_at:
        return f"{trial.finished_at - trial.started_at:.1f}"
    return "" if trial.seconds is None else f"{trial.seconds:.1f}"


def _metric_names(history: History) -> list[str]:
    rows = history.db.conn.execute("SELECT DISTINCT key FROM trials, json_each(trials.metrics) ORDER BY key")
    return [row[0] for row in rows]


def _csv_row(cells: list[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(cells)
    return buffer.getvalue()


def cell(option: Any) -> Any:
    """An option as a field of a CSV."""
    return option if isinstance(option, (str, int, float)) else json.dumps(option)
