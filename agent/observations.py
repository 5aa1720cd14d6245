"""What is known of the trials, as arrays: what pools and rankers look at.

`Observations` is a view that costs nothing to make. `ObservationLog` is the growing store behind it: adding a trial and finding the
best ones do not slow down as trials accumulate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
"""Codes as rows: shape ``(n, L)``, dtype uint8."""


@dataclass(frozen=True)
class Observations:
    """What a decision may look at. Values are oriented so that higher is better, whatever the search's goal."""

    codes: Codes
    """Codes of the completed trials, oldest first, shape ``(n, L)``."""
    values: NDArray[np.float64]
    """Their values, shape ``(n,)``, finite."""
    pending: Codes
    """Codes in flight (queued or running), shape ``(p, L)``."""
    failed: Codes
    """Codes whose trials failed, shape ``(f, L)``."""

    def __len__(self) -> int:
        return len(self.values)

    def best(self, count: int) -> NDArray[np.intp]:
        """Indices of the `count` best trials, best first, the older one first among equals."""
        if count < len(self.values) // 8:
            chosen = np.argpartition(-self.values, count)[: count + 1]
            cutoff = np.sort(self.values[chosen])[::-1][min(count, len(chosen) - 1)]
            candidates = np.flatnonzero(self.values >= cutoff)
        else:
            candidates = np.arange(len(self.values))
        order = np.lexsort((candidates, -self.values[candidates]))
        return candidates[order[:count]]
