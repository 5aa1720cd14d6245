"""Every function of the core, its kinds of arguments, and what it must give, in the slow reference's words.

`test_functions.py` compares this table with the stub: a function without a line here fails there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncode_search import _core

from . import reference, reference_feasible
from .reference import Code
from .strategies import array, tuples
from .worlds import World, indices, last

SEED = 2**64 - 3
ROWS = (0, 1, 2, 63, 64, 65, 300)
"""Of batches: beside the sizes of words and of blocks."""


Check = Callable[[World, int], tuple[object, object]]
"""For a number of rows: what the core gives, and what it must."""


@dataclass(frozen=True)
class Function:
    """One function of the core."""

    check: Check
    takes: dict[str, Any] = field(default_factory=dict)
    """Its arguments: their kinds, see `test_functions.ODD`."""
    of: str = ""
    """The attribute of a world that it is called on."""
    needs_index: bool = False
    """Whether it is for spaces of at most 2**128 codes."""
    small: bool = False
    """Whether its reference goes through all feasible codes."""


def restored(world: World, codes: Sequence[Code]) -> list[Code]:
    return [tuple(world.kept[p][digit] for p, digit in enumerate(code)) for code in codes]


def _drawn(world: World, codes: NDArray[np.uint8]) -> list[Code]:
    return restored(world, tuples(codes))


def _kept_codes(world: World, rows: int) -> NDArray[np.uint8]:
    return array(restored(world, reference.random(world.dense, rows, 5)), world.length)


def _seen(world: World, rows: int) -> tuple[_core.CodeSet, NDArray[np.uint8]]:
    """A set of the first half of some codes, and all of them."""
    codes, seen = world.codes(rows), _core.CodeSet(world.space)
    seen.insert(codes[: rows // 2])
    return seen, codes


def _first(codes: Sequence[Code], known: set[Code]) -> list[bool]:
    mask = []
    for code in codes:
        mask.append(code not in known)
        known.add(code)
    return mask


def _check_insert(world: World, rows: int) -> tuple[object, object]:
    seen, codes = _seen(world, rows)
    return seen.insert(codes).tolist(), _first(tuples(codes), set(tuples(codes[: rows // 2])))


def _check_contains(world: World, rows: int) -> tuple[object, object]:
    seen, codes = _seen(world, rows)
    return seen.contains(codes).tolist(), [code in tuples(codes[: rows // 2]) for code in tuples(codes)]


def _check_remove(world: World, rows: int) -> tuple[object, object]:
    seen, codes = _seen(world, rows)
    known = set(tuples(codes[: rows // 2]))
    was = [code in known for code in tuples(codes)]
    first = _first(tuples(codes), set())
    return seen.remove(codes).tolist(), [a and b for a, b in zip(was, first, strict=True)]


def _check_clear(world: World, rows: int) -> tuple[object, object]:
    seen, codes = _seen(world, rows)
    seen.clear()
    return (len(seen), seen.contains(codes).any()), (0, False)


def _check_neighbours(world: World, rows: int) -> tuple[object, object]:
    code = world.codes(3)[rows % 3]
    return tuples(world.space.neighbours(code)), reference.neighbours(world.sizes, tuple(code.tolist()))


def _check_validate(world: World, rows: int) -> tuple[object, object]:
    codes = world.codes(rows)
    world.space.validate(codes)
    if not rows:
        return None, None
    codes[-1, -1] = world.sizes[-1]
    try:
        world.space.validate(codes)
    except ValueError as error:
        at, digit = f"row {rows - 1}, position {world.length - 1}", world.sizes[-1]
        return str(error), f"{at}: digit {digit} is not in 0..{digit - 1}"
    return "accepted", "refused"


CODES, DRAWS = {"codes": "codes"}, {"count": "count", "seed": "seed"}
SAMPLE, PART = DRAWS | {"start": "start"}, {"start": "start", "count": "count"}
PARENTS = {"parents": "codes", "seed": "seed", "changes": "count"}
CROSS = {"first": "codes", "second": "codes", "seed": "seed"}

FUNCTIONS: dict[str, Function] = {
    "hash64": Function(
        lambda w, n: (_core.hash64(w.codes(n)).tolist(), [reference.hash64(code) for code in tuples(w.codes(n))]), CODES
    ),
    "hash128": Function(
        lambda w, n: (
            _core.hash128(w.codes(n)).tolist(),
            [[*reference.hash128(code)] for code in tuples(w.codes(n))],
        ),
        CODES,
    ),
    "Space.__init__": Function(lambda w, n: (repr(_core.Space(w.sizes)), f"Space({w.sizes})"), {"sizes": "numbers"}),
    "Space.sizes": Function(lambda w, n: (w.space.sizes, w.sizes)),
    "Space.length": Function(lambda w, n: (w.space.length, w.length)),
    "Space.size": Function(lambda w, n: (w.space.size, w.size)),
    "Space.validate": Function(_check_validate, CODES, "space"),
    "Space.to_text": Function(
        lambda w, n: (w.space.to_text(w.codes(n)), [reference.text(code) for code in tuples(w.codes(n))]),
        CODES,
        "space",
    ),
    "Space.from_text": Function(
        lambda w, n: (
            tuples(w.space.from_text([reference.text(code) for code in tuples(w.codes(n))])),
            tuples(w.codes(n)),
        ),
        {"texts": "texts"},
        "space",
    ),
    "Space.to_index": Function(
        lambda w, n: (w.space.to_index(w.codes(n)), [reference.index(w.sizes, code) for code in tuples(w.codes(n))]),
        CODES,
        "space",
        needs_index=True,
    ),
    "Space.from_index": Function(
        lambda w, n: (
            tuples(w.space.from_index(indices(w.size, n))),
            [reference.code_at(w.sizes, index) for index in indices(w.size, n)],
        ),
        {"indices": "numbers"},
        "space",
        needs_index=True,
    ),
    "Space.enumerate": Function(
        lambda w, n: (
            tuples(w.space.enumerate(last(w.size, n), n)),
            [reference.code_at(w.sizes, at) for at in range(last(w.size, n), min(w.size, last(w.size, n) + n))],
        ),
        PART,
        "space",
        needs_index=True,
    ),
    "Space.sample": Function(
        lambda w, n: (
            w.space.to_index(w.space.sample(n, SEED, last(w.size, n))),
            [
                reference.permuted(w.size, SEED, at)
                for at in range(last(w.size, n), min(w.size, last(w.size, n) + n))
            ],
        ),
        SAMPLE,
        "space",
        needs_index=True,
    ),
    "Space.random": Function(
        lambda w, n: (tuples(w.space.random(n, SEED)), reference.random(w.sizes, n, SEED)), DRAWS, "space"
    ),
    "Space.mutate": Function(
        lambda w, n: (
            tuples(w.space.mutate(w.codes(n), SEED, n)),
            reference.mutate(w.sizes, tuples(w.codes(n)), SEED, n),
        ),
        PARENTS,
        "space",
    ),
    "Space.crossover": Function(
        lambda w, n: (
            tuples(w.space.crossover(w.codes(n), w.codes(n)[::-1], SEED)),
            reference.crossover(tuples(w.codes(n)), tuples(w.codes(n)[::-1]), SEED),
        ),
        CROSS,
        "space",
    ),
    "Space.neighbours": Function(_check_neighbours, {"code": "code"}, "space"),
    "Subspace.__init__": Function(
        lambda w, n: (_core.Subspace(w.sizes, w.kept).kept, w.kept), {"sizes": "numbers", "kept": "lists"}
    ),
    "Subspace.kept": Function(lambda w, n: (w.subspace.kept, w.kept)),
    "Subspace.dense": Function(lambda w, n: (w.subspace.dense.sizes, w.dense)),
    "Subspace.size": Function(lambda w, n: (w.subspace.size, reference.size(w.dense))),
    "Subspace.contains": Function(
        lambda w, n: (
            w.subspace.contains(w.codes(n)).tolist(),
            [all(digit in w.kept[p] for p, digit in enumerate(code)) for code in tuples(w.codes(n))],
        ),
        CODES,
        "subspace",
    ),
    "Subspace.prune": Function(
        lambda w, n: (tuples(w.subspace.prune(_kept_codes(w, n))), reference.random(w.dense, n, 5)),
        {"codes": "kept codes"},
        "subspace",
    ),
    "Subspace.restore": Function(
        lambda w, n: (
            tuples(w.subspace.restore(array(reference.random(w.dense, n, 5), w.length))),
            tuples(_kept_codes(w, n)),
        ),
        {"codes": "dense codes"},
        "subspace",
    ),
    "Subspace.to_index": Function(
        lambda w, n: (
            w.subspace.to_index(_kept_codes(w, n)),
            [reference.index(w.dense, code) for code in reference.random(w.dense, n, 5)],
        ),
        {"codes": "kept codes"},
        "subspace",
        needs_index=True,
    ),
    "Subspace.from_index": Function(
        lambda w, n: (
            tuples(w.subspace.from_index(indices(w.subspace.size, n))),
            restored(w, [reference.code_at(w.dense, index) for index in indices(w.subspace.size, n)]),
        ),
        {"indices": "numbers"},
        "subspace",
        needs_index=True,
    ),
    "Subspace.enumerate": Function(
        lambda w, n: (
            tuples(w.subspace.enumerate(last(w.subspace.size, n), n)),
            _drawn(w, w.subspace.dense.enumerate(last(w.subspace.size, n), n)),
        ),
        PART,
        "subspace",
        needs_index=True,
    ),
    "Subspace.sample": Function(
        lambda w, n: (
            tuples(w.subspace.sample(n, SEED, last(w.subspace.size, n))),
            _drawn(w, w.subspace.dense.sample(n, SEED, last(w.subspace.size, n))),
        ),
        SAMPLE,
        "subspace",
        needs_index=True,
    ),
    "Subspace.random": Function(
        lambda w, n: (tuples(w.subspace.random(n, SEED)), restored(w, reference.random(w.dense, n, SEED))),
        DRAWS,
        "subspace",
    ),
    "Canonical.__init__": Function(
        lambda w, n: (_core.Canonical(w.space).active(w.codes(n)).all(), True),
        {
            "space": "space",
            "conditions": "lists",
            "cells": "lists",
            "interchangeable": "lists",
            "table_codes": "count",
        },
    ),
    "Canonical.apply": Function(
        lambda w, n: (
            tuples(w.canonical.apply(w.codes(n))),
            [
                tuple(digit * one for digit, one in zip(code, w.matters(code), strict=True))
                for code in tuples(w.codes(n))
            ],
        ),
        CODES,
        "canonical",
    ),
    "Canonical.active": Function(
        lambda w, n: (
            w.canonical.active(w.codes(n)).tolist(),
            [w.matters(code) for code in tuples(w.codes(n))],
        ),
        CODES,
        "canonical",
    ),
    "Feasible.__init__": Function(
        lambda w, n: (_core.Feasible(w.space).ranges, []),
        {
            "space": "space",
            "costs": "lists",
            "forbidden": "lists",
            "conditions": "lists",
            "canonical": "flag",
            "max_states": "count",
        },
    ),
    "Feasible.size": Function(lambda w, n: (w.feasible.size, len(w.feasible_codes))),
    "Feasible.states": Function(lambda w, n: (0 < w.feasible.states <= 2 * w.length, True)),
    "Feasible.conflict": Function(lambda w, n: (w.feasible.conflict, None)),
    "Feasible.ranges": Function(lambda w, n: (w.feasible.ranges, [(0, 1 if max(w.sizes) > 1 else 0)])),
    "Feasible.cost": Function(
        lambda w, n: (
            w.feasible.cost(w.codes(n)).tolist(),
            [[sum(digit > 0 for digit in code)] for code in tuples(w.codes(n))],
        ),
        CODES,
        "feasible",
    ),
    "Feasible.contains": Function(
        lambda w, n: (
            w.feasible.contains(w.codes(n)).tolist(),
            [sum(digit > 0 for digit in code) <= 1 for code in tuples(w.codes(n))],
        ),
        CODES,
        "feasible",
    ),
    "Feasible.to_index": Function(
        lambda w, n: (
            w.feasible.to_index(array(w.some_feasible(n), w.length)),
            [7 * row % len(w.feasible_codes) for row in range(n)],
        ),
        {"codes": "feasible codes"},
        "feasible",
    ),
    "Feasible.from_index": Function(
        lambda w, n: (
            tuples(w.feasible.from_index([7 * row % len(w.feasible_codes) for row in range(n)])),
            w.some_feasible(n),
        ),
        {"indices": "numbers"},
        "feasible",
    ),
    "Feasible.enumerate": Function(
        lambda w, n: (
            tuples(w.feasible.enumerate(last(len(w.feasible_codes), n), n)),
            w.feasible_codes[last(len(w.feasible_codes), n) :][:n],
        ),
        PART,
        "feasible",
    ),
    "Feasible.sample": Function(
        lambda w, n: (
            tuples(w.feasible.sample(n, SEED, 1)),
            reference_feasible.sample(w.feasible_codes, 1, n, SEED),
        ),
        SAMPLE,
        "feasible",
    ),
    "Feasible.random": Function(
        lambda w, n: (tuples(w.feasible.random(n, SEED)), reference_feasible.random(w.feasible_codes, n, SEED)),
        DRAWS,
        "feasible",
    ),
    "Feasible.mutate": Function(
        lambda w, n: (
            tuples(w.feasible.mutate(array(w.some_feasible(n % 5), w.length), SEED, 1)),
            reference_feasible.mutate(w.sizes, w.feasible_codes, w.some_feasible(n % 5), SEED, 1),
        ),
        PARENTS,
        "feasible",
        small=True,
    ),
    "Feasible.crossover": Function(
        lambda w, n: (
            tuples(w.feasible.crossover(w.codes(n % 4), w.codes(n % 4)[::-1], SEED)),
            reference_feasible.crossover(w.feasible_codes, tuples(w.codes(n % 4)), tuples(w.codes(n % 4)[::-1]), SEED),
        ),
        CROSS,
        "feasible",
        small=True,
    ),
    "CodeSet.__init__": Function(lambda w, n: (len(_core.CodeSet(w.space)), 0), {"space": "space"}),
    "CodeSet.insert": Function(_check_insert, CODES, "set"),
    "CodeSet.contains": Function(_check_contains, CODES, "set"),
    "CodeSet.remove": Function(_check_remove, CODES, "set"),
    "CodeSet.clear": Function(_check_clear),
    "CodeSet.__len__": Function(lambda w, n: (len(_seen(w, n)[0]), len(set(tuples(w.codes(n)[: n // 2]))))),
    "CodeSet.nbytes": Function(lambda w, n: (0 < _seen(w, n)[0].nbytes < 100_000, True)),
}  # fmt: skip
