"""Additive costs by measuring whole configurations: a count of parameters, or a timed forward pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.costs import Cost
from ncode_search.agent.errors import InputError
from ncode_search.agent.observations import Codes
from ncode_search.agent.space import Config, SearchSpace

_CHECKS = 32
"""Further configurations that the sums are compared with."""


def measured_cost(
    space: SearchSpace,
    name: str,
    cost: Callable[[Config], float],
    *,
    least: float | None = None,
    most: float | None = None,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> Cost:
    """A `Cost` whose sums are what `cost` says of configurations, if that adds up over their options.

    Twice as many random configurations as there are options are measured, and the options' costs fitted to them by
    least squares; then `_CHECKS` others are compared. Whole numbers stay whole. Costs are relative to every position's
    first option: what all configurations have in common is in the first position, and what a conditional position adds
    with its first option is in what it depends on. So only the sums mean something.

    Args:
        space: What the configurations are of; its own constraints do not matter here.
        name: The cost's name.
        cost: From a configuration to a finite number.
        least: The smallest sum that is feasible.
        most: The largest sum that is feasible.
        tolerance: How far a sum may be off, relative to the largest measured.
        seed: Of the configurations.

    Raises:
        InputError: where the sums are further off: the configuration, and by how much.
    """
    codes = measured_codes(space, seed)
    measured = np.array([cost(space.decode(code)) for code in codes], dtype=np.float64)
    return Cost(name, fitted_options(space, name, codes, measured, tolerance), least=least, most=most)


def measured_codes(space: SearchSpace, seed: int = 0) -> Codes:
    """The canonical codes of the configurations to measure, shape ``(n, L)``."""
    return space.canonical(space.core.random(2 * sum(space.core.sizes) + _CHECKS, seed))


def fitted_options(
    space: SearchSpace, name: str, codes: Codes, measured: NDArray[np.float64], tolerance: float = 1e-6
) -> dict[str, list[float]]:
    """Position to the costs of its options, from what `measured_codes` were measured to cost, shape ``(n,)``.

    Raises `InputError` as `measured_cost` does.
    """
    if not np.isfinite(measured).all():
        wrong = space.decode(codes[int(np.argmin(np.isfinite(measured)))])
        raise InputError(f"cost {name!r} of {wrong} is no finite number")
    table = _one_hot(space, codes)
    fitted = np.linalg.lstsq(table[_CHECKS:], measured[_CHECKS:], rcond=None)[0]
    weights = _rounded(fitted.astype(np.float64), measured)
    _check_sums(space, name, codes, measured, table @ weights, tolerance)
    return _options(space, weights)


def _one_hot(space: SearchSpace, codes: Codes) -> NDArray[np.float64]:
    """A column of ones, and one for every option but a position's first: whether it is chosen, and matters."""
    active = space.active(codes)
    columns = [
        (codes[:, at] == digit) & active[:, at]
        for at, size in enumerate(space.core.sizes)
        for digit in range(1, size)
    ]  # fmt: skip
    return np.stack([np.ones(len(codes), dtype=np.bool_), *columns], axis=1).astype(np.float64)


def _rounded(weights: NDArray[np.float64], measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without the digits that are rounding errors of the fit."""
    if (measured == np.round(measured)).all():
        return np.round(weights)
    digits = 9 - int(np.floor(np.log10(np.abs(measured).max())))
    return np.array([round(float(weight), digits) for weight in weights])


def _check_sums(
    space: SearchSpace,
    name: str,
    codes: Codes,
    measured: NDArray[np.float64],
    sums: NDArray[np.float64],
    tolerance: float,
) -> None:
    off = np.abs(measured - sums)
    worst = int(np.argmax(off))
    if off[worst] > tolerance * np.abs(measured).max():
        raise InputError(
            f"cost {name!r} does not add up over the options: {space.decode(codes[worst])} costs "
            f"{measured[worst]:g}, its options together {sums[worst]:g}; allow a larger tolerance, or give a table"
        )


def _options(space: SearchSpace, weights: NDArray[np.float64]) -> dict[str, list[float]]:
    options: dict[str, list[float]] = {}
    start = 1
    for name, choices in space.positions.items():
        # The first position has what is common to all.
        common = weights[0] if not options else 0.0
        options[name] = [float(common + weight) for weight in (0.0, *weights[start : start + len(choices) - 1])]
        start += len(choices) - 1
    return options
