"""Whether a search is healthy: what `ncode status` and its ``--check`` look at, read from the history and the system.

`examine` gathers the numbers, `problems` judges them by `LIMITS`, the one place where all thresholds are. Nothing here
writes, and nothing needs the agent: a search that hangs or is dead is examined like one that runs.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncode_search.agent import agent_lock, run_record
from ncode_search.agent.history import History, Trial
from ncode_search.agent.leases import CALLER, LEASE, seconds_left
from ncode_search.agent.processes import ProcessId
from ncode_search.agent.run_record import RunRecord
from ncode_search.agent.states import TrialState
from ncode_search.agent.wording import duration, size

HOUR = 3600.0


@dataclass(frozen=True)
class Limits:
    """Where a search stops being healthy. Times in seconds, memory and disk in bytes."""

    quiet: float = 1800.0
    """Without any trial finishing; at least, see `quiet_trials`."""
    quiet_trials: float = 3.0
    """The same in lengths of the longest of the recent trials: slow trials are no silence."""
    first: float = 12 * HOUR
    """For a living trial where none has shown yet how long one takes, unless the search has a `timeout`."""
    silent: float = 180.0
    """Without a sign of life of the agent, which gives one every 30 seconds."""
    recent: int = 20
    """Finished trials that are recent."""
    failure_rate: float = 0.5
    """Share of the recent trials that failed."""
    fallback_rate: float = 0.5
    """Share of the last hour's decisions that another ranker had to make."""
    fewest: int = 10
    """Trials or decisions below which a share says nothing."""
    lease_overdue: float = LEASE
    """Past the end of a running trial's lease."""
    disk: int = 1_000_000_000
    """Left for the history."""
    memory: float = 0.05
    """Share of the machine's memory that is available."""


LIMITS = Limits()


@dataclass(frozen=True)
class RunningTrial:
    """A trial under way."""

    trial: int
    code: str
    device: str | None
    seconds: float
    """Since its attempt began."""
    lease_age: float | None
    """Seconds since its worker last renewed its lease."""
    lease_left: float | None
    """Seconds; below zero: it ran out."""
    memory: int | None
    """Bytes of its worker and all that it started; None: not on this machine, or gone."""
    is_alive: bool | None = None
    """Whether its process is; None: not on this machine."""


@dataclass(frozen=True)
class Health:
    """A search at one moment. Ages in seconds, memory and disk in bytes."""

    agent: str | None
    """The living agent; None: no process works on it."""
    run: RunRecord | None
    run_age: float | None
    """Since the latest run began."""
    completed: int
    target: int | None
    since_completion: float | None
    since_finish: float | None
    """Since any trial finished, also one that failed."""
    longest: float
    """Seconds of the longest recent trial that did not fail; 0: there is none."""
    per_hour: float
    """Completed trials an hour, over the last hour, or over the run where that is shorter."""
    per_hour_overall: float
    failures: dict[str, int]
    """Failed trials by the last line of their error, the most frequent first."""
    recent: int
    recent_failed: int
    decisions: int
    """In the last hour."""
    fallbacks: int
    """In the last hour."""
    running: list[RunningTrial]
    disk_left: int
    memory_total: int | None
    memory_left: int | None
    since_report: float | None = None
    """Since a running trial reported an epoch."""
    timeout: float | None = None
    """Seconds that a trial may take."""
    silence: float | None = None
    """Since the agent gave a sign of life; None: it gives none, as under ask and tell."""


def examine(history: History, now: float | None = None) -> Health:
    """Everything that tells how the search is."""
    now = time.time() if now is None else now
    meta = history.meta()
    owner, run = agent_lock.owner(history), run_record.latest(meta)
    completed, first, last = _row(
        history, "SELECT count(*), min(created_at), max(finished_at) FROM trials WHERE state = 'complete'"
    )
    (finish,) = _row(history, "SELECT max(finished_at) FROM trials")
    (report,) = _row(history, _LAST_REPORT)
    recent, settings = _recent(history), meta.get("settings", {})
    decisions, fallbacks = _decisions(history, now - HOUR)
    total, left = _memory()
    return Health(
        agent=f"process {owner.pid} on {owner.host}" if owner else None,
        run=run,
        run_age=_age(now, run.began if run else None),
        completed=completed,
        target=settings.get("trials"),
        since_completion=_age(now, last),
        since_finish=_age(now, finish),
        longest=max((seconds for state, seconds in recent if state != TrialState.FAILED.value), default=0.0),
        per_hour=_rate_now(history, run, now),
        per_hour_overall=0.0 if first is None else completed / max(last - first, 1.0) * HOUR,
        failures=history.failures(),
        recent=len(recent),
        recent_failed=sum(state == TrialState.FAILED.value for state, _ in recent),
        decisions=decisions,
        fallbacks=fallbacks,
        running=[_running(trial, now) for trial in history.trials(TrialState.RUNNING)],
        disk_left=shutil.disk_usage(history.path.absolute().parent).free,
        memory_total=total,
        memory_left=left,
        since_report=_age(now, report),
        timeout=settings.get("timeout"),
        silence=agent_lock.silence(history) if owner else None,
    )


def problems(health: Health, limits: Limits = LIMITS) -> list[str]:
    """Why the search is not healthy, in words; empty where it is."""
    if health.agent is None:
        return [*_when_not_running(health), *_abandoned(health, limits)]
    return list(_when_running(health, limits))


def _when_not_running(health: Health) -> Iterator[str]:
    run = health.run
    if run is None or (run.how in run_record.GOOD_ENDS and health.completed):
        return  # ask and tell between two calls, or a search with nothing left to do
    missing = f"with {health.completed} of {health.target} trials completed"
    if run.how is None:
        yield f"its agent died {missing}; start it again with `ncode run`"
    else:
        reason = run.reason or (next(iter(health.failures), None) if run.how in run_record.GOOD_ENDS else None)
        yield f"{run.how} {missing}" + (f": {reason}" if reason else "")


def _abandoned(health: Health, limits: Limits) -> Iterator[str]:
    """Trials that were asked for by processes that are gone; where an agent died, its own are waited for or redone."""
    for one in health.running:
        if one.device == CALLER and one.lease_left is None and one.is_alive is False:
            yield f"trial {one.trial} is nobody's: the process that asked for it is gone"
        elif one.device == CALLER and _is_overdue(one, limits):
            yield f"trial {one.trial} is nobody's: its lease ran out {duration(-(one.lease_left or 0.0))} ago"


def _is_overdue(one: RunningTrial, limits: Limits) -> bool:
    return one.lease_left is not None and one.lease_left < -limits.lease_overdue


def _quiet(health: Health, limits: Limits) -> float | None:
    """Seconds since a trial finished, where that is too long, and no epoch shows that one goes on."""
    if health.run_age is None:
        return None  # under ask and tell nobody knows how long a trial may take
    quiet = min(health.run_age, math.inf if health.since_finish is None else health.since_finish)
    shown = min(quiet, math.inf if health.since_report is None else health.since_report)
    if shown <= max(limits.quiet, limits.quiet_trials * health.longest) or _may_be_slow(health, limits):
        return None
    return quiet


def _may_be_slow(health: Health, limits: Limits) -> bool:
    """Whether nothing is known of how long a trial takes, and one that is alive may still take it."""
    most = limits.first if health.timeout is None else health.timeout + limits.lease_overdue
    return not health.longest and any(
        one.is_alive is not False and not _is_overdue(one, limits) and one.seconds < most for one in health.running
    )


def _when_running(health: Health, limits: Limits) -> Iterator[str]:
    if health.silence is not None and health.silence > limits.silent:
        yield f"its agent has given no sign of life for {duration(health.silence)}; see whether it is stopped, or hangs"
    if (quiet := _quiet(health, limits)) is not None:
        yield f"no trial has finished for {duration(quiet)}"
    if health.recent >= limits.fewest and health.recent_failed > limits.failure_rate * health.recent:
        yield f"{health.recent_failed} of the last {health.recent} trials failed"
    if health.decisions >= limits.fewest and health.fallbacks > limits.fallback_rate * health.decisions:
        yield f"the ranker failed in {health.fallbacks} of the last hour's {health.decisions} decisions"
    for one in health.running:
        if one.device != CALLER and _is_overdue(one, limits):
            yield f"the lease of trial {one.trial} ran out {duration(-(one.lease_left or 0.0))} ago"
    if health.disk_left < limits.disk:
        yield f"{size(health.disk_left)} left on the disk"
    if health.memory_total and (health.memory_left or 0) < limits.memory * health.memory_total:
        yield f"{size(health.memory_left or 0)} of memory left"


_LAST_REPORT = (
    "SELECT max(reported_at) FROM epochs WHERE trial IN (SELECT id FROM trials WHERE state = 'running')"  # by its key
)


def _row(history: History, query: str, *parameters: object) -> Any:
    return history.db.conn.execute(query, parameters).fetchone()


def _recent(history: History) -> list[tuple[str, float]]:
    """State and seconds of the trials that finished last."""
    return history.db.conn.execute(
        "SELECT state, max(finished_at - coalesce(started_at, finished_at), 0) FROM trials "
        "WHERE finished_at IS NOT NULL ORDER BY id DESC LIMIT ?",
        [LIMITS.recent],
    ).fetchall()


def _rate_now(history: History, run: RunRecord | None, now: float) -> float:
    began = max(now - HOUR, run.began if run else 0.0)
    (count,) = _row(history, "SELECT count(*) FROM trials WHERE state = 'complete' AND finished_at > ?", began)
    return float(count / max(now - began, 1.0) * HOUR)


def _decisions(history: History, since: float) -> tuple[int, int]:
    total, fallbacks = _row(
        history, "SELECT count(*), coalesce(sum(fallback), 0) FROM decisions WHERE decided_at > ?", since
    )
    return total, fallbacks


def _running(trial: Trial, now: float) -> RunningTrial:
    left = seconds_left(trial)
    process = None if trial.worker is None else ProcessId.parse(trial.worker)
    return RunningTrial(
        trial=trial.id,
        code=trial.code,
        device=trial.device,
        seconds=_age(now, trial.started_at) or 0.0,
        lease_age=None if left is None else max(0.0, (trial.lease_seconds or LEASE) - left),
        lease_left=left,
        memory=None if process is None else _group_memory(process),
        is_alive=process.is_alive if process is not None and process.is_local else None,
    )


def _age(now: float, moment: float | None) -> float | None:
    """A clock that was set back makes nothing younger than now."""
    return None if moment is None else max(0.0, now - moment)


def _group_memory(leader: ProcessId) -> int | None:
    """Resident memory of a process group of this machine."""
    if not leader.is_local or not leader.is_alive:
        return None
    pages = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[2]) == leader.pid:
            pages += int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE") or None


def _memory() -> tuple[int | None, int | None]:
    """The machine's memory, and what of it is available; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None, None
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return kilobytes["MemTotal"] * 1024, kilobytes["MemAvailable"] * 1024
