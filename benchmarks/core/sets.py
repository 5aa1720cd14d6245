"""Which codes of a batch are new: the core's set beside those of Python, NumPy, pandas, polars, Abseil and Boost.

Every way holds the codes afterwards and says of each whether it was new, in a first pass where all are and in a second
one where all are known. `unique` functions keep nothing, so their second pass is one over both batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.core import cpp_peers
from benchmarks.core.measuring import Row, medians
from benchmarks.core.packing import horner
from ncode_search import _core

Codes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class Inserting(Protocol):
    def insert(self, codes: Codes) -> Mask: ...


class HashedCore:
    """The stored hash of every code besides: what a history of codes needs."""

    def __init__(self, space: _core.Space) -> None:
        self._set = _core.CodeSet(space)

    def insert(self, codes: Codes) -> Mask:
        _core.hash64(codes)
        return self._set.insert(codes)

    @property
    def nbytes(self) -> int:
        return self._set.nbytes


class PythonSet:
    """A set of keys that `split` makes of the codes."""

    def __init__(self, split: Callable[[Codes], list[Any]]) -> None:
        self._seen: set[Any] = set()
        self._split = split

    def insert(self, codes: Codes) -> Mask:
        seen, add = self._seen, self._seen.add
        mask = bytearray(len(codes))
        for number, key in enumerate(self._split(codes)):
            if key not in seen:
                add(key)
                mask[number] = 1
        return np.frombuffer(mask, bool)


class Unique:
    """`first_of` gives the number of the first row of each distinct code; known codes stand before the new ones."""

    def __init__(self, first_of: Callable[[Codes], NDArray[np.intp]]) -> None:
        self._first_of = first_of
        self._known: Codes | None = None

    def insert(self, codes: Codes) -> Mask:
        known = 0 if self._known is None else len(self._known)
        rows = codes if self._known is None else np.concatenate([self._known, codes])
        mask = np.zeros(len(rows), bool)
        mask[self._first_of(rows)] = True
        self._known = rows[mask]
        return mask[known:]


def as_bytes(codes: Codes) -> list[bytes]:
    data, length = codes.tobytes(), codes.shape[1]
    return [data[start : start + length] for start in range(0, len(data), length)]


def as_text(codes: Codes) -> list[str]:
    data, length = (codes + ord("0")).tobytes().decode("ascii"), codes.shape[1]
    return [data[start : start + length] for start in range(0, len(data), length)]


def numpy_rows(codes: Codes) -> NDArray[np.intp]:
    return np.unique(codes, axis=0, return_index=True)[1]


def numpy_packed(options: int) -> Callable[[Codes], NDArray[np.intp]]:
    def first_of(codes: Codes) -> NDArray[np.intp]:
        return np.unique(horner(codes, options), return_index=True)[1]

    return first_of


def pandas_packed(options: int) -> Callable[[Codes], NDArray[np.intp]]:
    import pandas as pd

    def first_of(codes: Codes) -> NDArray[np.intp]:
        return np.flatnonzero(~pd.Series(horner(codes, options)).duplicated().to_numpy())

    return first_of


def polars_packed(options: int) -> Callable[[Codes], NDArray[np.intp]]:
    import polars as pl

    def first_of(codes: Codes) -> NDArray[np.intp]:
        frame = pl.DataFrame({"code": horner(codes, options), "row": np.arange(len(codes))})
        first: NDArray[np.intp] = frame.unique("code", keep="first", maintain_order=True)["row"].to_numpy()
        return first

    return first_of


def ways(space: _core.Space, *, slow: bool) -> dict[str, Callable[[], Inserting]]:
    """Makers of empty sets, by name; `slow`: also those that take minutes for ten million codes."""
    options = space.sizes[0]
    library = cpp_peers.compiled(space.length, (options - 1).bit_length())
    makers: dict[str, Callable[[], Inserting]] = {
        "core: CodeSet": lambda: _core.CodeSet(space),
        "core: hash64, then CodeSet": lambda: HashedCore(space),
        **{name: partial(cpp_peers.PeerSet, library, kind) for name, kind in cpp_peers.KINDS.items()},
        "Python: set of bytes": lambda: PythonSet(as_bytes),
        "Python: set of str": lambda: PythonSet(as_text),
        "NumPy: packed int64, unique": partial(Unique, numpy_packed(options)),
        "pandas: packed int64, duplicated": partial(Unique, pandas_packed(options)),
        "polars: packed int64, unique": partial(Unique, polars_packed(options)),
    }
    if slow:
        makers["NumPy: unique(axis=0)"] = partial(Unique, numpy_rows)
    return makers


@dataclass(frozen=True)
class Passes:
    """Medians of both passes, and the bytes held after them where the way tells."""

    first: list[Row]
    second: list[Row]
    nbytes: dict[str, int]


def measure_passes(makers: dict[str, Callable[[], Inserting]], codes: Codes, repeats: int) -> Passes:
    """Both passes of all ways in turn, ``repeats`` times; their answers are checked each time."""
    first: dict[str, list[float]] = {name: [] for name in makers}
    second: dict[str, list[float]] = {name: [] for name in makers}
    nbytes: dict[str, int] = {}
    for _ in range(repeats):
        for name, make in makers.items():
            codes_set = make()
            for times, expected in ((first, True), (second, False)):
                start = time.perf_counter()
                fresh = codes_set.insert(codes)
                times[name].append(time.perf_counter() - start)
                assert (fresh == expected).all(), name
            nbytes[name] = getattr(codes_set, "nbytes", 0)
    return Passes(medians(first), medians(second), nbytes)


def distinct_codes(space: _core.Space, count: int) -> Codes:
    """Random distinct codes."""
    codes = space.random(count + count // 100 + 100, 1)
    return np.ascontiguousarray(codes[_core.CodeSet(space).insert(codes)][:count])


def bench_sets(count: int, repeats: int, *, slow: bool, positions: int = 20, options: int = 5) -> None:
    """Print the table of one size."""
    space = _core.Space([options] * positions)
    codes = distinct_codes(space, count)
    packed_bytes = count * positions * (options - 1).bit_length() / 8
    passes = measure_passes(ways(space, slow=slow), codes, repeats)
    print(f"\nSets: {count:,} distinct codes of {positions} positions, {options} options; all new, then all known")
    cpp = min(row.seconds for row in passes.first if row.name in cpp_peers.KINDS)
    python = min(row.seconds for row in passes.first if row.name.split(":")[0] not in {"core", *cpp_peers.KINDS})
    for new, known in zip(passes.first, passes.second, strict=True):
        held = f"{passes.nbytes[new.name] / packed_bytes:.2f}" if passes.nbytes[new.name] else "-"
        each = f"new {new.seconds * 1e9 / count:8.1f} ns, known {known.seconds * 1e9 / count:8.1f} ns a code"
        beside = f"{cpp / new.seconds:5.2f} x the best C++ peer, {python / new.seconds:6.2f} x the best Python way"
        print(f"  {new.name:38} {each}; bytes {held:>5} x packed; new: {beside}")
