"""Positions that a kind of evaluator knows: their names, and what their options may be."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ncode_search.evaluators.base import EvaluatorError


@dataclass(frozen=True)
class Position:
    """A family of positions and what their options may be."""

    pattern: str
    """A regular expression for the whole name."""
    names: str
    """The names, as a person reads them."""
    allowed: str
    """The options, as a person reads them."""
    accepts: Callable[[Any], bool]
    """Whether one option is possible."""
    default: str
    """What stands when a space leaves the position out."""


def is_integer(low: int, high: int, odd: bool = False) -> Callable[[Any], bool]:
    """Accepts integers from `low` to `high`."""
    return lambda option: type(option) is int and low <= option <= high and (not odd or option % 2 == 1)


def is_number(low: float, below: float = math.inf) -> Callable[[Any], bool]:
    """Accepts numbers from `low` to less than `below`."""
    return lambda option: type(option) in (int, float) and low <= option < below


def is_positive(option: Any) -> bool:
    """Accepts finite numbers above zero."""
    return type(option) in (int, float) and 0 < option < math.inf


def is_boolean(option: Any) -> bool:
    """Accepts true and false."""
    return type(option) is bool


def is_one_of(names: Collection[str]) -> Callable[[Any], bool]:
    """Accepts the texts in `names`."""
    return lambda option: isinstance(option, str) and option in names


def check_positions(space: Mapping[str, Sequence[Any]], positions: Sequence[Position], owner: str) -> None:
    """Refuse a position that `owner`, such as ``a CNN``, does not have, or an option that is impossible there.

    Raises:
        EvaluatorError: with the position and what is allowed there.
    """
    for name, options in space.items():
        position = _find(name, positions, owner)
        for option in options:
            if not position.accepts(option):
                raise EvaluatorError(
                    f'[space] "{name}": {owner} cannot have the option {option!r}; allowed: {position.allowed}'
                )


def _find(name: str, positions: Sequence[Position], owner: str) -> Position:
    for position in positions:
        if re.fullmatch(position.pattern, name):
            return position
    known = "; ".join(position.names for position in positions)
    raise EvaluatorError(f'[space] "{name}": {owner} has no such position; it has: {known}')
