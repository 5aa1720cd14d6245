"""The contract between a search and the code that scores a configuration.

An evaluator is a callable ``evaluate(config, context) -> float | Result``. It runs in a worker process of its own, one
call at a time, for many trials in a row; it may crash or hang, the search replaces the process. Any exception that it
raises makes a failed attempt, with the traceback in the history; `Pruned` makes a pruned trial.

The built-in kinds are frozen dataclasses whose fields are the keys of the TOML file's ``[evaluator]`` table. They are
built in the worker before the first trial, so ``__post_init__`` and `check_space` are the places to refuse wrong input:
raise `EvaluatorError` with one line that names the key and the mend.

An evaluator may have a method ``cost(config) -> Mapping[str, float]``: what a configuration costs, such as parameters
or milliseconds, without its training. A ``[costs.NAME]`` table with ``measured = true`` asks it before the search for a
few configurations, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class EvaluatorError(Exception):
    """The evaluator cannot be set up as asked. The text is one line: what, where, the mend."""


class Pruned(Exception):
    """Raised by an evaluator to end its trial early; the trial is recorded as pruned, not as failed."""


@dataclass(frozen=True)
class Result:
    """What a finished evaluation found."""

    value: float
    """The score that the search optimises."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Named numbers kept beside the score, such as test accuracy, parameters or seconds."""


@dataclass(frozen=True)
class Context:
    """What an evaluation may know of its surroundings."""

    trial: int
    """The trial's number in the history."""
    code: str
    """The configuration as NCode text."""
    seed: int
    """The search's seed: with it and the configuration, a CPU evaluation is to be deterministic."""
    device: str
    """A torch device string: ``cpu``, or ``cuda:0`` for the one GPU that this process can see."""
    threads: int
    """CPU threads that this evaluation may use."""
    folder: Path
    """The folder that relative paths of the search file start from."""
    report: Callable[..., None]
    """``report(step, **metrics)``: record one epoch's numbers; `step` counts from 1."""


class Evaluator(Protocol):
    """See the module's text."""

    def __call__(self, config: Mapping[str, Any], context: Context) -> float | Result: ...
