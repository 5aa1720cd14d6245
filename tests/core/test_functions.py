"""Every function of the stub, at every boundary of sizes, and with every odd argument."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ncode_search import _core

from .functions import FUNCTIONS, ROWS
from .strategies import any_sizes, array
from .worlds import World

STUB = Path(__file__).parents[2] / "bindings" / "_core.pyi"
BOUNDARIES = {
    "one code": [1],
    "one option": [1] * 256,
    "two": [2],
    "64 options": [64],
    "seven positions": [3, 1, 64, 2, 5, 64, 7],
    "nine": [5] * 9,
    "a word": [2] * 64,
    "a word of 64": [64] * 10 + [16],
    "above a word": [2] * 65,
    "2**128": [2] * 128,
    "2**128 in bytes": [16] * 32,
    "above 2**128": [2] * 129,
    "the largest": [64] * 256,
}
WORLDS = {name: World(sizes) for name, sizes in BOUNDARIES.items()}
LARGE = {"the largest"}


def functions_of_the_stub() -> Iterator[str]:
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef))


def test_no_function_is_missing() -> None:
    """test_stub.py tells whether the stub has all of the module."""
    assert sorted(functions_of_the_stub()) == sorted(FUNCTIONS)


@pytest.mark.parametrize("sizes", BOUNDARIES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_boundaries(name: str, sizes: str) -> None:
    check_against_reference(name, WORLDS[sizes], ROWS if sizes not in LARGE else ROWS[:3])


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=12)
@given(any_sizes, st.sampled_from(ROWS[:4]))
def test_any_space(name: str, sizes: list[int], rows: int) -> None:
    check_against_reference(name, World(sizes), (rows,))


def check_against_reference(name: str, world: World, rows: tuple[int, ...]) -> None:
    function = FUNCTIONS[name]
    if function.small and len(world.feasible_codes) > 600:
        return
    size = world.subspace.size if name.startswith("Subspace") else world.size
    for count in rows:
        if function.needs_index and size > 2**128:
            with pytest.raises(OverflowError, match=r"more than 2\*\*128 codes"):
                function.check(world, count)
        else:
            given, expected = function.check(world, count)
            assert given == expected


# Odd arguments

ODD_WORLD = World([3, 12, 64])
CLEAR = (TypeError, ValueError, OverflowError, MemoryError)
HUGE = 10**400


class Strange:
    """Raises from wherever it is asked."""

    def __index__(self) -> int:
        raise ZeroDivisionError

    def __iter__(self) -> Iterator[int]:
        raise ZeroDivisionError

    def __bool__(self) -> bool:
        raise ZeroDivisionError


def odd_codes(good: NDArray[np.uint8]) -> list[Any]:
    """No codes, or the wrong ones: all are refused."""
    wrong = good.copy()
    wrong[-1, -1] = 255
    swapped = good.astype(np.uint16).astype(np.dtype(np.uint16).newbyteorder())
    kinds = (bool, np.int8, np.int64, np.float32, np.float64, complex, object, "S1", "U1", "V1", "M8[s]")
    return [
        wrong, swapped, *(good.astype(kind) for kind in kinds), good[0], good[None], np.array(0, np.uint8),
        good[:, :-1], good[:, :0], np.zeros((0, 5), np.uint8), good.tolist(), good.tobytes(), memoryview(good.copy()),
        None, 0, "000", Strange(), np.zeros(3, [("a", np.uint8)]),
    ]  # fmt: skip


ODD: dict[str, list[Any]] = {
    "count": [-1, -HUGE, 2**63, 2**64, HUGE, 1.0, np.float64(1), "1", b"1", None, [], Strange(), np.array([1, 2])],
    "seed": [-1, -HUGE, 2**64, HUGE, 1.0, np.float64(1), "1", None, [], Strange()],
    "start": [-1, -HUGE, 1.0, "1", None, [], Strange(), np.array([0, 1])],
    "numbers": [
        None, 3, [None], [1.0], ["1"], [[1]], [-1], [HUGE], [-HUGE], [2**128], "12", Strange(), [Strange()], {"a": 1},
        np.array([0.5]), np.array(3), range(-1, 1),
    ],
    "texts": [
        None, 3, "000", b"000", [b"000"], [None], ["00"], ["0000"], ["0\0" + "0"], ["\ud80000"], ["00𝟘"], [Strange()],
        Strange(), {"0": 1}, [np.str_("x" * 300)],
    ],
    "lists": [
        3, None, [3], [None], [[None]], [[[None]]], "ab", [["a"]], Strange(), [Strange()], [[Strange()]], [[]], [()],
        [[[]]], [(1, 2, 3, 4, 5)], [(HUGE, -HUGE, [HUGE])], [([[HUGE]], [], HUGE, -HUGE)],
    ],
    "space": [None, 3, [3], "space", Strange(), _core.Space, _core.CodeSet(_core.Space([2]))],
    "flag": [Strange()],
}  # fmt: skip
"""Values that no function may take for an argument of a kind."""


def good_arguments(kind: str) -> Any:
    world = ODD_WORLD
    codes = {
        "codes": world.codes(6),
        "code": world.codes(6)[1],
        "kept codes": array([tuple(options[-1] for options in world.kept)] * 6, 3),
        "dense codes": np.zeros((6, 3), np.uint8),
        "feasible codes": np.zeros((6, 3), np.uint8),
    }
    others = {"numbers": [0, 1], "texts": ["000"], "space": world.space, "lists": (), "flag": False}
    return codes.get(kind, others.get(kind, 1))


def caller_of(name: str) -> Callable[..., Any]:
    """The function, of a new set or of one of the odd world's objects."""
    first, _, method = name.partition(".")
    owner = FUNCTIONS[name].of
    if not method:
        return getattr(_core, first)  # type: ignore[no-any-return]
    if method == "__init__":
        return getattr(_core, first)  # type: ignore[no-any-return]
    on = _core.CodeSet(ODD_WORLD.space) if owner == "set" else getattr(ODD_WORLD, owner)
    return getattr(on, method)  # type: ignore[no-any-return]


def arguments_of(name: str) -> dict[str, Any]:
    special: dict[str, dict[str, Any]] = {
        "Subspace.__init__": {"sizes": [3, 4], "kept": [[0], [1]]},
        "Space.__init__": {"sizes": [3, 4]},
    }
    return special.get(name, {key: good_arguments(kind) for key, kind in FUNCTIONS[name].takes.items()})


PARAMETERS = [(name, key, kind) for name, function in FUNCTIONS.items() for key, kind in function.takes.items()]
ARRAYS = [(name, key, kind) for name, key, kind in PARAMETERS if "codes" in kind]


@pytest.mark.parametrize(("name", "key", "kind"), PARAMETERS)
def test_odd_arguments(name: str, key: str, kind: str) -> None:
    """Refused with a clear error, whatever else is given; what is strange of the caller's own may raise through."""
    caller_of(name)(**arguments_of(name))
    odd = odd_codes(good_arguments(kind)) if "codes" in kind else ODD.get(kind) or odd_code()
    for value in odd:
        if name.startswith("hash") and isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 2:
            continue  # any bytes have a hash
        with pytest.raises((*CLEAR, ZeroDivisionError)) as caught:
            caller_of(name)(**arguments_of(name) | {key: value})
        assert str(caught.value).count("\n") == 0 or "incompatible" in str(caught.value)
        assert not isinstance(caught.value, ZeroDivisionError) or "Strange" in repr(value)


def odd_code() -> list[Any]:
    good = ODD_WORLD.codes(6)
    return [good, good[0, :2], good[0].astype(np.int64), good[0] > 0, [0, 0, 0], None, np.full(3, 255, np.uint8)]


@pytest.mark.parametrize(("name", "key", "kind"), ARRAYS)
def test_layouts(name: str, key: str, kind: str) -> None:
    """The same codes, however they lie in memory, give the same."""
    good = good_arguments(kind)
    wide = np.zeros((12, 7), np.uint8)
    wide[::2, 1::2] = good
    read_only = good.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"x" + good.tobytes(), np.uint8, offset=1).reshape(good.shape)
    layouts = [np.asfortranarray(good), wide[::2, 1::2], good[::-1].copy()[::-1], read_only, unaligned]
    layouts += [good.view(np.dtype(np.uint8).newbyteorder()), good.view(np.matrix), np.ma.MaskedArray(good)]
    expected = caller_of(name)(**arguments_of(name))
    for layout in layouts:
        np.testing.assert_array_equal(caller_of(name)(**arguments_of(name) | {key: layout}), expected)


@pytest.mark.parametrize(("name", "key", "kind"), ARRAYS)
def test_empty_batches(name: str, key: str, kind: str) -> None:
    arguments = {k: v[:0] if isinstance(v, np.ndarray) else v for k, v in arguments_of(name).items()}
    result = caller_of(name)(**arguments)
    assert result is None or len(result) == 0


@pytest.mark.parametrize(("name", "key", "kind"), [one for one in PARAMETERS if one[2] in ("count", "seed", "start")])
@pytest.mark.parametrize("number", [True, np.int8(1), np.uint64(1), np.array(1)])
def test_numbers_of_other_types(name: str, key: str, kind: str, number: Any) -> None:
    """Whatever counts as an integer to Python."""
    result = caller_of(name)(**arguments_of(name) | {key: number})
    if isinstance(result, np.ndarray):
        np.testing.assert_array_equal(result, caller_of(name)(**arguments_of(name)))


def test_huge_starts_are_behind_the_end() -> None:
    for owner in (ODD_WORLD.space, ODD_WORLD.subspace, ODD_WORLD.feasible):
        for start in (2**64, 2**128, HUGE):
            assert owner.enumerate(start, 2).shape == owner.sample(2, 1, start).shape == (0, 3)


def test_lists_that_change_while_they_are_read() -> None:
    numbers: list[Any] = [1, 2, 3]

    class Eraser:
        def __index__(self) -> int:
            numbers.clear()
            return 1

    numbers[0] = Eraser()
    assert ODD_WORLD.space.from_index(numbers).shape == (1, 3)
