"""``ncode check-evaluator``: whether a search file's evaluator keeps the contract, tried with one configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ncode_search.agent.devices import Device, first
from ncode_search.agent.errors import InputError
from ncode_search.agent.evaluator_process import examined
from ncode_search.agent.fidelity import stopping
from ncode_search.agent.observations import ObservationLog
from ncode_search.agent.pool import CandidatePool
from ncode_search.agent.report import option_text
from ncode_search.agent.search_file import SearchFile
from ncode_search.agent.space import SearchSpace
from ncode_search.evaluators.conformance import Finding, Verdict


def check_lines(path: Path, code: str | None) -> Iterator[tuple[str, bool]]:
    """Lines for a person, each with whether what it says is good.

    `code`: the configuration to try, as text; None: one that the file's seed draws. Raises `InputError` for a wrong
    file, code or evaluator.
    """
    file = SearchFile.load(path)
    try:
        device = first(file.settings)
        subject = _subject(file, code, device)
        config = ", ".join(f"{name} {option_text(option)}" for name, option in subject["config"].items())
        yield f"{path}: {subject['kind']}, on {device.name}, code {subject['code']} ({config})", True
        for finding in examined(subject, stopping(file.settings), device, file.settings.timeout_seconds):
            yield _line(finding), finding.verdict is not Verdict.BAD
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _line(finding: Finding) -> str:
    return f"{finding.verdict.value:<6}  {finding.check:<26}  {finding.text}"


def _subject(file: SearchFile, code: str | None, device: Device) -> dict[str, Any]:
    """The fields of `conformance.Subject`, for another process."""
    options: dict[str, Any] = dict(file.evaluator)
    vector = _drawn(file.space, file.settings.seed) if code is None else file.space.from_text([code])[0]
    return {
        "kind": options.pop("kind"),
        "options": options,
        "folder": str(file.path.parent.absolute()),
        "space": file.space.positions,
        "config": file.space.decode(vector),
        "code": file.space.to_text(vector[np.newaxis])[0],
        "seed": file.settings.seed,
        "goal": file.settings.goal,
        "device": device.torch_name,
        "threads": device.threads,
    }


def _drawn(space: SearchSpace, seed: int) -> Any:
    return CandidatePool(space).draw(ObservationLog(len(space)).view(), 1, np.random.default_rng(seed))[0]
