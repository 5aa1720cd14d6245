"""Which codes are equal, slowly: cells by their written-out expressions, the rest by trying every single change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

from .reference import Code, all_codes

Condition = tuple[int, int, list[int]]
Expression = tuple[Any, ...]


@dataclass(frozen=True)
class Cell:
    """Edge ``i`` is of digit ``i``: (from, to)."""

    edges: tuple[tuple[int, int], ...]
    options: int
    none: int = -1
    skip: int = -1

    @property
    def output(self) -> int:
        return max(node for edge in self.edges for node in edge)

    def codes(self) -> list[Code]:
        return all_codes([self.options] * len(self.edges))


def expression(cell: Cell, code: Code) -> Expression:
    """The output's summands, sorted: ``("x",)`` is the input, ``(option, summands)`` an operation of a sum."""
    return _summands(cell, code, cell.output)


def _summands(cell: Cell, code: Code, node: int) -> Expression:
    if node == 0:
        return (("x",),)
    found: list[Expression] = []
    for (source, target), option in zip(cell.edges, code, strict=True):
        if target == node and option != cell.none:
            inner = _summands(cell, code, source)
            if option == cell.skip:
                found += inner
            elif inner:
                found.append((option, inner))
    return tuple(sorted(found, key=repr))


def first_of_class(cell: Cell) -> dict[Code, Code]:
    """Every code to the first that has its expression."""
    first: dict[Expression, Code] = {}
    return {code: first.setdefault(expression(cell, code), code) for code in cell.codes()}


def renumbered(cell: Cell, code: Code) -> Iterator[Code]:
    """The code with its inner nodes numbered in every other way in which all of its edges exist and go forward."""
    inner = sorted({node for edge in cell.edges for node in edge} - {0, cell.output})
    for order in permutations(inner):
        name = {0: 0, cell.output: cell.output, **dict(zip(inner, order, strict=True))}
        digits = {(name[a], name[b]): option for (a, b), option in zip(cell.edges, code, strict=True)}
        kept = {edge: option for edge, option in digits.items() if option != cell.none}
        if kept.keys() <= set(cell.edges) and (cell.none >= 0 or len(kept) == len(cell.edges)):
            yield tuple(kept.get(edge, cell.none) for edge in cell.edges)


def is_active(conditions: Sequence[Condition], code: Code, position: int) -> bool:
    return all(
        is_active(conditions, code, parent) and code[parent] in allowed
        for child, parent, allowed in conditions
        if child == position
    )


def components(
    sizes: Sequence[int], conditions: Sequence[Condition], groups: Sequence[Sequence[Sequence[int]]]
) -> dict[Code, Code]:
    """Every code to the first of those that single changes lead to: of a digit that does not matter, or the swap of two
    interchangeable members.
    """
    first: dict[Code, Code] = {}
    for code in all_codes(sizes):
        reached = [] if code in first else [code]
        while reached:
            current = reached.pop()
            if current not in first:
                first[current] = code
                reached += _changed(sizes, conditions, groups, current)
    return first


def _changed(
    sizes: Sequence[int], conditions: Sequence[Condition], groups: Sequence[Sequence[Sequence[int]]], code: Code
) -> Iterator[Code]:
    for position, size in enumerate(sizes):
        if not is_active(conditions, code, position):
            for option in range(size):
                yield (*code[:position], option, *code[position + 1 :])
    for group in groups:
        for one, other in combinations(group, 2):
            swapped = list(code)
            for a, b in zip(one, other, strict=True):
                swapped[a], swapped[b] = code[b], code[a]
            yield tuple(swapped)
