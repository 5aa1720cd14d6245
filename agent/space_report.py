"""``ncode space``: a search file's space as a person reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.errors import InputError
from ncode_search.agent.observations import ObservationLog
from ncode_search.agent.pool import CandidatePool
from ncode_search.agent.report import option_text
from ncode_search.agent.search_file import load_space
from ncode_search.agent.space import SearchSpace

SAMPLES = 10
"""Configurations that are shown."""


def space_lines(path: Path) -> list[str]:
    """Positions and options, sizes, costs and a few configurations. Raises `InputError` for a wrong file."""
    space = load_space(path)
    pool = CandidatePool(space).draw(ObservationLog(len(space)).view(), SAMPLES, np.random.default_rng(0))
    return [
        f"{path}: {len(space)} positions",
        *_table({name: _options_text(space, name) for name in space}),
        *_table({**_sizes(space), **_costs(space)}),
        f"{len(pool)} of them:",
        *(f"  {text}  {_config_text(space, code)}" for text, code in zip(space.to_text(pool), pool, strict=True)),
    ]


def _table(rows: dict[str, str]) -> list[str]:
    width = max(map(len, rows))
    return [f"  {name:<{width}}  {text}" for name, text in rows.items()]


def _options_text(space: SearchSpace, name: str) -> str:
    conditions = space.declared.get("equal", {}).get("when", {}).get(name, {})
    only = " and ".join(f"{parent} is {_listed(options, ' or ')}" for parent, options in conditions.items())
    return _listed(space.positions[name]) + (f"   only where {only}" if only else "")


def _listed(options: Any, by: str = ", ") -> str:
    return by.join(map(option_text, options))


def _sizes(space: SearchSpace) -> dict[str, str]:
    sizes = {"codes": f"{space.size:,}"}
    if space.is_constrained:
        sizes["feasible"] = f"{space.feasible:,}"
    if space.has_twins:
        sizes["different"] = _unique_text(space)
    return sizes


def _unique_text(space: SearchSpace) -> str:
    try:
        return f"{space.unique_size():,}"
    except InputError as error:
        return f"not counted: {error}"


def _costs(space: SearchSpace) -> dict[str, str]:
    declared = space.declared.get("costs", {})
    return {
        f"cost {name}": f"{least:,} to {most:,}"
        + "".join(f", {key} = {declared[name][key]:,}" for key in ("least", "most") if key in declared[name])
        for name, (least, most) in space.cost_ranges().items()
    }


def _config_text(space: SearchSpace, code: NDArray[np.uint8]) -> str:
    matters = space.active(code[np.newaxis])[0]
    options = [f"{name} {option_text(one)}" for name, one in space.decode(code).items()]
    costs = [
        f"{name} {cost:,.6g}" for name, cost in zip(space.cost_names, space.cost(code[np.newaxis])[0], strict=True)
    ]
    shown = ", ".join(text for text, one in zip(options, matters, strict=True) if one)
    return shown + (f"; {', '.join(costs)}" if costs else "")
