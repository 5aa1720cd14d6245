"""What the fuzz target of the core has found worth keeping, once more: through Python, against the slow reference.

`make sanitize` replays the same files in C++. The bytes are read as tests/fuzz/fuzz_codes.cpp says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ncode_search import _core

from . import reference
from .strategies import tuples

CORPUS = sorted((Path(__file__).parents[1] / "fuzz" / "corpus").iterdir())
ROWS = 40


def parse(data: bytes) -> tuple[list[int], bytes]:
    """The sizes, and what is behind them."""
    head = data[:2].ljust(2, b"\0")
    given = 1 + head[1] % 16
    options = data[2 : 2 + given].ljust(given, b"\0")
    sizes = [{255: 0, 254: 65}.get(byte, 1 + byte % 64) for byte in options]
    return [sizes[p % given] for p in range(1 + head[0])], data[2 + given :]


def text_of(rest: bytes, length: int, width: int) -> str:
    words = [int.from_bytes(rest[at : at + width], "little") for at in range(0, len(rest) - width + 1, width)]
    return "".join(chr(word % 0x110000) for word in words[:length]).ljust(length, "x")


def check_text(space: _core.Space, text: str) -> None:
    digits = [reference.ALPHABET.find(character) for character in text]
    wrong = [not 0 <= digit < size for digit, size in zip(digits, space.sizes, strict=True)]
    if any(wrong):
        with pytest.raises(ValueError, match=f"^text 0, position {wrong.index(True)}: "):
            space.from_text([text])
    else:
        assert tuples(space.from_text([text])) == [tuple(digits)]
        assert space.to_text(space.from_text([text])) == [text]


def check_codes(space: _core.Space, codes: NDArray[np.uint8]) -> None:
    assert space.to_text(codes) == [reference.text(code) for code in tuples(codes)]
    assert _core.hash128(codes).tolist() == [[*reference.hash128(code)] for code in tuples(codes)]
    seen = _core.CodeSet(space)
    assert seen.insert(codes).tolist() == [code not in tuples(codes)[:i] for i, code in enumerate(tuples(codes))]
    assert seen.contains(codes).all()
    if space.size <= 2**128:
        assert space.to_index(codes) == [reference.index(space.sizes, code) for code in tuples(codes)]
        np.testing.assert_array_equal(space.from_index(space.to_index(codes)), codes)


def replay(data: bytes) -> None:
    sizes, rest = parse(data)
    if not all(1 <= size <= 64 for size in sizes):
        with pytest.raises(ValueError, match="a position has 1 to 64 options"):
            _core.Space(sizes)
        return
    space = _core.Space(sizes)
    for width in (1, 2, 4):
        check_text(space, text_of(rest, len(sizes), width))
    rows = min(ROWS, len(rest) // len(sizes))
    given = np.frombuffer(rest, np.uint8, rows * len(sizes)).reshape(rows, len(sizes))
    check_codes(space, given % np.array(sizes, np.uint8))
    index = int.from_bytes(rest[:16], "little")
    if index < space.size <= 2**128:
        assert tuples(space.from_index([index])) == [reference.code_at(sizes, index)]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name[:12])
def test_corpus(path: Path) -> None:
    replay(path.read_bytes())
