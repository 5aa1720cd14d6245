"""Synthetic cells: a directed graph with an operation an edge, as in NAS benchmarks of cells, and what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """What the operations of a cell are worth, an array with an entry each, and what its edges are."""

    gain: Floats
    """What an operation multiplies; 0 is dead."""
    learns: Floats
    """1 of an operation that has weights."""
    alone: Floats
    """What an operation adds wherever it is reached."""
    place: Floats
    """What each edge multiplies."""
    depth_value: float
    width_value: float
    bend: float

    @classmethod
    def draw(cls, sizes: Sequence[int], rng: np.random.Generator) -> Cell:
        """With as many edges as there are `sizes`, and as many operations as the largest of them."""
        options = max(sizes)
        gain = np.concatenate([[0.0], [1.0], rng.gamma(2.0, 0.5, size=max(options - 2, 0)) + 0.5])[:options]
        learns = np.concatenate([[0.0], [0.0], rng.random(max(options - 2, 0)) < 0.8])[:options]
        order = rng.permutation(options) if rng.random() < 0.5 else np.arange(options)
        place = rng.gamma(3.0, 1 / 3, size=len(sizes))
        depth_value, width_value, bend = rng.normal(0.5, 0.7), rng.normal(0.3, 0.5), rng.uniform(0.3, 1.2)
        alone = rng.normal(size=options) * rng.choice([0.0, 0.2])
        return cls(gain[order], learns[order], alone, place, depth_value, width_value, bend)

    @property
    def edges(self) -> list[tuple[int, int]]:
        """The nodes that each position's operation leads from and to."""
        nodes = int((1 + np.sqrt(1 + 8 * len(self.place))) / 2)
        return [(a, b) for b in range(1, nodes) for a in range(b)]

    def value(self, codes: Codes) -> Floats:
        """Of codes of shape ``(n, L)``, an edge a position; minus infinity where no path lives."""
        flow, depth = self._walk(codes)
        living = np.stack([flow[:, a] * self.gain[codes[:, at]] > 0 for at, (a, _) in enumerate(self.edges)], axis=1)
        learning = (living * self.learns[codes]).sum(axis=1)
        total = np.log(flow[:, -1] + 1e-3) * self.bend + self.depth_value * depth[:, -1] + self.width_value * learning
        total = total + (living * self.alone[codes]).sum(axis=1) - 3 * (learning == 0)
        return np.asarray(np.where(flow[:, -1] > 0, total, -np.inf))

    def _walk(self, codes: Codes) -> tuple[Floats, Floats]:
        """What arrives at each node, and the most operations with weights on a way there, shape ``(n, nodes)``."""
        nodes = self.edges[-1][1] + 1
        flow, depth = np.zeros((2, len(codes), nodes))
        flow[:, 0] = 1.0
        for at, (a, b) in enumerate(self.edges):
            through = flow[:, a] * self.gain[codes[:, at]] * self.place[at]
            flow[:, b] += through
            longer = depth[:, a] + self.learns[codes[:, at]]
            depth[:, b] = np.where(through > 0, np.maximum(depth[:, b], longer), depth[:, b])
        return flow, depth
