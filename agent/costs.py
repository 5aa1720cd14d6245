"""Additive costs of configurations: a number for every option, and for pairs of options of neighbouring positions.

A position that does not matter costs nothing, alone and in pairs. Numbers are exact: 0.1 means a tenth, and sums are
compared with bounds as whole multiples of a common fraction. Sums that are only told, not compared, may have more
digits than the core's integers: they are rounded to what these hold.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from ncode_search.agent.declared import Positions, check_known, json_text
from ncode_search.agent.errors import InputError

OptionCosts = Sequence[Any] | Mapping[Any, Any]
"""A value for every option, in their order or by option (also by its JSON text, as TOML's keys are texts)."""


@dataclass(frozen=True)
class Cost:
    """An additive cost, such as parameters or milliseconds."""

    name: str
    options: Mapping[str, OptionCosts]
    """Position to the costs of its options; positions that are not named cost nothing."""
    pairs: Mapping[tuple[str, str], OptionCosts] = field(default_factory=dict)
    """Two neighbouring positions, in the space's order, to what their options cost together, on top: for every option
    of the first, the costs of those of the second.
    """
    least: float | None = None
    most: float | None = None
    unit: float | None = None
    """For costs whose sums differ in too many ways: what they are rounded to before they are compared with the bounds,
    away from them. No code beyond a bound is ever let in; some that are closer to it than one unit a position are lost.
    """
    measured: bool = False
    """Whether the options' costs were told by the search's evaluator: a search that goes on keeps those it began with.
    """


_LARGEST_SUM = 2**59
"""Sums of whole numbers stay below this; see `largest_sum` in csrc/costs.hpp."""
_ROUND_STEPS = 4096
"""Of how many units a suggested unit makes the range of a cost's sums."""

Rule = tuple[list[list[int]], list[tuple[int, list[list[int]]]], int | None, int | None]


class CheckedCost:
    """One cost, its numbers exact and complete."""

    def __init__(self, space: Positions, cost: Cost) -> None:
        if not isinstance(cost, Cost) or not isinstance(cost.name, str) or not cost.name:
            raise InputError(f"cost {cost!r} is none; give a Cost with a name")
        self.name = cost.name
        self._where = f"[costs.{cost.name}]"
        self._positions = space.positions
        self._least, self._most, self._unit = (self._bound(cost, key) for key in ("least", "most", "unit"))
        if self._least is not None and self._most is not None and self._least > self._most:
            raise InputError(f"{self._where} least = {cost.least} is above most = {cost.most}; swap or mend them")
        if self._unit is not None and self._unit <= 0:
            raise InputError(f"{self._where} unit is {cost.unit}; it must be above 0")
        self._measured = cost.measured
        self._options = self._checked_options(cost.options)
        self._pairs = self._checked_pairs(cost.pairs)
        exact = Fraction(math.lcm(*(value.denominator for row in self._rows() for value in row)))
        self.scale = min(exact, _LARGEST_SUM / max(self._largest_sum(), Fraction(1, exact)))
        """Whole numbers of the rule that is told, to one of the cost."""
        self._check_digits(exact)

    @property
    def is_bounded(self) -> bool:
        """Whether its sum has a bound."""
        return self._least is not None or self._most is not None

    def rules(self) -> list[tuple[Fraction | None, Rule]]:
        """The cost for the core: to be told; where it has a unit, once more in units for each of its bounds."""
        least, most = self._least, self._most
        if self._unit is None or not self.is_bounded:
            return [(None, self._rule(1 / self.scale, round, least, most))]
        rules: list[tuple[Fraction | None, Rule]] = [(None, self._rule(1 / self.scale, round))]
        if least is not None:
            rules.append((self._unit, self._rule(self._unit, math.floor, least=least)))
        if most is not None:
            rules.append((self._unit, self._rule(self._unit, math.ceil, most=most)))
        return rules

    def number(self, amount: int) -> float:
        """A sum of the rule that is told, as people count."""
        return _plain(amount / self.scale)

    def excess(self, rule: Rule, possible: tuple[int, int]) -> float:
        """How far beyond its bounds all `possible` sums are, as a share of what lies between the smallest and largest
        of them; what cannot vary is the tightest.
        """
        _, _, least, most = rule
        beyond = max(0 if most is None else possible[0] - most, 0 if least is None else least - possible[1], 0)
        span = possible[1] - possible[0]
        return beyond / span if span else math.inf

    def reason(self, rule: Rule, possible: tuple[int, int]) -> str:
        """Which bound no code fits, where `possible` sums of `rule` are between these."""
        exact = self._unit is None
        size = 1 / self.scale if self._unit is None else self._unit
        smallest, largest = (_plain(amount * size) for amount in possible)
        about = "" if exact else "about "
        if rule[3] is not None and possible[0] > rule[3]:
            return f"{self._where} most = {_said(self._most)}, but the smallest possible is {about}{smallest}"
        if rule[2] is not None and possible[1] < rule[2]:
            return f"{self._where} least = {_said(self._least)}, but the largest possible is {about}{largest}"
        return f"{self._where} none of its sums is within least = {_said(self._least)} and most = {_said(self._most)}"

    def unit_for(self, steps: int) -> str:
        """A round number of which the cost's range has about so many, and its sums not too many."""
        spans = [max(row) - min(row) for row in self._rows()]
        at_least = max((self._unit or Fraction(0)) * 10, self._largest_sum() * 1000 / _LARGEST_SUM)
        return f"{float(max(sum(spans, Fraction(0)) / steps, at_least)):.0e}"

    def to_dict(self) -> dict[str, Any]:
        """The cost as a JSON value; see `cost_from_dict`."""
        options = {name: _plain_row(row) for name, row in zip(self._positions, self._options, strict=True) if any(row)}
        names = list(self._positions)
        pairs = [
            {"positions": [names[first], names[first + 1]], "costs": [_plain_row(row) for row in rows]}
            for first, rows in self._pairs
        ]
        bounds = {"least": self._least, "most": self._most, "unit": self._unit}
        return {
            **{key: value for key, value in {"options": options, "pairs": pairs}.items() if value},
            **{key: _plain(value) for key, value in bounds.items() if value is not None},
            **({"measured": True} if self._measured else {}),
        }

    def _largest_sum(self) -> Fraction:
        """No sum is farther from zero."""
        pairs = [[value for row in rows for value in row] for _, rows in self._pairs]
        return sum((max(map(abs, row)) for row in [*self._options, *pairs]), Fraction(0))

    def _check_digits(self, exact: Fraction) -> None:
        """Bounds are compared with whole numbers: of the exact fraction, or of units."""
        if self.is_bounded and self._largest_sum() * (1 / self._unit if self._unit else exact) > _LARGEST_SUM:
            unit = self.unit_for(_ROUND_STEPS)
            raise InputError(
                f"{self._where} its numbers are too large, or have too many digits, to be summed exactly and compared "
                f"with bounds; let them be rounded: unit = {unit}"
            )

    def _rows(self) -> list[list[Fraction]]:
        return [*self._options, *(row for _, rows in self._pairs for row in rows)]

    def _rule(
        self,
        unit: Fraction,
        rounded: Callable[[Fraction], int],
        least: Fraction | None = None,
        most: Fraction | None = None,
    ) -> Rule:
        options = [[rounded(value / unit) for value in row] for row in self._options]
        pairs = [(first, [[rounded(value / unit) for value in row] for row in rows]) for first, rows in self._pairs]
        low = None if least is None else _clamped(math.ceil(least / unit))
        high = None if most is None else _clamped(math.floor(most / unit))
        return options, pairs, low, high

    def _bound(self, cost: Cost, key: str) -> Fraction | None:
        value = getattr(cost, key)
        return None if value is None else _number(value, f"{self._where} {key}")

    def _checked_options(self, given: Mapping[str, OptionCosts]) -> list[list[Fraction]]:
        if not isinstance(given, Mapping):
            raise InputError(f"{self._where} options is {given!r}; it must be a table of positions")
        for name in given:
            check_known(name, self._positions, f"{self._where} options")
        zeros = {name: [0] * len(options) for name, options in self._positions.items()}
        return [self._row(name, given.get(name, zeros[name]), "options") for name in self._positions]

    def _checked_pairs(self, given: Mapping[tuple[str, str], OptionCosts]) -> list[tuple[int, list[list[Fraction]]]]:
        if not isinstance(given, Mapping):
            raise InputError(f"{self._where} pairs is {given!r}; it must be a table of pairs of positions")
        return sorted((self._checked_pair(pair, costs) for pair, costs in given.items()), key=lambda one: one[0])

    def _checked_pair(self, pair: tuple[str, str], costs: OptionCosts) -> tuple[int, list[list[Fraction]]]:
        names = list(self._positions)
        where = f"{self._where} pairs"
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise InputError(f"{where}: {pair!r} is no pair of positions")
        for name in pair:
            check_known(name, names, where)
        first = names.index(pair[0])
        if names[first + 1 : first + 2] != [pair[1]]:
            raise InputError(f"{where}: {pair[1]!r} does not come right after {pair[0]!r}; reorder [space]")
        rows = self._by_option(pair[0], costs, where)
        return first, [self._row(pair[1], row, "pairs") for row in rows]

    def _row(self, name: str, given: OptionCosts, key: str) -> list[Fraction]:
        where = f"{self._where} {key} of position {name!r}"
        return [_number(value, where) for value in self._by_option(name, given, where)]

    def _by_option(self, name: str, given: OptionCosts, where: str) -> list[Any]:
        """The values that `given` has for the options of a position, in their order."""
        options = self._positions[name]
        texts = [json_text(option) for option in options]
        if isinstance(given, Mapping):
            return self._in_order(texts, given, where)
        if isinstance(given, (str, bytes)) or not isinstance(given, (Sequence, np.ndarray)):
            raise InputError(f"{where} is {given!r}; give a list of costs, or a table by option")
        if len(given) != len(options):
            raise InputError(f"{where}: {len(given)} costs for {len(options)} options; give one to each")
        return list(given)

    @staticmethod
    def _in_order(texts: list[str], given: Mapping[Any, Any], where: str) -> list[Any]:
        """A key is an option, or the JSON text of one."""
        keyed = {}
        for key, value in given.items():
            text = json_text(key) if json_text(key) in texts else key
            if text not in texts:
                raise InputError(f"{where}: there is no option {key!r}; allowed: {', '.join(texts)}")
            keyed[text] = value
        if missing := [text for text in texts if text not in keyed]:
            raise InputError(f"{where}: option {missing[0]} has no cost; give one to each of {', '.join(texts)}")
        return [keyed[text] for text in texts]


def cost_from_dict(name: str, table: Mapping[str, Any]) -> Cost:
    """A cost whose pairs are a list of ``{"positions": [first, second], "costs": ...}``."""
    fields = {key: value for key, value in table.items() if key not in ("options", "pairs")}
    pairs = {tuple(pair["positions"]): pair["costs"] for pair in table.get("pairs", ())}
    return Cost(name, table.get("options", {}), pairs, **fields)


def _number(value: Any, where: str) -> Fraction:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not _is_finite(value):
        raise InputError(f"{where} has {value!r}; it must be a finite number")
    if isinstance(value, numbers.Integral):
        return Fraction(int(value))
    # By its shortest text: who writes 0.1 means a tenth, also in 32 bits.
    return Fraction(str(value) if isinstance(value, np.floating) else repr(float(value)))


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats, which costs are shown as
        return False


def _clamped(bound: int) -> int:
    return max(-(2**62), min(bound, 2**62))


def _plain(value: Fraction) -> float:
    return int(value) if value.denominator == 1 else float(value)


def _plain_row(row: Sequence[Fraction]) -> list[float]:
    return [_plain(value) for value in row]


def _said(bound: Fraction | None) -> str:
    return "none" if bound is None else str(_plain(bound))
