"""A search file with a part of its space: the same text and comments, without the options that were dropped.

What is written is read again and compared, so a file that this module does not understand is refused, never damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomlkit

from ncode_search.agent.errors import InputError
from ncode_search.agent.evaluator_cost import CostSource
from ncode_search.agent.pruned_space import PrunedSpace
from ncode_search.agent.space import SearchSpace
from ncode_search.agent.space_file import space_of

Keeps = Callable[[str, Any], bool]
"""Whether an option of a position is kept."""


def pruned_text(path: Path, pruned: PrunedSpace, history: str) -> str:
    """The text of the search file at `path` for the part `pruned` of its space, with a history of its own.

    Raises `InputError` where the part cannot be written so.
    """
    document: Any = tomlkit.parse(path.read_text(encoding="utf-8"))
    kept = _Kept(pruned)
    _prune_positions(document["space"], kept)
    for cell in document.get("equal", {}).get("cells", []):
        _prune_cell(cell, kept)
    for cost in document.get("costs", {}).values():
        _prune_cost(cost, kept)
    _prune_forbidden(document, kept)
    document["search"]["history"] = history
    text: str = tomlkit.dumps(document)
    if _space_of(path, text) != _unmeasured(pruned.space.positions, pruned.space.declared):
        raise InputError(f"{path}: its space is declared in a way that cannot be rewritten; prune it by hand")
    return text


def _space_of(path: Path, text: str) -> SearchSpace:
    """What the text says, but for costs that would have to be measured first."""
    tables = tomlkit.parse(text).unwrap()
    tables["costs"] = {name: cost for name, cost in tables.get("costs", {}).items() if not cost.get("measured")}
    return space_of(tables, CostSource({}, path.parent))


def _unmeasured(positions: Mapping[str, Any], declared: Mapping[str, Any]) -> SearchSpace:
    costs = {name: cost for name, cost in declared.get("costs", {}).items() if not cost.get("measured")}
    return SearchSpace.restore(positions, {**declared, "costs": costs})


class _Kept:
    """What is kept of the whole space."""

    def __init__(self, pruned: PrunedSpace) -> None:
        self._full = pruned.full
        self._digits = dict(zip(pruned.full.positions, pruned.core.kept, strict=True))
        self.conditional = set(pruned.space.declared.get("equal", {}).get("when", {}))

    def has(self, name: str) -> bool:
        """Whether there is such a position."""
        return name in self._digits

    def filter(self, name: str, items: Any) -> None:
        """Drop from a list with an item an option those that are dropped."""
        for digit in reversed(range(len(items))):
            if digit not in self._digits[name]:
                del items[digit]

    def filter_options(self, name: str, options: Any) -> None:
        """Drop the dropped from a list of some options."""
        for at in reversed(range(len(options))):
            if not self.keeps(name, options[at]):
                del options[at]

    def keeps(self, name: str, option: Any) -> bool:
        return self._full.digit(name, _plain(option)) in self._digits[name]


def _plain(option: Any) -> Any:
    return option.unwrap() if hasattr(option, "unwrap") else option


def _named(table: Any, kept: _Kept, prefix: str = "") -> list[tuple[Any, str, str]]:
    """The places of positions in a table that may be nested by dots: ``(table, key, position)``."""
    found = []
    for key, value in table.items():
        whole = f"{prefix}{key}"
        if kept.has(whole):
            found.append((table, key, whole))
        elif isinstance(value, Mapping):
            found += _named(value, kept, f"{whole}.")
    return found


def _prune_positions(space: Any, kept: _Kept) -> None:
    for table, key, name in _named(space, kept):
        value = table[key]
        if not isinstance(value, Mapping):
            kept.filter(name, value)
            continue
        kept.filter(name, value["options"])
        if name not in kept.conditional:
            table[key] = value["options"]  # it can never matter now, or always does
            continue
        for parents, parent_key, parent in _named(value["when"], kept):
            kept.filter_options(parent, parents[parent_key])


def _prune_cell(cell: Any, kept: _Kept) -> None:
    first = _named(cell["edges"], kept)[0][2]
    for key in ("none", "skip"):
        if key in cell and not kept.keeps(first, cell[key]):
            del cell[key]


def _prune_cost(cost: Any, kept: _Kept) -> None:
    for table, key, name in _named(cost.get("options", {}), kept):
        kept.filter(name, table[key])
    for pair in cost.get("pairs", []):
        first, second = pair["positions"]
        kept.filter(first, pair["costs"])
        for row in pair["costs"]:
            kept.filter(second, row)


def _prune_forbidden(document: Any, kept: _Kept) -> None:
    """Those combinations go that kept options cannot make any more."""
    combinations = document.get("forbidden", [])
    for at in reversed(range(len(combinations))):
        places = _named(combinations[at], kept)
        for table, key, name in places:
            if isinstance(table[key], list):
                kept.filter_options(name, table[key])
        if any(_is_impossible(table[key], name, kept) for table, key, name in places):
            del combinations[at]


def _is_impossible(options: Any, name: str, kept: _Kept) -> bool:
    return not options if isinstance(options, list) else not kept.keeps(name, options)
