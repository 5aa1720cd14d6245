"""Which codes are feasible, by looking at all of them, and the draws of them that the core promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import reference
from .reference import Code, Random
from .reference_canonical import Condition, is_active

ATTEMPTS = 8


@dataclass(frozen=True)
class Cost:
    """Costs of options by position, and of pairs by the first position."""

    options: list[list[int]]
    pairs: dict[int, list[list[int]]]
    least: int | None
    most: int | None

    def of(self, code: Code, conditions: Sequence[Condition] = ()) -> int:
        matters = [is_active(conditions, code, p) for p in range(len(code))]
        single = sum(self.options[p][digit] for p, digit in enumerate(code) if matters[p])
        both = [p for p in self.pairs if matters[p] and matters[p + 1]]
        return single + sum(self.pairs[p][code[p]][code[p + 1]] for p in both)

    def allows(self, code: Code, conditions: Sequence[Condition]) -> bool:
        cost = self.of(code, conditions)
        return (self.least is None or cost >= self.least) and (self.most is None or cost <= self.most)

    def rule(self) -> tuple[Any, ...]:
        return (self.options, list(self.pairs.items()), self.least, self.most)


Forbidden = dict[int, list[int]]
"""Position to the options that match."""


@dataclass(frozen=True)
class Constraints:
    """A small space and what its codes must keep to."""

    sizes: list[int]
    costs: list[Cost]
    forbidden: list[Forbidden]
    conditions: list[Condition]
    canonical: bool

    def feasible(self) -> list[Code]:
        return [code for code in reference.all_codes(self.sizes) if self.allows(code)]

    def allows(self, code: Code) -> bool:
        matters = [is_active(self.conditions, code, p) for p in range(len(code))]
        if self.canonical and any(digit and not one for digit, one in zip(code, matters, strict=True)):
            return False
        matches = any(all(matters[p] and code[p] in options for p, options in one.items()) for one in self.forbidden)
        return not matches and all(cost.allows(code, self.conditions) for cost in self.costs)


def random(feasible: Sequence[Code], count: int, seed: int) -> list[Code]:
    draws = Random(seed, Random.FEASIBLE)
    return [feasible[draws.below128(len(feasible))] for _ in range(count)]


def sample(feasible: Sequence[Code], start: int, count: int, seed: int) -> list[Code]:
    places = range(start, min(start + count, len(feasible)))
    return [feasible[reference.permuted(len(feasible), seed, place)] for place in places]


def mutate(sizes: Sequence[int], feasible: Sequence[Code], parents: Sequence[Code], seed: int, n: int) -> list[Code]:
    draws, free, result = Random(seed, Random.FEASIBLE_MUTATE), reference.positions_with_choice(sizes), []
    for parent in parents:
        for _ in range(ATTEMPTS):
            code = reference.mutated(sizes, parent, draws, free, n)
            if code in feasible:
                break
        result.append(repaired(feasible, code, [], draws))
    return result


def crossover(feasible: Sequence[Code], first: Sequence[Code], second: Sequence[Code], seed: int) -> list[Code]:
    draws, result = Random(seed, Random.FEASIBLE_CROSSOVER), []
    for one, other in zip(first, second, strict=True):
        for _ in range(ATTEMPTS):
            code = reference.crossed(one, other, draws)
            if code in feasible:
                break
        result.append(repaired(feasible, code, [one, other], draws))
    return result


def repaired(feasible: Sequence[Code], wish: Code, others: Sequence[Code], draws: Random) -> Code:
    left = list(feasible)
    for p in range(len(wish)):
        options = [code[p] for code in (wish, *others) if code[p] in {code[p] for code in left}]
        digit = options[0] if options else left[draws.below128(len(left))][p]
        left = [code for code in left if code[p] == digit]
    return left[0]
