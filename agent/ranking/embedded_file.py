"""What the GGUF of an embedded ranker says of itself, and the layer that stands before llama.cpp's part of it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking.gguf_file import GgufHeader, read_header
from ncode_search.agent.ranking.tokens import FACTS, MARKS

PROTOCOL = "embedded"
"""Value of the metadata key ``ncode.protocol``: one embedding a trial."""
VERSION = 1
"""Of what `tokens` makes; a model reads only what it was trained on."""
_MOST_BINS = 1 << 16


@dataclass(frozen=True)
class EmbeddedFile:
    """The metadata of an embedded ranker."""

    weight: NDArray[np.float32]
    """Shape ``(MARKS + FACTS, width)``."""
    bias: NDArray[np.float32]
    """Shape ``(width,)``."""
    centres: NDArray[np.float64]
    """Normal score of the middle of each bin, shape ``(bins,)``."""
    about: dict[str, Any]
    """What is known of its making."""

    @property
    def width(self) -> int:
        """Length of the vectors that llama.cpp takes."""
        return len(self.bias)

    def enter(self, inputs: NDArray[np.float64]) -> NDArray[np.float32]:
        """Marks and facts as the model's input vectors, shape ``(t, width)``."""
        return inputs.astype(np.float32) @ self.weight + self.bias


def is_embedded(header: GgufHeader) -> bool:
    """Whether a GGUF is an embedded ranker."""
    return header.metadata.get("ncode.protocol") == PROTOCOL


def read_embedded(path: Path) -> EmbeddedFile:
    """Read and check the metadata. Raises `InputError` where they are of another kind or version, or damaged."""
    header = read_header(path, arrays=("ncode.enter.weight", "ncode.enter.bias"))
    found = header.metadata
    if not is_embedded(header):
        raise InputError(f"model {path} is no embedded ranker (its ncode.protocol is {found.get('ncode.protocol')!r})")
    expected = {"ncode.version": VERSION, "ncode.marks": MARKS, "ncode.facts": FACTS}
    for key, value in expected.items():
        if found.get(key) != value:
            raise InputError(
                f"model {path} was made for another ncode-search ({key} is {found.get(key)!r}, not {value}): "
                "export it again with this one"
            )
    try:
        return _embedded(header)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise InputError(
            f"model {path} is a damaged embedded ranker ({type(error).__name__}: {error}): export it again"
        ) from error


def _embedded(header: GgufHeader) -> EmbeddedFile:
    found, bias = header.metadata, header.arrays["ncode.enter.bias"]
    bins, reach = int(found["ncode.bins"]), float(found["ncode.reach"])
    if not 2 <= bins <= _MOST_BINS or not 0 < reach < math.inf:
        raise ValueError(f"{bins} bins within {reach}")
    step = 2 * reach / bins
    return EmbeddedFile(
        np.ascontiguousarray(header.arrays["ncode.enter.weight"].reshape(len(bias), MARKS + FACTS).T),
        bias,
        np.arange(bins, dtype=np.float64) * step - reach + step / 2,
        json.loads(str(found.get("ncode.about", "{}"))),
    )
