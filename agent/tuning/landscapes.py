"""Synthetic score landscapes: random functions of a code, of the kinds that real searches meet.

A ranker trained on these alone has to learn how scores depend on choices in general: additive effects, interactions,
cells whose dead paths make most choices meaningless, hyper-parameter bowls with cliffs, conditional positions,
saturating tops, failures, noise that may depend on the score. `draw` makes one at random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.tuning.cells import Cell

Codes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Function = Callable[[Codes], Floats]

VERSION = 2
"""Of what a seed draws: raised whenever that changes, so that no folder of training data mixes two."""


@dataclass(frozen=True)
class Condition:
    """Positions that matter under some options of another one only."""

    gate: int
    closes: NDArray[np.bool_]
    """Under which options of the gate the positions are inactive, shape ``(options,)``."""
    gated: tuple[int, ...]


@dataclass(frozen=True)
class Noise:
    """How far measurements are off; called with true scores, shape ``(n,)``, it gives standard deviations."""

    level: float
    """For a middling score, which is 0."""
    slope: float = 0.0
    """Above 0: the better, the noisier, and the other way round; the logarithm's change a unit of the score."""

    def __call__(self, scores: Floats) -> Floats:
        """Never above 1, which is as far as the scores themselves spread."""
        return np.minimum(self.level * np.exp(self.slope * scores.clip(-3, 3)), 1.0)


@dataclass(frozen=True)
class Landscape:
    """A space and the score of each of its codes."""

    sizes: tuple[int, ...]
    """Options a position."""
    ordered: tuple[bool, ...]
    """Which positions have ordered options, and are known to."""
    score: Function
    """True scores, shape ``(n,)``, of codes of shape ``(n, L)``; higher is better."""
    noise: Noise
    failing: Function | None = None
    """Above 0 where a trial fails; None where none does."""
    conditions: tuple[Condition, ...] = ()
    """What makes digits inactive: neither scores nor failures depend on those."""


def draw(rng: np.random.Generator) -> Landscape:
    """One landscape."""
    cell = rng.random() < 0.3
    sizes, ordered = _cell_sizes(rng) if cell else _sizes(rng)
    parts = [_CELLS[rng.integers(len(_CELLS))] if cell else _FAMILIES[rng.integers(len(_FAMILIES))]]
    if rng.random() < 0.4:
        parts.append(_FAMILIES[rng.integers(len(_FAMILIES))])
    probe = _probe(sizes, rng)
    functions = [_standardized(part(sizes, ordered, rng), probe) for part in parts]
    shares = rng.dirichlet([3.0, 1.0][: len(functions)])
    known = tuple(bool(flag and rng.random() < 0.6) for flag in ordered)
    conditions = _conditions(sizes, rng)
    mixed = _standardized(_conditional(_mixture(functions, shares), conditions), probe)
    score = _standardized(_warped(mixed, rng), probe)
    failing = _failures(sizes, ordered, conditions, rng)
    return Landscape(tuple(sizes), known, score, _noise(rng), failing, conditions)


def active(codes: Codes, conditions: Sequence[Condition]) -> Codes:
    """The codes with their first option at inactive positions, shape ``(n, L)``.

    An inactive gate makes inactive what it gates, whatever its option.
    """
    inactive = np.zeros(codes.shape, dtype=bool)
    for one in conditions:
        closed = one.closes[codes[:, one.gate]] | inactive[:, one.gate]
        inactive[np.ix_(closed, np.array(one.gated))] = True
    return np.where(inactive, np.uint8(0), codes)


def _sizes(rng: np.random.Generator) -> tuple[list[int], list[bool]]:
    length = int(np.exp(rng.uniform(np.log(3), np.log(28))))
    if rng.random() < 0.4:
        sizes = [int(rng.integers(2, 10))] * length
    else:
        sizes = rng.integers(2, 2 + rng.integers(1, 10), size=length).tolist()
    share = rng.choice([0.0, 0.0, 0.5, 1.0])
    return sizes, (rng.random(length) < share).tolist()


def _cell_sizes(rng: np.random.Generator) -> tuple[list[int], list[bool]]:
    nodes = int(rng.choice([3, 4, 4, 4, 5]))
    edges = nodes * (nodes - 1) // 2
    return [int(rng.integers(3, 8))] * edges, [False] * edges


def _probe(sizes: Sequence[int], rng: np.random.Generator) -> Codes:
    return rng.integers(0, np.array(sizes), size=(1024, len(sizes))).astype(np.uint8)


# Families: each takes the sizes, which positions are ordered, and the random generator.


def _additive(sizes: Sequence[int], ordered: Sequence[bool], rng: np.random.Generator) -> Function:
    """Effects of options, few positions of which matter much, and of pairs of positions."""
    weights = rng.gamma(rng.uniform(0.3, 2), size=len(sizes))
    tables = [
        weight * _effects(size, is_ordered, rng)
        for weight, size, is_ordered in zip(weights, sizes, ordered, strict=True)
    ]
    pairs = _pairs(sizes, rng, strength=rng.choice([0.0, 0.3, 0.7, 1.5]) * weights.mean())

    def score(codes: Codes) -> Floats:
        total = sum(table[codes[:, at]] for at, table in enumerate(tables))
        return np.asarray(total + sum(table[codes[:, a], codes[:, b]] for a, b, table in pairs))

    return score


def _shared(sizes: Sequence[int], ordered: Sequence[bool], rng: np.random.Generator) -> Function:
    """Options mean the same at every position: counts of them decide, with diminishing returns."""
    quality = _effects(max(sizes), any(ordered), rng)
    weights = rng.gamma(rng.uniform(1, 5), size=len(sizes))
    bend = rng.uniform(0.3, 2)
    favoured = rng.dirichlet(np.full(max(sizes), 0.7))
    balance = rng.choice([0.0, 0.5, 1.5])

    def score(codes: Codes) -> Floats:
        gain = (weights * quality[codes]).sum(axis=1) / weights.sum()
        counts = np.stack([(codes == option).mean(axis=1) for option in range(max(sizes))], axis=1)
        return np.asarray(-np.exp(-bend * gain) - balance * np.square(counts - favoured).sum(axis=1))

    return score


def _network(sizes: Sequence[int], ordered: Sequence[bool], rng: np.random.Generator) -> Function:
    """A random two-layer perceptron on vectors of the options, shared between positions half of the time."""
    width = int(rng.integers(2, 6))
    shared = rng.normal(size=(max(sizes), width))
    same = rng.random() < 0.5
    vectors = [
        shared[:size] if same else np.stack([_effects(size, is_ordered, rng) for _ in range(width)], axis=1)
        for size, is_ordered in zip(sizes, ordered, strict=True)
    ]
    hidden = int(rng.integers(4, 33))
    weights = rng.gamma(0.7, size=len(sizes))
    first = rng.normal(size=(len(sizes), width, hidden)) * weights[:, None, None] / weights.mean() / np.sqrt(len(sizes))
    bias, second = rng.normal(size=hidden), rng.normal(size=hidden)
    steep = rng.uniform(0.5, 2)

    def score(codes: Codes) -> Floats:
        inner = sum(vectors[at][codes[:, at]] @ first[at] for at in range(len(sizes)))
        return np.asarray(np.tanh(steep * np.asarray(inner) + bias) @ second)

    return score


def _trees(sizes: Sequence[int], ordered: Sequence[bool], rng: np.random.Generator) -> Function:
    """A sum of random decision trees, each of which looks at a few positions."""
    trees = [_tree(sizes, ordered, rng, int(rng.integers(2, 5))) for _ in range(int(rng.integers(1, 9)))]

    def score(codes: Codes) -> Floats:
        return np.asarray(sum(tree(codes) for tree in trees))

    return score


def _tree(sizes: Sequence[int], ordered: Sequence[bool], rng: np.random.Generator, depth: int) -> Function:
    at = int(rng.integers(len(sizes)))
    if depth == 0:
        leaf = rng.normal()
        return lambda codes: np.full(len(codes), leaf)
    size = sizes[at]
    goes_left = np.arange(size) < rng.integers(1, size) if ordered[at] else rng.random(size) < 0.5
    left, right = (_tree(sizes, ordered, rng, depth - 1) for _ in range(2))
    shift = rng.normal()

    def score(codes: Codes) -> Floats:
        side = goes_left[codes[:, at]]
        return np.where(side, left(codes) + shift, right(codes))

    return score


def _bowl(sizes: Sequence[int], ordered: Sequence[bool], rng: np.random.Generator) -> Function:
    """Hyper-parameters: a bowl in rotated coordinates, with a cliff behind which training diverges."""
    span = np.array([max(size - 1, 1) for size in sizes])
    centre = rng.uniform(-0.2, 1.2, size=len(sizes))
    sharpness = rng.gamma(0.5, size=len(sizes)) * 4
    tilt = np.where(rng.random((len(sizes), len(sizes))) < 0.15, rng.normal(size=(len(sizes), len(sizes))), 0.0)
    nominal = [_effects(size, False, rng) for size in sizes]
    edge = rng.normal(size=len(sizes)) * np.sqrt(sharpness)
    height, where = rng.choice([0.0, 1.0, 4.0]), rng.uniform(0.3, 1.2) * np.abs(edge).sum() / 2
    power = rng.uniform(0.8, 2.2)

    def score(codes: Codes) -> Floats:
        place = codes / span - centre
        steps = np.stack([
            place[:, at] if ordered[at] else nominal[at][codes[:, at]] / 2 for at in range(len(sizes))
        ], axis=1)  # fmt: skip
        moved = steps + steps @ tilt * 0.5
        distance = (sharpness * np.abs(moved) ** power).sum(axis=1)
        return np.asarray(-distance - height * ((place + centre) @ edge > where))

    return score


def _rugged(sizes: Sequence[int], ordered: Sequence[bool], rng: np.random.Generator) -> Function:
    """An NK landscape (Kauffman 1989): each position's effect depends on a few others."""
    others = int(rng.integers(1, 3))
    keys = [rng.choice(len(sizes), size=min(others + 1, len(sizes)), replace=False) for _ in sizes]
    tables = [rng.normal(size=[sizes[at] for at in key]) for key in keys]
    weights = rng.gamma(0.7, size=len(sizes))

    def score(codes: Codes) -> Floats:
        return np.asarray(
            sum(
                weight * table[tuple(codes[:, at] for at in key)]
                for weight, key, table in zip(weights, keys, tables, strict=True)
            )
        )

    return score


def _chain(sizes: Sequence[int], ordered: Sequence[bool], rng: np.random.Generator) -> Function:
    """A network of layers: capacity with diminishing returns, and an early bottleneck limits all that follows."""
    capacity = [np.abs(_effects(size, is_ordered, rng)) + 0.05 for size, is_ordered in zip(sizes, ordered, strict=True)]
    weights = rng.gamma(2.0, size=len(sizes)) * np.exp(rng.normal() * np.linspace(-1, 1, len(sizes)))
    bottleneck, bend = rng.choice([0.0, 0.5, 2.0]), rng.uniform(0.2, 1.5)
    cost = rng.choice([0.0, 0.0, 0.3])

    def score(codes: Codes) -> Floats:
        each = np.stack([table[codes[:, at]] for at, table in enumerate(capacity)], axis=1)
        total = each @ weights / weights.sum()
        return np.asarray(-((total + 0.05) ** -bend) + bottleneck * each.min(axis=1) - cost * total**2)

    return score


def _cell(sizes: Sequence[int], ordered: Sequence[bool], rng: np.random.Generator) -> Function:
    """A cell of nodes in a row and an operation an edge: paths from the input to the output multiply gains.

    One operation is dead and one a shortcut; a cell without a living path scores worst, and what no living path from
    the input reaches changes nothing.
    """
    cell = Cell.draw(sizes, rng)
    typical = cell.value(_probe(sizes, rng))
    worst = typical[np.isfinite(typical)].min(initial=0.0) - 1
    return lambda codes: np.maximum(cell.value(codes), worst)


_FAMILIES = (_additive, _additive, _shared, _network, _network, _trees, _bowl, _bowl, _rugged, _chain)
_CELLS = (_cell, _cell, _cell, _shared)


# What is common to all families.


def _effects(size: int, is_ordered: bool, rng: np.random.Generator) -> Floats:
    """Effects of a position's options, of about unit variance: smooth in the option where options are ordered."""
    if not is_ordered:
        return rng.normal(size=size) if rng.random() < 0.8 else rng.standard_t(3, size=size)
    at = np.linspace(0, 1, size) if size > 1 else np.zeros(1)
    bowl = -(np.abs(at - rng.uniform(-0.3, 1.3)) ** rng.uniform(0.7, 2.5))
    return np.asarray(3 * bowl * rng.choice([1, 1, 1, -1]) + 0.1 * rng.normal(size=size))


def _pairs(sizes: Sequence[int], rng: np.random.Generator, strength: float) -> list[tuple[int, int, Floats]]:
    if strength == 0 or len(sizes) < 2:
        return []
    count = int(rng.integers(1, min(len(sizes) * (len(sizes) - 1) // 2, 2 * len(sizes)) + 1))
    chosen = [rng.choice(len(sizes), size=2, replace=False) for _ in range(count)]
    return [(int(a), int(b), strength * rng.normal(size=(sizes[a], sizes[b]))) for a, b in chosen]


def _mixture(functions: Sequence[Function], shares: Floats) -> Function:
    return lambda codes: np.asarray(sum(share * part(codes) for part, share in zip(functions, shares, strict=True)))


def _standardized(function: Function, probe: Codes) -> Function:
    values = function(probe)
    mean, sd = float(values.mean()), float(values.std())
    return lambda codes: (function(codes) - mean) / max(sd, 1e-9)


def _conditions(sizes: Sequence[int], rng: np.random.Generator) -> tuple[Condition, ...]:
    """Mostly none; else up to three, every gate of which has options of both kinds."""
    if len(sizes) < 3 or rng.random() >= 0.15:
        return ()
    order = rng.permutation(len(sizes)).tolist()
    return tuple(_condition(sizes, order[at:], rng) for at in range(int(rng.integers(1, min(3, len(sizes) // 3) + 1))))


def _condition(sizes: Sequence[int], order: Sequence[int], rng: np.random.Generator) -> Condition:
    """The first of `order` is the gate, and closes later ones only: no gate depends on what it closes itself."""
    gate, *later = order
    most = max(len(sizes) // 2, 1)
    gated = rng.permutation(later)[: int(rng.integers(1, most + 1))].tolist()
    closes = rng.permutation(sizes[gate]) < rng.integers(1, sizes[gate])
    return Condition(gate, closes, tuple(gated))


def _conditional(function: Function, conditions: Sequence[Condition]) -> Function:
    return (lambda codes: function(active(codes, conditions))) if conditions else function


def _warped(function: Function, rng: np.random.Generator) -> Function:
    """A monotone map: as it is, a saturating top, a long tail below, or a few that stand out."""
    kind = rng.integers(4)
    strength = rng.uniform(0.5, 2.5)
    if kind == 1:
        return lambda codes: 1 / (1 + np.exp(-strength * function(codes).clip(-30, 30)))
    if kind == 2:
        return lambda codes: -np.exp(-strength * function(codes).clip(-8, 8))
    if kind == 3:
        return lambda codes: np.exp(0.5 * strength * function(codes).clip(-8, 8))
    return function


def _noise(rng: np.random.Generator) -> Noise:
    """None, the same everywhere, or such that bad configurations are noisier, or good ones."""
    if rng.random() < 0.3:
        return Noise(0.0)
    level = float(np.exp(rng.uniform(np.log(0.01), np.log(0.6))))
    return Noise(level, float(rng.choice([0.0, 0.0, -1.0, -1.0, 1.0]) * rng.uniform(0.1, 0.8)))


def _failures(
    sizes: Sequence[int], ordered: Sequence[bool], conditions: Sequence[Condition], rng: np.random.Generator
) -> Function | None:
    """Some searches fail in a region, such as what does not fit in memory."""
    if rng.random() < 0.85:
        return None
    load = _conditional(_additive(sizes, ordered, rng), conditions)
    limit = np.quantile(load(_probe(sizes, rng)), rng.uniform(0.6, 0.95))
    return lambda codes: np.asarray(load(codes) > limit, dtype=np.float64)
