"""What codes of a space must keep to, as a space declares it, and the core's way to the feasible ones.

Two declarations, both optional. *Costs*: a number for every option of some positions, and for pairs of options of
neighbouring positions; their sum may have bounds. *Forbidden*: options that must not come together.

Where equal codes are declared, a class is feasible if its canonical code is: codes are made canonical first, and then
looked at. Positions that do not matter, by their conditions, cost nothing and are in no forbidden combination; of codes
that differ in them only the canonical one is counted, listed and drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncode_search import _core
from ncode_search.agent.costs import CheckedCost, Cost, Rule, cost_from_dict
from ncode_search.agent.declared import Positions, check_known, items_of, json_text
from ncode_search.agent.errors import InputError
from ncode_search.agent.observations import Codes

Forbidden = Mapping[str, Any]
"""Position to the option, or list of options, that must not come together with those of the other positions."""

Conditions = Sequence[tuple[int, int, list[int]]]
"""See `Equality.conditions`."""

_STEPS = {1: 4096, 2: 128}
"""How many different sums of one cost are few enough, by the number of costs with bounds; 32 for more."""


class Constraints:
    """The declarations of one space, checked and in one order: costs by name, positions and options as in the space.

    Raises `InputError` for an unknown position or option, an option without a cost, a number that is none, bounds that
    no code fits (naming the tightest, and what is possible), and costs whose sums are too many to be counted.
    """

    def __init__(
        self, space: Positions, costs: Iterable[Cost], forbidden: Iterable[Forbidden], conditions: Conditions = ()
    ) -> None:
        self._space = space
        self._conditions = conditions
        self._names = list(space.positions)
        self._costs = sorted((CheckedCost(space, cost) for cost in items_of(costs, "costs")), key=lambda one: one.name)
        self._check_names()
        self._forbidden = self._ordered([self._checked(one) for one in items_of(forbidden, "forbidden")])
        self._rules = [(number, *rule) for number, cost in enumerate(self._costs) for rule in cost.rules()]
        self._rules.sort(key=lambda rule: rule[1] is not None)  # those that are reported first, in the costs' order
        self._scales = np.array([float(cost.scale) for cost in self._costs])
        self.core = self._build() if self._costs or self._forbidden else None

    @property
    def is_binding(self) -> bool:
        """Whether anything may be infeasible: a bound, or a forbidden combination."""
        return bool(self._forbidden) or any(cost.is_bounded for cost in self._costs)

    @property
    def names(self) -> tuple[str, ...]:
        """The costs' names, sorted."""
        return tuple(cost.name for cost in self._costs)

    def costs(self, codes: Codes) -> NDArray[np.float64]:
        """The costs of `codes`, shape ``(n, L)``: shape ``(n, costs)``, in the order of `names`."""
        if not self._costs:
            return np.empty((len(codes), 0))
        assert self.core is not None
        sums: NDArray[np.float64] = self.core.cost(codes)[:, : len(self._costs)] / self._scales
        return sums

    def ranges(self) -> dict[str, tuple[float, float]]:
        """The smallest and the largest of every cost, over the feasible codes."""
        ranges = self.core.ranges if self.core is not None else []
        return {
            cost.name: (cost.number(least), cost.number(most))
            for cost, (least, most) in zip(self._costs, ranges, strict=False)
        }

    def to_dict(self) -> dict[str, Any]:
        """The declarations as a JSON value, the same for the same declarations; empty where there are none."""
        parts = {"costs": {cost.name: cost.to_dict() for cost in self._costs}, "forbidden": self._forbidden}
        return {name: part for name, part in parts.items() if part}

    def _check_names(self) -> None:
        for one, other in zip(self.names, self.names[1:], strict=False):
            if one == other:
                raise InputError(f"cost {one!r} is declared twice; rename one of them")

    def _checked(self, combination: Forbidden) -> dict[str, list[Any]]:
        if not isinstance(combination, Mapping) or not combination:
            raise InputError(f"forbidden combination {combination!r}: it must be a table of positions and options")
        for name in combination:
            check_known(name, self._names, "forbidden")
        return {name: self._matching(name, combination[name]) for name in self._names if name in combination}

    def _matching(self, name: str, given: Any) -> list[Any]:
        options = self._space.positions[name]
        listed = isinstance(given, (list, tuple)) and json_text(given) not in map(json_text, options)
        try:
            digits = {self._space.digit(name, option) for option in (given if listed else [given])}
        except InputError as error:
            raise InputError(f"forbidden: {error}") from None
        if not digits:
            raise InputError(f"forbidden: position {name!r} has an empty list; name an option, or leave it out")
        return [options[digit] for digit in sorted(digits)]

    @staticmethod
    def _ordered(combinations: list[dict[str, list[Any]]]) -> list[dict[str, list[Any]]]:
        return list({json_text(one): one for one in sorted(combinations, key=json_text)}.values())

    def _build(self) -> _core.Feasible:
        forbidden = [
            [(self._names.index(name), [self._space.digit(name, option) for option in options])
             for name, options in one.items()]
            for one in self._forbidden
        ]  # fmt: skip
        try:
            core = self._feasible([rule for *_, rule in self._rules], forbidden)
        except ValueError as error:
            raise InputError(self._reworded(str(error))) from None
        if core.conflict is not None:
            raise InputError(f"no code fits: {self._reason(*core.conflict)}")
        return core

    def _feasible(self, costs: list[Rule], forbidden: Any = ()) -> _core.Feasible:
        return _core.Feasible(self._space.core, costs, forbidden, self._conditions, canonical=True)

    def _reworded(self, text: str) -> str:
        """The core's error about too many cases."""
        number = int(text.split()[1])
        if "remembered" in text or number >= len(self._rules) + len(self._forbidden):
            return "conditional positions are too far from those that they depend on; put each right behind them"
        if number >= len(self._rules):
            return f"forbidden: {self._combination(number)} makes too many cases together with the other constraints"
        cost = self._costs[self._rules[number][0]]
        steps = _STEPS.get(sum(one.is_bounded for one in self._costs), 32)
        return (
            f"[costs.{cost.name}] its sums differ in too many ways to be counted; "
            f"round its costs, or let it be done: unit = {cost.unit_for(steps)}"
        )

    def _combination(self, number: int) -> str:
        return json_text(self._forbidden[number - len(self._rules)])

    def _reason(self, number: int, possible: tuple[int, int] | None) -> str:
        """The bound with which no code was left, and what the other constraints leave possible; of bounds that no code
        fits even alone the tightest.
        """
        if alone := self._impossible_alone():
            _, number, possible = max(alone)
        if possible is None:
            return f"[[forbidden]] {self._combination(number)} leaves none of those that keep to the rest"
        owner, _, rule = self._rules[number]
        return self._costs[owner].reason(rule, possible) + ("" if alone else " where the other constraints hold")

    def _impossible_alone(self) -> list[tuple[float, int, tuple[int, int]]]:
        """How far the sums are beyond each bound that no code fits, its number, and the possible sums."""
        found = []
        for number, (owner, _, rule) in enumerate(self._rules):
            conflict = self._feasible([rule]).conflict
            if conflict is not None and conflict[1] is not None:
                found.append((self._costs[owner].excess(rule, conflict[1]), number, conflict[1]))
        return found


def declared_constraints(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a space whose constraints `Constraints.to_dict` wrote."""
    costs = [cost_from_dict(name, table) for name, table in stored.get("costs", {}).items()]
    return {"costs": costs, "forbidden": stored.get("forbidden", ())}
