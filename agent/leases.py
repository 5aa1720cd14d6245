"""Leases: how it is known that whoever runs a trial still lives.

A worker on this machine lives as long as its process does. Everyone else renews a lease: workers on other machines,
and callers of `Search.ask` that asked for one. No decision compares the wall clocks of two moments or two machines,
for they jump and differ: a lease that was given in this boot of this machine runs out by the boot's monotonic clock,
which neither jumps nor counts a suspended machine's sleep; any other one runs out when it was watched for its whole
length without being renewed.

A process that was stopped for a while must get a chance to renew before its lease is taken back: also a lease that
has run out by the clock is looked at twice, `CONFIRM` seconds apart. And whoever takes one back names the lease that
it saw (`History.take_back`), so that a renewal in the last moment wins.
"""

from __future__ import annotations

import time
from typing import Any

from ncode_search.agent.processes import ProcessId, boot_id
from ncode_search.agent.records import Trial

LEASE = 60.0
"""Seconds that a running trial is taken to be alive after its worker last said so."""
RENEW_EVERY = LEASE / 3
"""Seconds between two renewals."""
CONFIRM = 1.0
"""Seconds between two looks at a lease that has run out, before it is taken back."""

CALLER = "caller"
"""The device of a trial that was asked for: the process in its row need not be the one that evaluates it."""


def lease_columns(seconds: float | None) -> dict[str, Any]:
    """The columns of a lease that begins now; None: no lease."""
    if seconds is None:
        return {"lease_until": None, "lease_seconds": None, "lease_boot": None, "lease_clock": None}
    return {
        "lease_until": time.time() + seconds,
        "lease_seconds": seconds,
        "lease_boot": boot_id(),
        "lease_clock": time.monotonic() + seconds,
    }


class LeaseWatch:
    """Tells when a running trial's attempt is nobody's any more; keeps what it saw of it."""

    def __init__(self) -> None:
        self._seen: tuple[int, float | None] | None = None
        self._since = 0.0
        self._was_suspect = False

    def is_over(self, trial: Trial) -> bool:
        """Whether the trial, as its row is now, may be taken back."""
        if trial.device != CALLER and (process := _process(trial)) is not None and process.is_local:
            # This process runs no trials for others: one of its own is of a `Search` that is gone.
            return not process.is_alive or process == ProcessId.current()
        if trial.lease_seconds is None:
            return True  # asked for without a lease, by a `Search` that is gone: the agent's lock is ours
        return self._was_not_renewed(trial)

    def _was_not_renewed(self, trial: Trial) -> bool:
        now, state = time.monotonic(), (trial.attempt, trial.lease_until)
        length = CONFIRM if _is_ours(trial) else float(trial.lease_seconds or 0)  # at once, lest it be no number
        if state != self._seen or (_is_ours(trial) and not self._was_suspect):
            self._seen, self._since, self._was_suspect = state, now, is_suspect(trial)
            return False
        return now - self._since >= length


def is_suspect(trial: Trial) -> bool:
    """Whether a lease has run out by this machine's clock."""
    return _is_ours(trial) and (trial.lease_clock or 0) <= time.monotonic()


def seconds_left(trial: Trial) -> float | None:
    """Of a running trial's lease, for people: below zero where it ran out, None where there is none."""
    if trial.lease_until is None:
        return None
    return (trial.lease_clock or 0) - time.monotonic() if _is_ours(trial) else trial.lease_until - time.time()


def _is_ours(trial: Trial) -> bool:
    return trial.lease_boot == boot_id() != ""


def _process(trial: Trial) -> ProcessId | None:
    return ProcessId.parse(trial.worker) if trial.worker else None
