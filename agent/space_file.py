"""The tables of a search file that describe its space: ``[space]``, ``[equal]``, ``[costs]`` and ``[[forbidden]]``.

Every error is one line that names the table, what is wrong in it and the mend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ncode_search.agent.costs import Cost
from ncode_search.agent.equality import Cell
from ncode_search.agent.errors import InputError
from ncode_search.agent.evaluator_cost import CostSource
from ncode_search.agent.space import SearchSpace
from ncode_search.evaluators.options import suggest

_EQUAL = ("cells", "interchangeable")
_COST = ("options", "pairs", "least", "most", "unit", "measured", "tolerance")
_GIVEN = ("options", "pairs")
_TOLERANCE = 1e-6
"""How far the sums of measured costs may be off, relative to the largest, unless the file says otherwise."""
_PAIR = ("positions", "costs")


def space_of(tables: Mapping[str, Any], source: CostSource) -> SearchSpace:
    """The space that a search file's tables describe; `source` measures the costs that it wants measured.

    Raises `InputError` for anything wrong in them.
    """
    table = tables.get("space", {})
    if not table:
        raise InputError('[space] is missing or empty; name a position and its options a line: "width" = [8, 16, 32]')
    with _within("[space]"):
        given = _flat(table)
        positions = {name: _options(name, value) for name, value in given.items()}
        when = {name: _flat_when(value["when"]) for name, value in given.items() if isinstance(value, Mapping)}
        space = SearchSpace(positions, when=when)
    if equal := tables.get("equal"):
        space = _with_equal(space, when, equal)
    costs, forbidden = tables.get("costs", {}), tables.get("forbidden", [])
    return _with_constraints(space, costs, forbidden, source) if costs or forbidden else space


@contextmanager
def _within(table: str) -> Iterator[None]:
    """Errors say which table they are in."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{table} {error}") from None


def _with_equal(space: SearchSpace, when: Mapping[str, Any], table: Mapping[str, Any]) -> SearchSpace:
    with _within("[equal]"):
        _check_keys(table, _EQUAL, "[equal]")
        cells = [_cell(cell) for cell in _list(table, "cells")]
        groups = _list(table, "interchangeable")
        return SearchSpace(space.positions, when=when, cells=cells, interchangeable=groups)


def _with_constraints(space: SearchSpace, costs: Mapping[str, Any], forbidden: Any, source: CostSource) -> SearchSpace:
    if not isinstance(forbidden, list):
        raise InputError("[forbidden] is no list; write [[forbidden]] above every combination")
    with _within("[[forbidden]]"):
        combinations = [_by_position(one, space.positions) for one in forbidden]
    for name, table in costs.items():
        _check_cost(f"[costs.{name}]", table)
    given = [_cost(name, table, space) for name, table in costs.items() if not table.get("measured")]
    wanted = {name: table for name, table in costs.items() if table.get("measured")}
    return space.constrained([*given, *_measured(space, wanted, source)], combinations)


def _measured(space: SearchSpace, wanted: Mapping[str, Any], source: CostSource) -> list[Cost]:
    if not wanted:
        return []
    tolerances = {name: table.get("tolerance", _TOLERANCE) for name, table in wanted.items()}
    options = source.measure(space, tolerances)
    return [Cost(name, options[name], **_bounds(table), measured=True) for name, table in wanted.items()]


def _check_cost(where: str, table: Any) -> None:
    if not isinstance(table, Mapping):
        raise InputError(f"{where} is {table!r}; it must be a table with options, and perhaps most or least")
    _check_keys(table, _COST, where)
    measured, given = table.get("measured", False), [key for key in _GIVEN if key in table]
    if not isinstance(measured, bool):
        raise InputError(f"{where} measured is {measured!r}; allowed: true, false")
    if measured and given:
        raise InputError(f"{where} is measured and has {given[0]}; leave one of the two out")
    if not measured and not given:
        raise InputError(
            f'{where} has no costs; give those of a position\'s options: options."width" = [1, 2, 4]; '
            "or let the evaluator tell them: measured = true"
        )
    _check_tolerance(where, table, measured)


def _check_tolerance(where: str, table: Mapping[str, Any], measured: bool) -> None:
    tolerance = table.get("tolerance", _TOLERANCE)
    if "tolerance" in table and not measured:
        raise InputError(f"{where} has a tolerance, which is for measured costs; leave it out")
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 <= tolerance < 1:
        raise InputError(f"{where} tolerance is {tolerance!r}; allowed: a share of the largest cost, from 0 to below 1")


def _cost(name: str, table: Mapping[str, Any], space: SearchSpace) -> Cost:
    where = f"[costs.{name}]"
    with _within(where):
        options = _by_position(table.get("options", {}), space.positions)
        pairs: dict[Any, Any] = {}
        for positions, costs in map(_pair, _list(table, "pairs")):
            if positions in pairs:
                raise InputError(f"the pair {', '.join(positions)} is given twice; keep one of them")
            pairs[positions] = costs
    return Cost(name, options, pairs, **_bounds(table))


def _bounds(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: table.get(key) for key in ("least", "most", "unit")}


def _pair(table: Any) -> tuple[tuple[str, ...], Any]:
    if not isinstance(table, Mapping) or not _is_names(table.get("positions")) or "costs" not in table:
        raise InputError(f'a pair is {table!r}; write {{ positions = ["a", "b"], costs = [[1, 2], [3, 4]] }}')
    _check_keys(table, _PAIR, "a pair")
    return tuple(table["positions"]), table["costs"]


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _by_position(table: Any, positions: Mapping[str, Any], prefix: str = "") -> Any:
    """``stem.width = ...`` without quotes is a nested table to TOML; below a position's name, tables are left alone."""
    if not isinstance(table, Mapping):
        return table
    flat: dict[str, Any] = {}
    for name, value in table.items():
        whole = f"{prefix}{name}"
        nested = whole not in positions and isinstance(value, Mapping) and value
        flat |= _by_position(value, positions, f"{whole}.") if nested else {whole: value}
    return flat


def _cell(table: Any) -> Cell:
    if not isinstance(table, Mapping) or not isinstance(table.get("edges"), Mapping):
        raise InputError(f"a cell is {table!r}; write {{ edges = {{ e01 = [0, 1] }}, none = ..., skip = ... }}")
    _check_keys(table, [field.name for field in dataclasses.fields(Cell)], "a cell")
    return Cell(_flat(table["edges"]), table.get("none"), table.get("skip"))


def _list(table: Mapping[str, Any], key: str) -> list[Any]:
    value = table.get(key, [])
    if not isinstance(value, list):
        raise InputError(f"{key} is {value!r}; it must be a list")
    return value


def _check_keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise InputError(f"{key} is no key of {where}; {suggest(key, known)}")


def _is_conditional(value: Mapping[str, Any]) -> bool:
    """``{ options = [3, 5], when = { op = ["conv"] } }``; any other table is a part of positions' names."""
    return value.keys() == {"options", "when"} or isinstance(value.get("when"), Mapping)


def _options(name: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if value.keys() != {"options", "when"}:
        raise InputError(f"position {name!r} has the keys {', '.join(value)}; a conditional one has options and when")
    return value["options"]


def _flat_when(when: Any) -> Any:
    return _flat(when) if isinstance(when, Mapping) else when


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``stem.width = [8, 16]`` without quotes is a nested table to TOML, and the same position to us."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        nested = isinstance(value, Mapping) and not _is_conditional(value)
        inner = _flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
        if twice := flat.keys() & inner.keys():
            raise InputError(f"position {min(twice)!r} is given twice; keep one of them")
        flat |= inner
    return flat
