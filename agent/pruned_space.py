"""Parts of a space: the options that matter most, by a saliency for every option.

`prune` keeps the top options of every position, or of all positions together, and never empties one. What it returns
is a space of its own, with dense digits and all that the whole space declares, and the way back to the whole space.

Positions that must have the same options (the edges of a cell, interchangeable positions) keep the same ones, by their
mean saliency. Saliencies are given, measured on weights (`l1_saliency`), or taken from trials (`marginal_saliency`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncode_search import _core
from ncode_search.agent.declared import items_of
from ncode_search.agent.errors import InputError
from ncode_search.agent.history import History
from ncode_search.agent.observations import Codes, Observations
from ncode_search.agent.settings import check_keep
from ncode_search.agent.space import SearchSpace

Saliency = Mapping[str, Sequence[float] | NDArray[np.float64]]
"""Position to how much each of its options matters; more is better. Positions that are not named are left whole."""
SCOPES = ("position", "global")

_NO_WEIGHTS = ("running_mean", "running_var", "num_batches_tracked")
"""What normalizations keep beside their weights."""


@dataclass(frozen=True)
class PrunedSpace:
    """A part of a space."""

    full: SearchSpace
    """The space that was pruned."""
    space: SearchSpace
    """What is left of it: the same positions, with fewer options in the same order."""
    core: _core.Subspace
    """The digits' way there and back."""

    def restore(self, codes: Codes) -> Codes:
        """Codes of the part, shape ``(n, L)``, as canonical codes of the whole space."""
        return self.full.canonical(self.core.restore(codes))

    def contains(self, codes: Codes) -> NDArray[np.bool_]:
        """Which codes of the whole space, shape ``(n, L)``, have kept options only, where they matter."""
        return self.core.contains(self._mattering(codes))

    def prune(self, codes: Codes) -> Codes:
        """Codes of the whole space, shape ``(n, L)``, as canonical codes of the part.

        Raises `InputError` for the first that is not in it.
        """
        try:
            return self.space.canonical(self.core.prune(self._mattering(codes)))
        except ValueError as error:
            raise InputError(str(error)) from None

    def _mattering(self, codes: Codes) -> Codes:
        """The same codes with a kept option where a position does not matter."""
        first = np.array([kept[0] for kept in self.core.kept], dtype=np.uint8)
        return np.where(self.full.active(codes), codes, first)


def prune(space: SearchSpace, saliency: Saliency, keep: int | float, scope: str = "position") -> PrunedSpace:
    """The part of `space` with the options of the largest saliency; of equal ones the first are kept.

    Args:
        keep: How many options (an int) or what share of them, rounded up (a float up to 1.0).
        scope: ``position``: so many of every position; ``global``: so many of all named positions together, whose
            saliencies must be comparable then. The best option of a position is always kept. Positions that must keep
            the same options, such as a cell's edges, keep an option together or not at all.

    Raises:
        InputError: for a saliency that is not one finite number an option, a `keep` that cannot be, and where no code
            of the part keeps to the space's bounds.
    """
    check_keep(keep)
    _check_scope(scope)
    _check_names(space, saliency)
    groups = [_Group(space, names, saliency) for names in _same_options(space) if any(one in saliency for one in names)]
    kept = {name: list(range(len(options))) for name, options in space.positions.items()}
    for group, digits in zip(groups, _kept_of_groups(groups, keep, scope), strict=True):
        kept |= dict.fromkeys(group.names, digits)
    return _part(space, kept)


def best_options(space: SearchSpace, known: Observations, after: int, keep: int | float) -> dict[str, list[Any]]:
    """Position to the options that did best in the first `after` of the known trials, see `prune`.

    All options where those leave no code that keeps to the space's constraints.
    """
    first = Observations(known.codes[:after], known.values[:after], known.codes[:0], known.codes[:0])
    try:
        pruned = prune(space, marginal_saliency(space, first), keep)
        kept = {name: list(options) for name, options in pruned.space.positions.items()}
        narrowed(space, kept)
    except InputError:
        return {name: list(options) for name, options in space.positions.items()}
    return kept


def narrowed(space: SearchSpace, kept: Mapping[str, Sequence[Any]]) -> SearchSpace:
    """`space` with all but the `kept` options of the named positions forbidden: its codes are codes of `space`.

    Raises `InputError` where no code is left.
    """
    forbidden = []
    for name, options in kept.items():
        digits = {space.digit(name, option) for option in options}
        if dropped := [option for digit, option in enumerate(space.positions[name]) if digit not in digits]:
            forbidden.append({name: dropped})
    if not forbidden:
        return space
    declared = {**space.declared, "forbidden": [*space.declared.get("forbidden", ()), *forbidden]}
    return SearchSpace.restore(space.positions, declared)


def l1_saliency(state_dict: Mapping[str, Any], mapping: Mapping[str, Sequence[Sequence[str]]]) -> Saliency:
    """The L1 norm of the weights that belong to each option.

    Args:
        state_dict: A module's, such as a supernet's: names to tensors.
        mapping: Position to a list, for each of its options, of names of parameters or modules; none: no weights.

    Raises:
        InputError: for a name that the state dictionary lacks.
    """
    if not isinstance(state_dict, Mapping):
        raise InputError(f"a {type(state_dict).__name__} is no state dictionary; give module.state_dict()")
    return {
        position: [
            math.fsum(_l1_norm(state_dict, name) for name in items_of(names, f"mapping of position {position!r}"))
            for names in options
        ]
        for position, options in mapping.items()
    }


def marginal_saliency(space: SearchSpace, known: Observations, prior: float = 2.0) -> Saliency:
    """How well the trials with each option did: their mean rank among all, 0 the worst and 1 the best.

    Trials where a position does not matter tell nothing of it. Every option counts as tried `prior` times more with the
    middle rank, so that few trials say little.
    """
    order = np.argsort(np.argsort(known.values, kind="stable"), kind="stable")
    ranks = (order + 0.5) / max(len(known), 1)
    active = space.active(known.codes)
    return {
        name: _shrunk_means(known.codes[active[:, at], at], ranks[active[:, at]], len(options), prior)
        for at, (name, options) in enumerate(space.positions.items())
    }


def history_saliency(history: History, prior: float = 2.0) -> tuple[SearchSpace, Saliency]:
    """The space of a history, and the marginal saliency of its completed trials."""
    space = history.space()
    texts, values = history.finished()
    complete = ~np.isnan(values)
    codes = space.from_text(texts)[complete]
    nothing = codes[:0]
    known = Observations(codes, history.objective().sign * values[complete], nothing, nothing)
    return space, marginal_saliency(space, known, prior)


class _Group:
    """Positions that keep the same options."""

    def __init__(self, space: SearchSpace, names: Sequence[str], saliency: Saliency) -> None:
        self.names = names
        rows = [_checked_row(space, name, saliency[name]) for name in names if name in saliency]
        self.scores = np.mean(rows, axis=0)
        self.ranked = np.argsort(-self.scores, kind="stable")


def _kept_of_groups(groups: Sequence[_Group], keep: int | float, scope: str) -> list[list[int]]:
    if scope == "position":
        return [sorted(group.ranked[: _count(keep, len(group.scores))].tolist()) for group in groups]
    best = [[int(group.ranked[0])] for group in groups]
    rest = [(-group.scores[digit], number, digit) for number, group in enumerate(groups) for digit in group.ranked[1:]]
    left = _count(keep, sum(len(group.names) * len(group.scores) for group in groups))
    left -= sum(len(group.names) for group in groups)
    for _, number, digit in sorted(rest):
        left -= len(groups[number].names)
        if left < 0:
            break
        best[number].append(int(digit))
    return [sorted(digits) for digits in best]


def _count(keep: int | float, of: int) -> int:
    # A share of 0.7 of ten options is seven, whatever the product's last bit says.
    return keep if isinstance(keep, int) else max(math.ceil(keep * of - 1e-9), 1)


def _part(space: SearchSpace, kept: dict[str, list[int]]) -> PrunedSpace:
    equal, never = _kept_equality(space, kept)
    kept |= {name: kept[name][:1] for name in never}
    positions = {name: [space.positions[name][digit] for digit in digits] for name, digits in kept.items()}
    costs, forbidden = _kept_costs(space, kept, never), _kept_forbidden(space, kept, never)
    declared = {"equal": equal, "costs": costs, "forbidden": forbidden}
    try:
        part = SearchSpace.restore(positions, declared)
    except InputError as error:
        raise InputError(f"the kept options are too few: {error}; keep more") from None
    return PrunedSpace(space, part, _core.Subspace(space.core.sizes, list(kept.values())))


def _kept_equality(space: SearchSpace, kept: Mapping[str, list[int]]) -> tuple[dict[str, Any], set[str]]:
    """What makes kept codes equal, and the positions that can no longer matter: those have no condition."""
    equal = space.declared.get("equal", {})
    when = {
        name: {parent: _kept_options(space, kept, parent, options) for parent, options in parents.items()}
        for name, parents in equal.get("when", {}).items()
    }
    never: set[str] = set()
    while more := {
        name for name, parents in when.items() if name not in never
        and any(not options or parent in never for parent, options in parents.items())
    }:  # fmt: skip
        never |= more
    cells = [_kept_cell(space, kept, cell) for cell in equal.get("cells", ())]
    when = {name: parents for name, parents in when.items() if name not in never}
    return {"when": when, "cells": cells, "interchangeable": equal.get("interchangeable", ())}, never


def _kept_options(space: SearchSpace, kept: Mapping[str, list[int]], name: str, options: Iterable[Any]) -> list[Any]:
    return [option for option in options if space.digit(name, option) in kept[name]]


def _kept_cell(space: SearchSpace, kept: Mapping[str, list[int]], cell: Mapping[str, Any]) -> dict[str, Any]:
    first = next(iter(cell["edges"]))
    special = {key: cell[key] for key in ("none", "skip") if key in cell}
    return {
        "edges": cell["edges"],
        **{key: option for key, option in special.items() if space.digit(first, option) in kept[first]},
    }


def _kept_costs(space: SearchSpace, kept: Mapping[str, list[int]], never: set[str]) -> dict[str, Any]:
    costs = {}
    for name, table in space.declared.get("costs", {}).items():
        options = {
            one: [row[digit] for digit in kept[one]]
            for one, row in table.get("options", {}).items()
            if one not in never
        }
        pairs = [_kept_pair(pair, kept) for pair in table.get("pairs", ()) if never.isdisjoint(pair["positions"])]
        costs[name] = {**table, "options": options, "pairs": pairs}
    return costs


def _kept_pair(pair: Mapping[str, Any], kept: Mapping[str, list[int]]) -> dict[str, Any]:
    first, second = pair["positions"]
    rows = [[pair["costs"][digit][other] for other in kept[second]] for digit in kept[first]]
    return {"positions": [first, second], "costs": rows}


def _kept_forbidden(space: SearchSpace, kept: Mapping[str, list[int]], never: set[str]) -> list[dict[str, list[Any]]]:
    """Those combinations that kept options can still make."""
    combinations = [
        {name: _kept_options(space, kept, name, options) for name, options in one.items()}
        for one in space.declared.get("forbidden", ())
        if never.isdisjoint(one)
    ]
    return [one for one in combinations if all(one.values())]


def _same_options(space: SearchSpace) -> list[list[str]]:
    """The positions in groups that keep the same options, in the space's order."""
    equal = space.declared.get("equal", {})
    linked = [list(cell["edges"]) for cell in equal.get("cells", ())]
    linked += [list(names) for group in equal.get("interchangeable", ()) for names in zip(*group, strict=True)]
    in_group = {name for names in linked for name in names}
    return linked + [[name] for name in space if name not in in_group]


def _check_scope(scope: str) -> None:
    if scope not in SCOPES:
        raise InputError(f"scope is {scope!r}; allowed: {', '.join(SCOPES)}")


def _check_names(space: SearchSpace, saliency: Saliency) -> None:
    if not isinstance(saliency, Mapping):
        raise InputError(f"saliency is {saliency!r}; give a table of positions, with a number for every option")
    for name in saliency:
        if name not in space.positions:
            raise InputError(f"saliency: unknown position {name!r}; allowed: {', '.join(map(repr, space))}")


def _checked_row(space: SearchSpace, name: str, row: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    count = len(space.positions[name])
    try:
        scores = np.asarray(row, dtype=np.float64)
    except (TypeError, ValueError):
        scores = np.empty(0)
    if scores.shape != (count,) or not np.isfinite(scores).all():
        raise InputError(f"saliency of position {name!r} is {row!r}; it must be {count} finite numbers, one an option")
    return scores


def _l1_norm(state_dict: Mapping[str, Any], name: str) -> float:
    tensors = [
        value
        for key, value in state_dict.items()
        if (key == name or key.startswith(f"{name}.")) and not key.endswith(_NO_WEIGHTS) and hasattr(value, "shape")
    ]
    if not tensors:
        has = ", ".join([*state_dict][:5]) or "nothing"
        raise InputError(f"the state dictionary has no weights of {name!r}; it has {has}, ...")
    return math.fsum(float(abs(tensor).sum()) for tensor in tensors)


def _shrunk_means(
    digits: NDArray[np.uint8], ranks: NDArray[np.float64], size: int, prior: float
) -> NDArray[np.float64]:
    counts = np.bincount(digits, minlength=size)
    means: NDArray[np.float64] = (np.bincount(digits, ranks, minlength=size) + prior / 2) / np.maximum(
        counts + prior, 1e-12
    )
    return means
