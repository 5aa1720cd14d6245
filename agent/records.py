"""The rows of a history, as Python values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ncode_search.agent.states import TrialState


@dataclass(frozen=True)
class Trial:
    """One row of the table `trials`; times are seconds since 1970."""

    id: int
    code: str
    """As it was proposed, and is evaluated."""
    canonical: str
    """The canonical code of its class: no other trial that did not fail has the same."""
    state: TrialState
    value: float | None
    metrics: dict[str, Any] | None
    attempt: int
    worker: str | None
    device: str | None
    error: str | None
    proposed_by: str
    created_at: float
    started_at: float | None
    finished_at: float | None
    lease_until: float | None
    """When the lease of the running attempt runs out, for people; `leases` has what programs go by."""
    lease_seconds: float | None = None
    """The lease's length. None: it has none, and the trial is its process's as long as that lives."""
    lease_boot: str | None = None
    """The boot of the machine that last renewed it, and at which second of that boot's clock it runs out."""
    lease_clock: float | None = None
    failures: int = 0
    """Attempts that failed through their own fault; the others were interrupted."""
    seconds: float | None = None
    """What its attempts cost together."""
    peak_memory: int | None = None
    """Bytes; the most of any attempt."""
    budget: int | None = None
    """Epochs after which the search looks whether it may go on; None: it may go to its end."""


@dataclass(frozen=True)
class Spent:
    """What an attempt cost."""

    seconds: float
    peak_memory: int = 0
    """Bytes of device memory; 0: not known."""


@dataclass(frozen=True)
class Decision:
    """Why a trial's code was chosen: one row of the table `decisions`."""

    ranker: str
    model: str | None
    model_sha256: str | None
    pool: int
    """Candidates in the pool."""
    rank: int
    """The chosen candidate's rank by the ranker's scores; 1 is the best."""
    seconds: float
    fallback: bool
    """Whether another ranker than the search's own decided."""
    reason: str | None
    """Why it was a fallback."""
    predicted: Mapping[str, float] | None = None
    """The value that each forecaster predicted for the chosen candidate."""
    trust: Mapping[str, float] | None = None
    """The say that each of them had."""


@dataclass(frozen=True)
class Narrowing:
    """The options that a search keeps to: one row of the table `narrowings`."""

    after: int
    """Completed trials that told which options did best."""
    keep: int | float
    """How many options of every position, or what share of them."""
    trial: int
    """The first that was proposed so."""
    kept: Mapping[str, list[Any]]
    """Position to its kept options."""


@dataclass(frozen=True)
class Objective:
    """What a history's values mean; a history holds one space and one objective for good."""

    goal: str = "maximize"
    """``maximize`` or ``minimize``."""
    evaluator: Mapping[str, Any] | None = None
    """The evaluator's table of the search file; None under ask and tell."""

    @property
    def sign(self) -> float:
        """What to multiply a value with so that higher is better."""
        return 1.0 if self.goal == "maximize" else -1.0


@dataclass(frozen=True)
class Duplicate:
    """What a late worker found for a trial that somebody else had been given meanwhile: a row of `duplicates`."""

    trial: int
    attempt: int
    """The attempt that had been taken back."""
    state: TrialState
    value: float | None
    metrics: dict[str, Any] | None
    recorded_at: float
