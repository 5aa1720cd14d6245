"""Codes packed by NumPy: what someone without the core would key a set or a table by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def horner(codes: NDArray[np.uint8], options: int, dtype: type[np.signedinteger[Any]] = np.int64) -> NDArray[Any]:
    """The index of each code (n, L) in a space with the same number of options everywhere."""
    packed = codes[:, 0].astype(dtype)
    for column in range(1, codes.shape[1]):
        packed *= options
        packed += codes[:, column]
    return packed
