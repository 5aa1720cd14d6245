"""Costs of options that an evaluator tells by its ``cost(config)``, measured once and kept in the history.

The evaluator is built and asked in a process of its own, ``python -m ncode_search.agent.evaluator_cost``, which reads
one line of JSON and answers with one: a user's code never runs in the agent. The process is bound to the first device
of the search as a worker is, so that what it measures is measured there, and on no other.

A search that goes on takes what its history holds, so that costs which are never twice the same, such as times, leave
it the same search.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ncode_search.agent import devices
from ncode_search.agent.database import exists, translated
from ncode_search.agent.devices import Device
from ncode_search.agent.errors import InputError
from ncode_search.agent.functions import log_imports
from ncode_search.agent.history import History
from ncode_search.agent.measured_cost import fitted_options, measured_codes
from ncode_search.agent.settings import SearchSettings
from ncode_search.agent.space import Config, SearchSpace
from ncode_search.agent.worker import Channel
from ncode_search.agent.workers import SAFE_PATH, START_LIMIT
from ncode_search.evaluators.base import EvaluatorError
from ncode_search.evaluators.options import suggest
from ncode_search.evaluators.registry import build

Options = Mapping[str, Sequence[float]]
"""Position to the costs of its options."""


@dataclass(frozen=True)
class CostSource:
    """Where the measured costs of a search come from."""

    evaluator: Mapping[str, Any]
    """The ``[evaluator]`` table."""
    folder: Path
    """Where the evaluator's relative paths start."""
    settings: SearchSettings = field(default_factory=SearchSettings)
    """Which devices the search wants."""
    history: Path | None = None
    """The search's, which may hold what was measured at its first start."""

    def measure(self, space: SearchSpace, tolerances: Mapping[str, float]) -> dict[str, Options]:
        """The costs of the options of `space`, by name; `tolerances`: how far sums may be off, see `measured_cost`.

        Raises `InputError` where the evaluator cannot tell them, and where they do not add up over the options.
        """
        stored = self._stored(space)
        if tolerances.keys() <= stored.keys():
            return stored
        codes = measured_codes(space)
        told = self._ask(space, [space.decode(code) for code in codes])
        return {
            name: fitted_options(space, name, codes, _column(told, name), tolerance)
            for name, tolerance in tolerances.items()
        }

    def _stored(self, space: SearchSpace) -> dict[str, Options]:
        if self.history is None or not exists(self.history):
            return {}
        with translated(self.history), History.read(self.history) as history:
            meta = history.meta()
            if json.dumps(meta["space"]) != json.dumps(space.positions):
                return {}
            return {name: table.get("options", {}) for name, table in meta["costs"].items() if table.get("measured")}

    def _ask(self, space: SearchSpace, configs: list[Config]) -> list[dict[str, float]]:
        request = {
            "evaluator": dict(self.evaluator),
            "folder": str(self.folder.absolute()),
            "space": space.positions,
            "configs": configs,
        }
        log_imports(self.evaluator, self.folder)
        answer = _answer(json.dumps(request) + "\n", devices.first(self.settings))
        if "refused" in answer:
            raise InputError(answer["refused"])
        costs: list[dict[str, float]] = answer["costs"]
        return costs


def _answer(request: str, device: Device) -> dict[str, Any]:
    command = [sys.executable, *SAFE_PATH, "-m", "ncode_search.agent.evaluator_cost"]
    environment = {**os.environ, **device.environment}
    try:
        done = subprocess.run(
            command, input=request, capture_output=True, text=True, timeout=START_LIMIT, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"[evaluator] its costs were not measured within {START_LIMIT:g} s; make them quicker"
        ) from None
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise InputError(f"[evaluator] the process that measures costs ended with {done.returncode}: {last}") from None


def _column(told: list[dict[str, float]], name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    for costs in told:
        if name not in costs:
            raise InputError(f"[costs.{name}] is measured, but the evaluator's cost says {suggest(name, costs)}")
    return np.array([costs[name] for costs in told], dtype=np.float64)


# In the process


def main() -> None:
    """Answer one request."""
    channel = Channel()
    request = next(iter(channel))
    try:
        channel.send(costs=_costs(**request))
    except EvaluatorError as error:
        channel.send(refused=str(error))


def _costs(
    evaluator: dict[str, Any], folder: str, space: dict[str, list[Any]], configs: list[Config]
) -> list[dict[str, float]]:
    kind = evaluator.pop("kind")
    cost = getattr(build(kind, evaluator, Path(folder), space), "cost", None)
    if cost is None:
        raise EvaluatorError(f'[evaluator] kind = "{kind}" does not tell costs; give those of the options in [costs]')
    return [_told(cost, config) for config in configs]


def _told(cost: Any, config: Config) -> dict[str, float]:
    try:
        return {str(name): float(value) for name, value in dict(cost(config)).items()}
    except EvaluatorError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise EvaluatorError(f"[evaluator] the cost of {config} cannot be told ({reason}); repair it") from error


if __name__ == "__main__":
    main()
