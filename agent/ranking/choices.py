"""A search space as the embedded ranker sees it.

A conditional position has one more option there: not to matter. So two codes in which it does not matter agree there,
and neither agrees with a code in which it does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.observations import Codes
from ncode_search.agent.ranking.base import ChoiceSpace


class Choices:
    """From a space's codes to the ranker's, which have the same shape."""

    def __init__(self, space: ChoiceSpace) -> None:
        self._space = space
        self._conditional = np.array(space.conditional, dtype=bool)
        sizes = np.array(space.core.sizes)
        self._inactive = sizes.astype(np.uint8)
        """The option that stands for not to matter."""
        self.sizes: tuple[int, ...] = tuple((sizes + self._conditional).tolist())
        """Options a position."""
        self.ordered: tuple[int, ...] = tuple((sizes * np.array(space.ordered)).tolist())
        """How many of a position's options, the first ones, are in an order: all of the space's, or none."""

    def __call__(self, codes: Codes) -> Codes:
        """Codes of shape ``(n, L)`` as the ranker sees them."""
        if not self._conditional.any():
            return codes
        seen: NDArray[np.uint8] = np.where(self._space.active(codes), codes, self._inactive)
        return seen
