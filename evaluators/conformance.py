"""Whether an evaluator keeps the contract of `base`: tried out, in about four trainings of one configuration,
and more where they are quick.

`examine` runs the checks below and says what it found, one finding a check. The project's own evaluators are tested
with it, and ``ncode check-evaluator FILE.toml`` runs it on a user's.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import tempfile
import time
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from ncode_search.evaluators.base import CHECKPOINT, Context, Evaluator, EvaluatorError, Pruned, Result
from ncode_search.evaluators.memory import held_memory
from ncode_search.evaluators.registry import build, class_of
from ncode_search.evaluators.results import checked, plain

LEAK, LEAK_EACH = 32 << 20, 1 << 20
"""Bytes by which the process may grow over all later evaluations, and over each of most: allocators keep some, and
give it back."""
MOST_FURTHER, FURTHER_SECONDS = 12, 10.0
"""Evaluations that look for leaks alone: so many, but none is begun after so long."""


class Verdict(Enum):
    """What a check came to."""

    GOOD = "ok"
    NOTE = "note"
    """The contract allows it, and the search can do less with it."""
    BAD = "FAILED"


@dataclass(frozen=True)
class Finding:
    """One check's outcome."""

    check: str
    verdict: Verdict
    text: str
    """One line for a person."""


class Judge(Protocol):
    """What compares the reports of a search's trials and stops some of them early, as far as evaluators serve it."""

    @property
    def most_epochs(self) -> int:
        """Reports that a whole trial makes."""

    def score(self, step: int, reported: Mapping[str, Any]) -> float:
        """What is compared of a report. Raises where it is missing."""


@dataclass(frozen=True)
class Subject:
    """An evaluator as a search file describes it, and a configuration to try it with."""

    kind: str
    options: Mapping[str, Any]
    folder: Path
    """Where relative paths start."""
    space: Mapping[str, Sequence[Any]]
    config: Mapping[str, Any]
    code: str
    seed: int = 0
    goal: str | None = None
    """Of the search; None: there is none."""
    device: str = "cpu"
    threads: int = 1
    judge: Callable[[Evaluator], Judge] | None = None
    """Makes that of the search, and raises `EvaluatorError` where it cannot serve; None: no trial is stopped early."""

    def build(self, **changes: Any) -> Evaluator:
        """The evaluator, with other options where `changes` say so. Raises `EvaluatorError`."""
        return build(self.kind, {**self.options, **changes}, self.folder, self.space, self.goal, self.device)


@dataclass
class _Run:
    """One evaluation: what it reported, and how it ended."""

    reports: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    result: Result | None = None
    """None where `Pruned` came out."""

    @property
    def steps(self) -> list[int]:
        return [step for step, _ in self.reports]

    @property
    def found(self) -> str:
        """All that two runs of one seed have in common, as text, in which NaN equals NaN."""
        assert self.result is not None
        return json.dumps([self.result.value, dict(self.result.metrics), self.reports], sort_keys=True, default=float)


Watch = Callable[[str], AbstractContextManager[object]]
"""Entered with a check's name around everything of the evaluator's that may take long, or not come back."""
BUILT, REFUSES = "is built", "refuses impossible options"
"""What goes on where the evaluator is built, and not called."""


def examine(
    subject: Subject, watch: Watch = lambda check: nullcontext(), scratch: Path | None = None
) -> Iterator[Finding]:
    """Every check in turn, as soon as it is done. Raises `EvaluatorError` where the evaluator cannot be built at all.

    An evaluation that raises ends the examination with a bad finding. `scratch`: the folder that trials have theirs
    in; None: where temporary files are.
    """
    with watch(BUILT):
        evaluator = subject.build()
    judge = None if subject.judge is None else subject.judge(evaluator)
    yield _refuses_the_impossible(subject, watch)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        examination = _Examination(subject, evaluator, judge, Path(folder), watch)
        for check in (
            examination.scores,
            examination.reports_every_epoch,
            examination.is_deterministic,
            examination.stops_at_a_report,
            examination.resumes,
            examination.sees_that_it_should_stop,
            examination.frees_its_memory,
        ):
            name = examination.check = check.__name__.replace("_", " ")
            try:
                verdict, text = check()
            except (Exception, SystemExit) as error:  # an evaluator may raise anything
                yield Finding(name, Verdict.BAD, _reason(error))
                return
            yield Finding(name, verdict, text)


class _NoResultError(Exception):
    """An evaluation came to nothing that a worker would take."""


def _reason(error: BaseException) -> str:
    said = str(error) if isinstance(error, _NoResultError) else f"raised {type(error).__name__}: {error}"
    return " ".join(said.split())


class _Examination:
    """The checks that evaluate. They go in order, for later ones compare with what earlier ones found."""

    def __init__(self, subject: Subject, evaluator: Evaluator, judge: Judge | None, folder: Path, watch: Watch) -> None:
        self.check = ""
        """The name of that which is made."""
        self._watch = watch
        self._subject = subject
        self._evaluator = evaluator
        self._judge = judge
        self._folder = folder
        self._whole = _Run()
        self._held: list[int] = []
        """Bytes after each evaluation."""
        self._stopped_at = 0

    def scores(self) -> tuple[Verdict, str]:
        self._whole = self._run("whole")
        result = self._whole.result
        if result is None:
            raise _NoResultError("it raised Pruned, which nobody asked for; give another configuration")
        return Verdict.GOOD, f"{result.value:.6g}"

    def reports_every_epoch(self) -> tuple[Verdict, str]:
        steps, wanted = self._whole.steps, self._epochs()
        if not steps and self._judge is None:
            return Verdict.NOTE, "it reports nothing: no trial can be stopped early"
        if steps != list(range(1, len(steps) + 1)) or wanted not in (None, len(steps)):
            should = f"1 to {wanted or len(steps)}"
            goal = "" if self._judge is None else ", the epochs of a whole trial that [search] stop goes by"
            return Verdict.BAD, f"it reported the steps {_listed(steps)}; they should be {should}{goal}"
        return self._last_report(self._whole.reports[-1][1])

    def _epochs(self) -> int | None:
        """How many a whole trial has; None: nobody says. A position of the space goes before the evaluator's option."""
        if self._judge is not None:
            return self._judge.most_epochs
        epochs: int | None = getattr(self._evaluator, "epochs", None)
        return epochs if epochs is None else self._subject.config.get("epochs", epochs)

    def _last_report(self, metrics: Mapping[str, float]) -> tuple[Verdict, str]:
        result, metric = self._whole.result, getattr(self._evaluator, "score_metric", None)
        assert result is not None
        declared = getattr(self._evaluator, "reported_metrics", None)
        if declared is not None and {*declared} != {*metrics}:
            return Verdict.BAD, f"it reported {', '.join(metrics)}; reported_metrics says {', '.join(declared)}"
        if metric is None:
            return Verdict.GOOD, f"{len(self._whole.steps)} of them: {', '.join(metrics)}"
        if metric not in metrics or metrics[metric] != result.value:
            said = metrics.get(metric, "missing")
            return Verdict.BAD, f"{metric} should be the score, {result.value}, in the last report; it is {said}"
        return Verdict.GOOD, f"{len(self._whole.steps)} of them; the last {metric} is the score"

    def is_deterministic(self) -> tuple[Verdict, str]:
        again = self._run("again")
        if again.result is not None and again.found == self._whole.found:
            return Verdict.GOOD, "a second evaluation with the seed came to the same"
        differs = "a second evaluation with the seed came to something else"
        if self._subject.device != "cpu":
            return Verdict.NOTE, f"{differs}; on a GPU it may"
        return Verdict.BAD, f"{differs}; draw everything random from context.seed"

    def stops_at_a_report(self) -> tuple[Verdict, str]:
        if len(self._whole.steps) < 2:
            return Verdict.NOTE, "with fewer than two reports there is nothing to stop"
        self._stopped_at = len(self._whole.steps) // 2
        stopped = self._run("stopped", stop_at=self._stopped_at)
        if len(stopped.steps) > self._stopped_at:
            return Verdict.BAD, f"it went on after report {self._stopped_at} had raised Pruned; let it through"
        return Verdict.GOOD, f"Pruned out of report {self._stopped_at} ended it"

    def resumes(self) -> tuple[Verdict, str]:
        tried = "stopped" if self._stopped_at else "whole"
        if not (self._folder / tried / CHECKPOINT).exists():
            return Verdict.NOTE, "it makes no checkpoint: a trial that was killed or stopped starts anew"
        if not self._stopped_at:
            return Verdict.NOTE, "it makes a checkpoint, but fewer than two reports, so that resuming was not tried"
        rest = self._run("stopped")
        if rest.steps != self._whole.steps[self._stopped_at :]:
            return Verdict.BAD, (
                f"stopped at report {self._stopped_at} it went on with {_listed(rest.steps)}; "
                "checkpoint before you report, and begin where the restored state says"
            )
        rest.reports = self._whole.reports[: self._stopped_at] + rest.reports
        if rest.result is None or rest.found != self._whole.found:
            return self._resumed_elsewhere()
        return Verdict.GOOD, f"from report {self._stopped_at} on, to the same result"

    def _resumed_elsewhere(self) -> tuple[Verdict, str]:
        if self._subject.device != "cpu":
            return Verdict.NOTE, "it came to another result than in one go; on a GPU it may"
        return Verdict.BAD, (
            "it came to another result than in one go; keep the states of optimizer, schedule and random generators"
        )

    def sees_that_it_should_stop(self) -> tuple[Verdict, str]:
        if len(self._whole.steps) < 2:
            return Verdict.NOTE, "with fewer than two reports there is nothing to stop"
        asked = self._run("asked", should_stop=True)
        if len(asked.steps) > 1:
            return Verdict.NOTE, "it goes on to its next report although should_stop is true; fine for short epochs"
        return Verdict.GOOD, "it ended within an epoch"

    def frees_its_memory(self) -> tuple[Verdict, str]:
        """A leak is small beside what the first evaluation leaves, and large after a thousand trials."""
        began, first = time.monotonic(), len(self._held)
        while len(self._held) < first + MOST_FURTHER and time.monotonic() < began + FURTHER_SECONDS:
            self._run("further")
            shutil.rmtree(self._folder / "further", ignore_errors=True)  # the next one is not to go on from there
            if self._held[-1] - self._held[0] > LEAK:
                break
        return self._growth()

    def _growth(self) -> tuple[Verdict, str]:
        grown, later = self._held[-1] - self._held[0], len(self._held) - 1
        steps = sorted(after - before for before, after in pairwise(self._held))
        if grown > LEAK or steps[later // 4] > LEAK_EACH:
            more = f"{grown / 2**20:.0f} MiB more are held than after the first evaluation"
            return Verdict.BAD, f"{more}, {grown / later / 2**20:.1f} for each of the {later} after it"
        return Verdict.GOOD, f"no more is held after {later} further evaluations than after the first"

    def _run(self, trial: str, stop_at: int | None = None, should_stop: bool = False) -> _Run:
        """One evaluation. Evaluations of one `trial` are attempts at it: they share its folder."""
        run = self._evaluated(trial, stop_at, should_stop)
        self._held.append(held_memory(self._subject.device))
        return run

    def _evaluated(self, trial: str, stop_at: int | None, should_stop: bool) -> _Run:
        run, stopped = _Run(), should_stop

        def report(step: int, **metrics: float) -> None:
            nonlocal stopped
            plain(metrics)  # raises what it raises in a worker, as the judge does
            if self._judge is not None:
                self._judge.score(step, metrics)
            run.reports.append((step, {name: float(value) for name, value in metrics.items()}))
            stopped = stopped or step == stop_at
            if stopped and (stop_at is not None or step > 1):
                raise Pruned("asked to")

        subject = self._subject
        context = Context(
            1, subject.code, subject.seed, subject.device, subject.threads, subject.folder, report,
            self._folder / trial, lambda: stopped,
        )  # fmt: skip
        try:
            with self._watch(self.check):
                answer = self._evaluator(subject.config, context)
        except Pruned:
            return run
        run.result = _result(answer)
        return run


def _result(answer: Any) -> Result:
    """As a worker takes it."""
    try:
        return checked(answer)
    except (TypeError, ValueError) as error:
        raise _NoResultError(f"a trial would fail: {error}") from error


def _refuses_the_impossible(subject: Subject, watch: Watch) -> Finding:
    accepted = [said for said, attempt in _impossible(subject) if not _is_refused(attempt, watch)]
    if accepted:
        verdict, text = Verdict.BAD, f"accepted: {', '.join(accepted)}; check them in __post_init__ or check_space"
    else:
        verdict, text = Verdict.GOOD, f"{sum(1 for _ in _impossible(subject))} of them, each with one line"
    return Finding(REFUSES, verdict, text)


def _impossible(subject: Subject) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What no evaluator can be built from: how it is called, and a try to do it."""
    yield "an unknown key", partial(subject.build, **{"no such key": 1})
    cls = class_of(subject.kind)
    hints = typing.get_type_hints(cls)
    for option in dataclasses.fields(cls):
        if not option.init:
            continue
        members = typing.get_args(hints[option.name]) or (hints[option.name],)
        yield f"{option.name} = {{}}", partial(subject.build, **{option.name: {}})
        if int in members:
            yield f"{option.name} = {-(10**9)}", partial(subject.build, **{option.name: -(10**9)})
        if float in members:
            yield f"{option.name} = nan", partial(subject.build, **{option.name: math.nan})
    if hasattr(cls, "check_space"):
        space = {**subject.space, "no such position": ["a", "b"]}
        yield "an unknown position", partial(dataclasses.replace(subject, space=space).build)


def _is_refused(attempt: Callable[[], Any], watch: Watch) -> bool:
    try:
        with watch(REFUSES):
            attempt()
    except EvaluatorError as error:
        return "\n" not in str(error)
    except (Exception, SystemExit):  # whatever else it raises, it is no clear line
        return False
    return False


def _listed(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps[:12])) + (", ..." if len(steps) > 12 else "") if steps else "none"
