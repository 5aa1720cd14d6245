"""The contract between a search and the code that scores a configuration.

An evaluator is a callable ``evaluate(config, context) -> float | Result``. It runs in a worker process of its own, one
call at a time, for many trials in a row; it may crash or hang, the search replaces the process. Any exception that it
raises makes a failed attempt, with the traceback in the history; `Pruned` makes a pruned trial.

An evaluator that trains for long goes, every epoch, in this order:

1. train and validate the epoch,
2. ``context.checkpoint(state)``: what the next epoch needs,
3. ``context.report(epoch, **metrics)``: this may raise `Pruned`, which is to pass through.

It begins with ``state = context.restore()``, which is not None where an earlier attempt at the trial got as far:
because its process was killed, or because the search stopped the trial early and now goes on with it, perhaps on
another device. On the CPU such a trial is to come to the same result as one in one go, so the state holds the states of
the optimizer, the schedule and the random generators, too. An evaluator that never checkpoints is right as well: it
starts anew.

The built-in kinds are frozen dataclasses whose fields are the keys of the TOML file's ``[evaluator]`` table. They are
built in the worker before the first trial, so ``__post_init__`` and `check_space` are the places to refuse wrong input:
raise `EvaluatorError` with one line that names the key and the mend. A kind's class attribute ``score_metric`` names
the reported metric whose last value is the score, ``reported_metrics`` all that every epoch reports: a search that
stops trials early compares one of them. ``score_goal`` is ``maximize`` or ``minimize``, where the score is of a known
direction, and ``metric_goals`` says it of reported metrics by name; what looks the other way round is refused.
`conformance` checks all of this, and ``ncode check-evaluator FILE.toml`` runs it.

An evaluator may have a method ``cost(config) -> Mapping[str, float]``: what a configuration costs, such as parameters
or milliseconds, without its training. A ``[costs.NAME]`` table with ``measured = true`` asks it before the search for a
few configurations, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ncode_search.evaluators.checkpoints import State, load_state, save_state


class EvaluatorError(Exception):
    """The evaluator cannot be set up as asked. The text is one line: what, where, the mend."""


class Pruned(Exception):
    """Ends a trial early, without a score: raised by `Context.report` where the search stops the trial, or by an
    evaluator of its own accord. The trial is recorded as pruned, not as failed.
    """


class DivergedError(ArithmeticError):
    """Raised by an evaluator whose loss is no finite number: the trial fails at once, and has no
    score. It is not tried again: with the same seed it would come to the same.
    """


@dataclass(frozen=True)
class Result:
    """What a finished evaluation found."""

    value: float
    """The score that the search optimises."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Named numbers kept beside the score, such as test accuracy or parameters."""
    seconds: float | None = None
    """What the evaluation cost; None: as long as the call took. One that looks results up may say what they cost."""
    peak_memory: int | None = None
    """Bytes of device memory at its peak; None: as `memory.PeakMemory` measured it."""


@dataclass(frozen=True)
class Context:
    """What an evaluation may know of its surroundings, and how it speaks to the search."""

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
    """``report(step, **metrics)``: record one epoch's numbers; `step` counts from 1. Raises `Pruned` where the search
    stops the trial.
    """
    trial_folder: Path
    """Where `directory` is, or will be."""
    stop_asked: Callable[[], bool] = lambda: False
    """What `should_stop` asks."""
    prepare: Callable[[], None] = lambda: None
    """Called each time before the trial's folder is used."""

    @property
    def directory(self) -> Path:
        """A folder of this trial alone, made on first use.

        It is empty when the trial begins, stays as it is between attempts, and is removed when the trial is finished
        for good, but for `kept`.
        """
        self.prepare()
        self.trial_folder.mkdir(parents=True, exist_ok=True)
        return self.trial_folder

    @property
    def kept(self) -> Path:
        """A folder inside `directory`, made on first use, that stays when the trial is finished: for trained adapters
        and the like.
        """
        kept = self.directory / KEPT
        kept.mkdir(exist_ok=True)
        return kept

    def checkpoint(self, state: State) -> None:
        """Keep what a later attempt needs to go on from here; it takes the place of the state that was kept before.

        `state` is made of dicts, lists, tuples, tensors, NumPy arrays, numbers, text and None, as ``state_dict()`` of
        modules and optimizers are. Written whole or not at all. Raises `TypeError` for anything else in it.
        """
        save_state(self.directory / CHECKPOINT, state)

    def restore(self) -> State | None:
        """The state that an earlier attempt kept last, its tensors on the CPU; None where there is none."""
        self.prepare()
        return load_state(self.trial_folder / CHECKPOINT)

    @property
    def should_stop(self) -> bool:
        """Whether the search has no use for this trial any more: end it by the next epoch.

        After `report` has raised `Pruned` it is true, for trainers that do not let exceptions through; it turns true
        between reports where another process took the trial over. Whatever the evaluator then returns is not counted.
        """
        return self.stop_asked()


CHECKPOINT = "checkpoint.safetensors"
"""The file of `Context.checkpoint` in the trial's directory."""
KEPT = "kept"
"""The folder of `Context.kept` there."""


class Evaluator(Protocol):
    """See the module's text."""

    def __call__(self, config: Mapping[str, Any], context: Context) -> float | Result: ...
