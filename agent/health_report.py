"""What a person, or a monitoring program, sees of a search's health."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from ncode_search.agent.health import Health, problems
from ncode_search.agent.wording import duration, size

_SHOWN = 5
"""Reasons of failures that are shown."""


def verdict(health: Health) -> str:
    """One line: ``healthy``, or why it is not."""
    wrong = problems(health)
    return f"not healthy: {'; '.join(wrong)}" if wrong else f"healthy: {_standing(health)}"


def health_lines(health: Health) -> list[str]:
    """The numbers behind the verdict."""
    return [*_speed(health), *_failures(health), *_decisions(health), *_leases(health), *_machine(health)]


def health_json(health: Health) -> str:
    """All of it as one JSON object."""
    wrong = problems(health)
    return json.dumps({"healthy": not wrong, "problems": wrong, **asdict(health)}, ensure_ascii=False)


def _standing(health: Health) -> str:
    if health.agent:
        return "running"
    return "not running" if health.run is None else f"{health.run.how}" + _because(health)


def _because(health: Health) -> str:
    return f" ({health.run.reason})" if health.run and health.run.reason else ""


def _speed(health: Health) -> Iterator[str]:
    last = "none yet" if health.since_completion is None else f"{duration(health.since_completion)} ago"
    yield (
        f"completed last one {last}; {health.per_hour:.1f} an hour now, {health.per_hour_overall:.1f} an hour overall"
    )


def _failures(health: Health) -> Iterator[str]:
    if health.failures:
        yield f"failed    {health.recent_failed} of the last {health.recent} trials; in all:"
    shown = list(health.failures.items())[:_SHOWN]
    for reason, count in shown:
        yield f"          {count} x {reason}"
    if left := len(health.failures) - len(shown):
        yield f"          and {left} other reasons"


def _decisions(health: Health) -> Iterator[str]:
    if health.decisions:
        yield f"ranker    {health.fallbacks} of the last hour's {health.decisions} decisions fell back to evolution"


def _leases(health: Health) -> Iterator[str]:
    for one in health.running:
        lease = "no lease" if one.lease_age is None else f"lease renewed {duration(one.lease_age)} ago"
        memory = "" if one.memory is None else f", {size(one.memory)} of memory"
        yield f"worker    trial {one.trial} for {duration(one.seconds)}, {lease}{memory}"


def _machine(health: Health) -> Iterator[str]:
    memory = ""
    if health.memory_left is not None and health.memory_total is not None:
        memory = f", {size(health.memory_left)} of {size(health.memory_total)} memory"
    yield f"left      {size(health.disk_left)} of disk{memory}"
