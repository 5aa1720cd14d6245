"""Comparisons as text for people and as JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncode_search.agent.bench.plot import draw
from ncode_search.agent.bench.statistics import Comparison, Difference, Standing, Summary
from ncode_search.agent.bench.trials import BenchSettings
from ncode_search.agent.whole_files import write_atomically


def as_text(comparisons: Sequence[Comparison], settings: BenchSettings) -> str:
    """A block of tables a task."""
    return "\n\n".join("\n".join(_task_lines(comparison, settings)) for comparison in comparisons)


def as_json(comparisons: Sequence[Comparison], settings: BenchSettings) -> str:
    """Everything that the text says, the values of each run, and the paired differences of all methods."""
    from ncode_search import __version__

    document = {
        "version": __version__,
        "trials": settings.trials,
        "pool": settings.pool,
        "startup": settings.startup,
        "tasks": [_task_document(comparison) for comparison in comparisons],
    }
    return json.dumps(finite(document), ensure_ascii=False, indent=1) + "\n"


def write(
    comparisons: Sequence[Comparison], settings: BenchSettings, json_path: Path | None, drawing: Path | None
) -> None:
    """All figures, and a drawing of them, where they are asked for. Raises `InputError` where that cannot be."""
    if json_path:
        write_atomically(json_path, as_json(comparisons, settings).encode())
    if drawing:
        write_atomically(drawing, draw(comparisons, drawing.suffix.lstrip(".").lower()))


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines with aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip()


def number(value: float, digits: int = 6) -> str:
    """A few digits that count; a dash for what is none."""
    return "-" if math.isnan(value) else f"{value:.{digits}g}"


def interval(difference: Difference) -> str:
    """The mean and the ends of the interval."""
    return f"{difference.mean:+.3g} [{difference.low:+.3g}, {difference.high:+.3g}]"


def _task_lines(comparison: Comparison, settings: BenchSettings) -> Iterator[str]:
    task, first = comparison.task, comparison.summaries[0].method
    goal = "lower" if task.minimize else "higher"
    yield (
        f"{task.name} ({goal} is better): {len(task.table):,} of {task.table.space.size:,} codes, "
        f"optimum {number(task.sign * task.optimum)}; {comparison.seeds} seeds, pools of {settings.pool}"
    )
    for place, budget in enumerate(comparison.budgets):
        yield f"\nbest after {budget} trials"
        yield from columns([_heading(comparison, first), *_standing_rows(comparison, place)])
    yield f"\nwhole runs of {settings.trials} trials"
    yield from columns([_SUMMARY_HEADING, *(_summary_row(summary, settings) for summary in comparison.summaries)])
    yield (
        f"\n* best by the mean, or level with it; behind {first}: mean of paired differences with its 95% t interval, "
        f"above 0 where {first} is better"
    )


def _heading(comparison: Comparison, first: str) -> list[str]:
    reported = [comparison.task.reported or "", "sd"] if comparison.task.reported else []
    return ["method", "mean", "sd", "rank", "", *reported, f"behind {first}"]


def _standing_rows(comparison: Comparison, place: int) -> Iterator[list[str]]:
    for at, summary in enumerate(comparison.summaries):
        one = summary.standings[place]
        reported = [number(one.reported), number(one.reported_deviation, 3)] if comparison.task.reported else []
        star = "*" if one.is_level else ""
        yield [
            summary.method,
            number(one.mean),
            number(one.deviation, 3),
            f"{one.rank:.2f}",
            star,
            *reported,
            interval(one.behind) if at else "",
        ]


_SUMMARY_HEADING = [
    "method",
    "optimum found",
    "median trial",
    "repeats",
    "repeats with twins",
    "failed",
    "fallbacks",
    "ms a decision",
]


def _summary_row(summary: Summary, settings: BenchSettings) -> list[str]:
    optimum = number(summary.trials_to_optimum) if math.isfinite(summary.trials_to_optimum) else f">{settings.trials}"
    shares = [summary.repeats, summary.twins, summary.failed, summary.fallbacks]
    return [
        summary.method,
        f"{summary.found:.0%}",
        optimum,
        *(f"{share:.1%}" for share in shares),
        number(1000 * summary.seconds, 3),
    ]


def _task_document(comparison: Comparison) -> dict[str, Any]:
    task = comparison.task
    return {
        "metric": task.name,
        "minimize": task.minimize,
        "reported": task.reported or task.name,
        "codes": len(task.table),
        "space": task.table.space.size,
        "optimum": task.sign * task.optimum,
        "seeds": comparison.seeds,
        "methods": [_summary_document(comparison, summary) for summary in comparison.summaries],
        "pairs": list(_pair_documents(comparison)),
    }


def _summary_document(comparison: Comparison, summary: Summary) -> dict[str, Any]:
    document = dict(vars(summary))
    document["standings"] = [_standing_document(one) for one in summary.standings]
    curves = comparison.task.sign * comparison.best[summary.method]
    document["runs"] = {str(budget): np.round(curves[:, budget - 1], 10).tolist() for budget in comparison.budgets}
    document["curve"] = np.round(curves.mean(axis=0), 10).tolist()
    return document


def _standing_document(standing: Standing) -> dict[str, Any]:
    return {**vars(standing), "behind": vars(standing.behind)}


def _pair_documents(comparison: Comparison) -> Iterator[dict[str, Any]]:
    methods = [summary.method for summary in comparison.summaries]
    for budget in comparison.budgets:
        for method in methods:
            for other in methods:
                if method != other:
                    behind = vars(comparison.behind(method, other, budget))
                    yield {"budget": budget, "method": method, "other": other, "behind": behind}


def finite(value: Any) -> Any:
    """JSON has no infinities: null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
