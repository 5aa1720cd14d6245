"""What makes codes of a space equal, as a space declares it, and the core's way to their canonical codes.

Three declarations, all optional. *When*: a position matters only where other positions have certain options.
*Cells*: positions are the edges of a graph whose nodes sum their inputs. *Interchangeable*: lists of positions whose
order does not matter. A position of a cell can be in nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ncode_search import _core
from ncode_search.agent.declared import Positions, check_known, is_list, items_of, json_text
from ncode_search.agent.errors import InputError

When = Mapping[str, Mapping[str, Sequence[Any]]]
"""Position to the positions that it depends on, and their options with which it matters; all of them must hold."""
Groups = Iterable[Sequence[Sequence[str]]]
"""Groups of members, each a list of positions; the first positions of a group's members mean the same, and so on."""


@dataclass(frozen=True)
class Cell:
    """A graph whose edges are positions with the same options; its nodes sum what their edges bring."""

    edges: Mapping[str, tuple[int, int]]
    """Position to the nodes that its edge connects, the smaller first; 0 is the input, the largest the output."""
    none: Any = None
    """The option that means no edge, if there is one."""
    skip: Any = None
    """The option that passes its input on unchanged, if there is one."""


class Equality:
    """The declarations of one space, checked and in one order.

    Raises `InputError` naming the position for one that is unknown, an unknown option, conditions in a circle, an edge
    that goes backwards or is there twice, members that differ in their options, and a position that is in too much.
    """

    def __init__(self, space: Positions, when: When | None, cells: Iterable[Cell], interchangeable: Groups) -> None:
        self._space = space
        self._names = list(space.positions)
        self._when = self._checked_when({} if when is None else when)
        self._cells = [self._checked_cell(cell) for cell in items_of(cells, "cells")]
        self._groups = [self._checked_group(group) for group in items_of(interchangeable, "interchangeable")]
        self.core = self._build()

    def __bool__(self) -> bool:
        return bool(self._when or self._cells or self._groups)

    @property
    def conditional(self) -> tuple[bool, ...]:
        """Which positions have a condition."""
        return tuple(name in self._when for name in self._names)

    @property
    def is_more_than_conditions(self) -> bool:
        """Whether cells or interchangeable positions make codes equal."""
        return bool(self._cells or self._groups)

    @property
    def conditions(self) -> list[tuple[int, int, list[int]]]:
        """The conditions in the core's numbers: position, what it depends on, and the digits with which it matters."""
        number = {name: at for at, name in enumerate(self._names)}
        return [
            (number[name], number[parent], [self._space.digit(parent, option) for option in options])
            for name, parents in self._when.items()
            for parent, options in parents.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """The declarations as a JSON value, the same for the same declarations; empty where there are none."""
        cells = [{key: value for key, value in vars(cell).items() if value is not None} for cell in self._cells]
        parts = {"when": self._when, "cells": cells, "interchangeable": self._groups}
        return {name: part for name, part in parts.items() if part}

    def _checked_when(self, when: When) -> dict[str, dict[str, list[Any]]]:
        if not isinstance(when, Mapping):
            raise InputError(f"when is {when!r}; it must be a table of positions")
        for name in when:
            check_known(name, self._names, "when")
        return {name: self._checked_condition(name, when[name]) for name in self._names if name in when}

    def _checked_condition(self, name: str, parents: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        if not isinstance(parents, Mapping) or not parents:
            raise InputError(f"when of position {name!r} is {parents!r}; it must be a table of positions and options")
        for parent, options in parents.items():
            check_known(parent, self._names, f"when of position {name!r}")
            if not is_list(options) or not options:
                raise InputError(f"when of position {name!r}: {parent!r} is {options!r}; it must be a list of options")
        return {parent: self._in_order(parent, parents[parent]) for parent in self._names if parent in parents}

    def _in_order(self, name: str, options: Sequence[Any]) -> list[Any]:
        digits = {self._space.digit(name, option) for option in options}
        return [self._space.positions[name][digit] for digit in sorted(digits)]

    def _checked_cell(self, cell: Cell) -> Cell:
        if not isinstance(cell, Cell) or not isinstance(cell.edges, Mapping) or not cell.edges:
            raise InputError(f"cell {cell!r} has no edges; it needs a table of positions and pairs of nodes")
        for name, nodes in cell.edges.items():
            check_known(name, self._names, "cells")
            if not is_list(nodes) or len(nodes) != 2 or any(type(node) is not int for node in nodes):
                raise InputError(f"position {name!r}: edge {nodes!r} is no pair of nodes, such as [0, 1]")
        edges = {name: (cell.edges[name][0], cell.edges[name][1]) for name in self._names if name in cell.edges}
        self._check_same_options(list(edges), "in one cell")
        first = next(iter(edges))
        for option in (cell.none, cell.skip):
            if option is not None:
                self._space.digit(first, option)
        return Cell(edges, cell.none, cell.skip)

    def _checked_group(self, group: Sequence[Sequence[str]]) -> list[list[str]]:
        members = [
            items_of(member, "an interchangeable member") for member in items_of(group, "an interchangeable group")
        ]
        for name in (name for member in members for name in member):
            check_known(name, self._names, "interchangeable")
        for meaning_the_same in zip(*members, strict=False):
            self._check_same_options(meaning_the_same, "interchangeable")
        return members

    def _check_same_options(self, names: Sequence[str], why: str) -> None:
        first, *others = names
        for name in others:
            if json_text(self._space.positions[name]) != json_text(self._space.positions[first]):
                raise InputError(
                    f"position {first!r} and position {name!r} are {why}, but differ in their options: "
                    f"{json_text(self._space.positions[first])} and {json_text(self._space.positions[name])}"
                )

    def _build(self) -> _core.Canonical:
        """The core numbers positions; its errors are told with their names."""
        number = {name: at for at, name in enumerate(self._names)}
        groups = [[[number[name] for name in member] for member in group] for group in self._groups]
        try:
            return _core.Canonical(
                self._space.core, self.conditions, [*map(self._cell_in_numbers, self._cells)], groups
            )
        except ValueError as error:
            named = re.sub(r"position (\d+)", lambda found: f"position {self._names[int(found[1])]!r}", str(error))
            raise InputError(named) from None

    def _cell_in_numbers(self, cell: Cell) -> tuple[list[tuple[int, int, int]], int, int]:
        first = next(iter(cell.edges))
        none, skip = (-1 if option is None else self._space.digit(first, option) for option in (cell.none, cell.skip))
        return [(self._names.index(name), *nodes) for name, nodes in cell.edges.items()], none, skip


def declared_equality(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a space whose declarations `Equality.to_dict` wrote."""
    cells = [Cell(**cell) for cell in stored.get("cells", ())]
    return {"when": stored.get("when"), "cells": cells, "interchangeable": stored.get("interchangeable", ())}
