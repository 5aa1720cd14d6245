"""``ncode check-evaluator``: whether a search file's evaluator keeps the contract, tried with one configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ncode_search.agent.devices import Device, take_one
from ncode_search.agent.errors import InputError
from ncode_search.agent.fidelity import Judge, Stopping, stopping
from ncode_search.agent.observations import ObservationLog
from ncode_search.agent.pool import CandidatePool
from ncode_search.agent.report import option_text
from ncode_search.agent.search_file import SearchFile
from ncode_search.agent.space import SearchSpace
from ncode_search.evaluators.base import Evaluator, EvaluatorError
from ncode_search.evaluators.conformance import Finding, Subject, Verdict, examine


def check_lines(path: Path, code: str | None) -> Iterator[tuple[str, bool]]:
    """Lines for a person, each with whether what it says is good.

    `code`: the configuration to try, as text; None: one that the file's seed draws. Raises `InputError` for a wrong
    file, code or evaluator.
    """
    file = SearchFile.load(path)
    try:
        device = take_one(file.settings)
        subject = _subject(file, code, device)
        config = ", ".join(f"{name} {option_text(option)}" for name, option in subject.config.items())
        yield f"{path}: {subject.kind}, on {device.name}, code {subject.code} ({config})", True
        for finding in examine(subject):
            yield _line(finding), finding.verdict is not Verdict.BAD
    except (InputError, EvaluatorError) as error:
        raise InputError(f"{path}: {error}") from None


def _line(finding: Finding) -> str:
    return f"{finding.verdict.value:<6}  {finding.check:<26}  {finding.text}"


def _subject(file: SearchFile, code: str | None, device: Device) -> Subject:
    options: dict[str, Any] = dict(file.evaluator)
    vector = _drawn(file.space, file.settings.seed) if code is None else file.space.from_text([code])[0]
    return Subject(
        kind=options.pop("kind"),
        options=options,
        folder=file.path.parent.absolute(),
        space=file.space.positions,
        config=file.space.decode(vector),
        code=file.space.to_text(vector[np.newaxis])[0],
        seed=file.settings.seed,
        goal=file.settings.goal,
        device=device.torch_name,
        threads=device.threads,
        judge=_judge(file),
    )


def _judge(file: SearchFile) -> Callable[[Evaluator], Judge] | None:
    fields = stopping(file.settings)
    return None if fields is None else lambda evaluator: Judge(Stopping(**fields), evaluator, file.space.positions)


def _drawn(space: SearchSpace, seed: int) -> Any:
    return CandidatePool(space).draw(ObservationLog(len(space)).view(), 1, np.random.default_rng(seed))[0]
