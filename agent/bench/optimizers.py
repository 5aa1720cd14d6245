"""Other people's optimizers, as their users run them: default settings, every position a categorical parameter."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.space import SearchSpace

Code = NDArray[np.uint8]


class OptunaSearch:
    """A sampler of Optuna, such as ``TPESampler``."""

    def __init__(self, space: SearchSpace, seed: int, sampler: str) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna = optuna
        self._study = optuna.create_study(
            direction="maximize", sampler=getattr(optuna.samplers, sampler)(seed=_seed(seed))
        )
        self._distributions: dict[str, Any] = {
            name: optuna.distributions.CategoricalDistribution(range(size))
            for name, size in zip(space, space.core.sizes, strict=True)
        }
        self._trial: Any = None
        self.fallbacks = 0

    def ask(self) -> Code | None:
        """Whatever it suggests, though it was tried before."""
        self._trial = self._study.ask(self._distributions)
        return _code(self._trial.params[name] for name in self._distributions)

    def tell(self, code: Code, value: float | None) -> None:
        """A failed trial is told as such."""
        state = self._optuna.trial.TrialState.FAIL if value is None else None
        self._study.tell(self._trial, value, state=state)

    def close(self) -> None:
        """Nothing to free."""


class SmacSearch:
    """SMAC3 with random forests, its facade for hyper-parameters."""

    def __init__(self, space: SearchSpace, seed: int, trials: int) -> None:
        from ConfigSpace import CategoricalHyperparameter, ConfigurationSpace
        from smac import HyperparameterOptimizationFacade, Scenario

        self._names = list(space)
        configurations = ConfigurationSpace(seed=_seed(seed))
        sizes = zip(self._names, space.core.sizes, strict=True)
        configurations.add([CategoricalHyperparameter(name, list(range(size))) for name, size in sizes])
        self._folder = tempfile.TemporaryDirectory(prefix="ncode-smac-")
        scenario = Scenario(
            configurations,
            deterministic=True,
            n_trials=trials,
            seed=_seed(seed),
            output_directory=Path(self._folder.name),
        )
        # A level given to the facade would become that of the whole process's logging.
        logging.getLogger("smac").setLevel(logging.ERROR)
        self._smac = HyperparameterOptimizationFacade(scenario, _never_called, overwrite=True, logging_level=False)
        self._asked: Any = None
        self._failures: list[Any] = []
        self._worst = -np.inf
        self.fallbacks = 0

    def ask(self) -> Code | None:
        """Its next configuration; None where it has no new one."""
        from smac.main.exceptions import ConfigurationSpaceExhaustedException

        try:
            self._asked = self._smac.ask()
        except (StopIteration, ConfigurationSpaceExhaustedException):
            return None
        return _code(int(self._asked.config[name]) for name in self._names)

    def tell(self, code: Code, value: float | None) -> None:
        """A failed trial is told as a crash that costs as much as the worst trial so far.

        SMAC3's own default, an infinite cost, cannot be fitted; so failures wait for the first trial that completes.
        """
        if value is None:
            self._failures.append(self._asked)
        else:
            self._worst = max(self._worst, -value)
            self._report(self._asked, -value, failed=False)
        if np.isfinite(self._worst):
            while self._failures:
                self._report(self._failures.pop(), self._worst, failed=True)

    def close(self) -> None:
        """Remove its folder."""
        self._folder.cleanup()

    def _report(self, asked: Any, cost: float, *, failed: bool) -> None:
        from smac.runhistory.dataclasses import TrialValue
        from smac.runhistory.enumerations import StatusType

        status = StatusType.CRASHED if failed else StatusType.SUCCESS
        self._smac.tell(asked, TrialValue(cost=cost, status=status), save=False)


def _never_called(config: Any, seed: int = 0) -> float:
    raise AssertionError("codes are asked for and told")


def _code(digits: Any) -> Code:
    return np.array(list(digits), dtype=np.uint8)


def _seed(seed: int) -> int:
    """Both take no more than 32 bits."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)
