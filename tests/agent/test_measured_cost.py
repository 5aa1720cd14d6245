"""Costs measured on whole configurations: their sums are what was measured, or it is said that they do not add up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ncode_search import SearchSpace
from ncode_search.agent.errors import InputError
from ncode_search.agent.measured_cost import measured_cost

WHEN = {"kernel": {"op": ["conv", "sep"]}}
SPACE = SearchSpace({"width": [8, 16, 32], "op": ["conv", "sep", "pool"], "kernel": [3, 5, 7], "bias": [1]}, when=WHEN)


def parameters(config: dict[str, Any]) -> float:
    own = {"conv": 1000, "sep": 300, "pool": 0}[config["op"]]
    return 77 + own + 10 * config["width"] + (config["kernel"] ** 2 if config["op"] != "pool" else 0)


def sums_of(space: SearchSpace) -> np.ndarray:
    return space.cost(space.canonical(space.core.enumerate(0, space.size)))[:, 0]


def all_measured(space: SearchSpace, cost: Any) -> list[float]:
    return [cost(space.decode(code)) for code in space.canonical(space.core.enumerate(0, space.size))]


def test_whole_numbers_add_up_exactly() -> None:
    cost = measured_cost(SPACE, "params", parameters, most=1300)
    assert all(value.is_integer() for row in cost.options.values() for value in row)
    space = SPACE.constrained([cost])
    assert sums_of(space).tolist() == all_measured(space, parameters)
    assert space.feasible == sum(parameters(space.decode(code)) <= 1300 for code in np.unique(
        space.canonical(space.core.enumerate(0, space.size)), axis=0))  # fmt: skip


def test_measured_times_add_up_to_the_tolerance() -> None:
    def milliseconds(config: dict[str, Any]) -> float:
        return 0.1234567891234 * parameters(config)

    space = SPACE.constrained([measured_cost(SPACE, "ms", milliseconds)])
    np.testing.assert_allclose(sums_of(space), all_measured(space, milliseconds), rtol=1e-6)


def test_what_does_not_add_up_is_told() -> None:
    def product(config: dict[str, Any]) -> float:
        return config["width"] * config["kernel"] ** 2 if config["op"] == "conv" else 0

    with pytest.raises(InputError, match=r"^cost 'flops' does not add up .*: \{'width': .* costs .*; allow a larger"):
        measured_cost(SPACE, "flops", product)
    with pytest.raises(InputError, match="cost 'x' of {'width'.*} is no finite number"):
        measured_cost(SPACE, "x", lambda config: float("nan"))
