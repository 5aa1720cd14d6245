"""The core's batch functions beside the best that NumPy and pure Python do with the same data, in the same run.

The ways take turns, so that a machine that slows down slows all of them; a time is the median of its repetitions.

    python benchmarks/core.py --codes 5_000_000 --repeats 7
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncode_search import _core

Codes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """A line of a table: a way and its median time in seconds."""

    name: str
    seconds: float


def measure(ways: dict[str, Callable[[], object]], repeats: int) -> list[Row]:
    """Run all ways in turn, ``repeats`` times."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    return [Row(name, statistics.median(seconds)) for name, seconds in times.items()]


def first_mask(count: int, first: NDArray[np.intp]) -> Mask:
    mask = np.zeros(count, bool)
    mask[first] = True
    return mask


def dedup_bytes(codes: Codes) -> Mask:
    """Pure Python: a set of the rows' bytes."""
    seen: set[bytes] = set()
    add, length, data = seen.add, codes.shape[1], codes.tobytes()
    mask = bytearray(len(codes))
    for number, start in enumerate(range(0, len(data), length)):
        row = data[start : start + length]
        if row not in seen:
            add(row)
            mask[number] = 1
    return np.frombuffer(mask, bool)


def dedup_rows(codes: Codes) -> Mask:
    return first_mask(len(codes), np.unique(codes, axis=0, return_index=True)[1])


def pack(codes: Codes, options: int, dtype: type[np.signedinteger[Any]] = np.int64) -> NDArray[Any]:
    """Horner's rule over the columns."""
    packed = codes[:, 0].astype(dtype)
    for column in range(1, codes.shape[1]):
        packed *= options
        packed += codes[:, column]
    return packed


def dedup_packed(codes: Codes, options: int, dtype: type[np.signedinteger[Any]] = np.int64) -> Mask:
    return first_mask(len(codes), np.unique(pack(codes, options, dtype), return_index=True)[1])


def dedup_scatter(codes: Codes, options: int) -> Mask:
    """For small spaces only: an entry for every code of the space, written from the last row to the first."""
    packed = pack(codes, options)
    numbers = np.arange(len(codes), dtype=np.int32)
    first = np.empty(options ** codes.shape[1], np.int32)
    first[packed[::-1]] = numbers[::-1]
    result: Mask = first[packed] == numbers
    return result


def dedup_core(space: _core.Space, codes: Codes) -> Mask:
    return _core.CodeSet(space).insert(codes)


def hash_and_dedup(space: _core.Space, codes: Codes) -> Mask:
    _core.hash64(codes)
    return dedup_core(space, codes)


def dedup_ways(space: _core.Space, codes: Codes) -> dict[str, Callable[[], Mask]]:
    options = space.sizes[0]
    ways: dict[str, Callable[[], Mask]] = {
        "core: hash64, then CodeSet.insert": lambda: hash_and_dedup(space, codes),
        "core: CodeSet.insert": lambda: dedup_core(space, codes),
        "Python: set of the rows' bytes": lambda: dedup_bytes(codes),
        "NumPy: unique(axis=0)": lambda: dedup_rows(codes),
    }
    if space.size < 2**63:
        ways["NumPy: packed int64, unique"] = lambda: dedup_packed(codes, options)
    if space.size < 2**31:
        ways["NumPy: packed int32, unique"] = lambda: dedup_packed(codes, options, np.int32)
    if space.size < 2**28:
        ways["(NumPy: packed int64, scatter; small spaces only)"] = lambda: dedup_scatter(codes, options)
    return ways


def check_dedup(ways: dict[str, Callable[[], Mask]]) -> int:
    """All ways must agree; returns how many codes are distinct."""
    masks = [way() for way in ways.values()]
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])
    return int(masks[0].sum())


def bench_dedup(count: int, positions: int, options: int, repeats: int) -> None:
    space = _core.Space([options] * positions)
    codes = space.random(count, 1)
    codes[1::10] = codes[::10][: len(codes[1::10])]  # a tenth are certain duplicates, the others what chance gives
    ways = dedup_ways(space, codes)
    distinct = check_dedup(ways)
    rows = measure(dict(ways), repeats)
    print(
        f"\nMask of first occurrences: {count:,} codes, {positions} positions, {options} options, {distinct:,} distinct"
    )
    peers = [row for row in rows if row.name.startswith(("Python", "NumPy"))]
    best = min(peers, key=lambda row: row.seconds)
    for row in rows:
        print_row(row, count, f"{best.seconds / row.seconds:6.2f} x the speed of the best peer")
    print(f"  the best peer: {best.name}")


def bench_fill(count: int, positions: int, options: int, repeats: int) -> None:
    """Functions that write codes, beside plain writing and copying of as many bytes."""
    space = _core.Space([options] * positions)
    subspace = _core.Subspace([options] * positions, [range(options)[::-1]] * positions)
    source = space.random(count, 1)
    seen = np.empty_like(source)
    rows = measure(
        {
            "core: enumerate": lambda: space.enumerate(1, count),
            "core: Subspace.enumerate": lambda: subspace.enumerate(1, count),
            "core: random": lambda: space.random(count, 1),
            "core: sample": lambda: space.sample(count, 1),
            "core: mutate": lambda: space.mutate(source, 1),
            "core: hash64": lambda: _core.hash64(source),
            "core: hash128": lambda: _core.hash128(source),
            "NumPy: copy into a new array": source.copy,
            "NumPy: copyto, memory already in use": lambda: np.copyto(seen, source),
            "NumPy: fill, memory already in use": lambda: seen.fill(1),
            "NumPy: integers": lambda: np.random.default_rng(1).integers(0, options, source.shape, np.uint8),
        },
        repeats,
    )
    print(f"\nWriting codes: {count:,} codes, {positions} positions, {options} options")
    copy = next(row for row in rows if "new array" in row.name)
    for row in rows:
        print_row(row, count, f"{copy.seconds / row.seconds:6.1%} of the speed of a copy into a new array")


def cell_rules(nodes: int, options: int, table_codes: int = 10_000_000) -> tuple[_core.Space, _core.Canonical]:
    """A cell with every edge; option 0 is none and option 1 skip."""
    pairs = [(source, target) for target in range(1, nodes) for source in range(target)]
    space = _core.Space([options] * len(pairs))
    return space, _core.Canonical(
        space, cells=[([(at, *pair) for at, pair in enumerate(pairs)], 0, 1)], table_codes=table_codes
    )


def bench_canonical(count: int, nodes: int, repeats: int, options: int = 5) -> None:
    """Canonical codes of a cell, beside NumPy with the table of all of them given for nothing."""
    space, canonical = cell_rules(nodes, options)
    rewriting = cell_rules(nodes, options, table_codes=0)[1]
    codes = space.random(count, 1)
    start = time.perf_counter()
    canonical.apply(codes[:1])
    made = time.perf_counter() - start
    table = canonical.apply(space.enumerate(0, space.size))
    np.testing.assert_array_equal(table[pack(codes, options)], canonical.apply(codes))
    rows = measure(
        {
            "core: Canonical.apply, by table": lambda: canonical.apply(codes),
            "core: Canonical.apply, by rewriting": lambda: rewriting.apply(codes),
            "NumPy: packed int64, taken from a table": lambda: table[pack(codes, options)],
        },
        repeats,
    )
    print(f"\nCanonical codes: {count:,} codes, {space.length} edges, {options} options; table made in {made:.3f} s")
    for row in rows:
        print_row(row, count, f"{rows[-1].seconds / row.seconds:6.2f} x the speed of NumPy")


def print_row(row: Row, count: int, comparison: str) -> None:
    print(f"  {row.name:50} {row.seconds * 1e3:9.1f} ms {count / row.seconds / 1e6:8.1f} M codes/s {comparison}")


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}; {platform.system()}; Python {platform.python_version()}; NumPy {np.__version__}; {_core.BUILD}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=int, default=5_000_000)
    parser.add_argument("--positions", type=int, default=10)
    parser.add_argument("--options", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args(arguments)
    print(machine())
    bench_dedup(chosen.codes, chosen.positions, chosen.options, chosen.repeats)
    bench_fill(chosen.codes, chosen.positions, chosen.options, chosen.repeats)
    for nodes in (4, 5):
        bench_canonical(chosen.codes, nodes, chosen.repeats)


if __name__ == "__main__":
    main()
