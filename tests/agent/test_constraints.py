"""Spaces with costs, bounds and forbidden combinations: what is feasible, what is kept, what is said of wrong ones."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncode_search import Cost, Search, SearchSpace
from ncode_search.agent.errors import HistoryError, InputError
from ncode_search.agent.observations import ObservationLog
from ncode_search.agent.pool import CandidatePool
from ncode_search.agent.search import SpaceExhaustedError

POSITIONS: dict[str, list[Any]] = {"op": ["conv", "pool"], "kernel": [3, 5], "width": [8, 16, 32]}
PARAMS = Cost("params", {"op": {"conv": 9, "pool": 0}, "width": {8: 1, 16: 2, "32": 4}}, most=12)


def configs(space: SearchSpace) -> list[tuple[Any, ...]]:
    return [tuple(space.decode(code).values()) for code in space.draws.enumerate(0, space.size)]


def test_a_bound_leaves_what_keeps_to_it() -> None:
    space = SearchSpace(POSITIONS, costs=[PARAMS])
    assert (space.is_constrained, space.feasible, space.size, space.unique_size()) == (True, 10, 12, 10)
    assert all(config[0] == "pool" or config[2] < 32 for config in configs(space))
    codes = space.core.enumerate(0, 12)
    np.testing.assert_array_equal(space.cost(codes)[:, 0], np.tile([10, 11, 13, 10, 11, 13, 1, 2, 4, 1, 2, 4], 1))
    np.testing.assert_array_equal(space.fits(codes), space.cost(codes)[:, 0] <= 12)
    assert space.cost_ranges() == {"params": (1, 11)}
    assert space.size_text == "12 codes, 10 of them feasible"


def test_without_bounds_costs_are_only_told() -> None:
    costs = [Cost("b", {"width": [0.1, 0.2, 0.3]}), Cost("a", {"op": [1, 2]})]
    space = SearchSpace(POSITIONS, costs=costs)
    assert (space.is_constrained, space.feasible, space.cost_names) == (False, 12, ("a", "b"))
    assert space.draws is space.core
    assert space.cost(space.core.enumerate(2, 1)).tolist() == [[1.0, 0.3]]
    large = SearchSpace({f"p{at}": [0, 1] for at in range(200)}, costs=[Cost("ones", {"p0": [0, 1], "p199": [0, 1]})])
    assert (large.feasible, large.cost_ranges()) == (2**200, {"ones": (0, 2)})
    plain = SearchSpace(POSITIONS)
    assert (plain.cost_names, plain.declared, plain.cost(plain.core.enumerate(0, 2)).shape) == ((), {}, (2, 0))


def test_tenths_are_tenths() -> None:
    """In floating point, 0.1 + 0.2 is more than 0.3."""
    positions = {"x": ["a", "b"], "y": ["a", "b"]}
    costs = {"x": [0.1, 0.5], "y": [0.2, 0.7]}
    assert configs(SearchSpace(positions, costs=[Cost("c", costs, most=0.3)])) == [("a", "a")]
    assert configs(SearchSpace(positions, costs=[Cost("c", costs, least=0.7, most=0.7)])) == [("b", "a")]


def test_pairs_of_neighbours_and_forbidden_combinations() -> None:
    switch = Cost("switches", {"op": [0, 0]}, {("kernel", "width"): {3: [0, 1, 1], 5: {8: 1, 16: 0, 32: 0}}}, most=0)
    space = SearchSpace(POSITIONS, costs=[switch], forbidden=[{"op": "pool", "width": [16, 32]}])
    assert configs(space) == [("conv", 3, 8), ("conv", 5, 16), ("conv", 5, 32), ("pool", 3, 8)]


def test_what_does_not_matter_costs_nothing_and_is_not_forbidden() -> None:
    when = {"kernel": {"op": ["conv"]}}
    costs = [Cost("c", {"op": [1, 1], "kernel": [3, 5]}, {("kernel", "width"): [[1, 2, 3], [4, 5, 6]]}, most=5)]
    space = SearchSpace(POSITIONS, when=when, costs=costs, forbidden=[{"kernel": 3, "width": 32}])
    assert configs(space) == [("conv", 3, 8), ("pool", 3, 8), ("pool", 3, 16), ("pool", 3, 32)]
    codes = space.draws.enumerate(0, 9)
    assert space.cost(codes)[:, 0].tolist() == [5, 1, 1, 1]
    codes[1:, 1] = 1
    assert space.cost(codes)[:, 0].tolist() == [5, 1, 1, 1]
    assert space.fits(space.canonical(codes)).all()
    assert (space.feasible, space.unique_size()) == (4, 4)
    assert space.size_text == "12 codes, 4 of them feasible"
    groups = [[["a"], ["b"]]]
    both = SearchSpace({"a": [0, 1], "b": [0, 1]}, interchangeable=groups, costs=[Cost("c", {"a": [0, 1]}, most=0)])
    assert (both.size_text, both.unique_size()) == ("4 codes, 2 of them feasible, some of those equal", 2)


def test_conditions_that_are_too_far_apart_are_told() -> None:
    positions = {f"{part}{at:02}": [0, 1] for part in "ab" for at in range(30)}
    when = {f"b{at:02}": {f"a{at:02}": [1]} for at in range(30)}
    said = "conditional positions are too far from those that they depend on; put each right behind them"
    for costs in ([], [Cost("c", {name: [1, 2] for name in positions})]):
        with pytest.raises(InputError, match=said):
            SearchSpace(positions, when=when, costs=costs, forbidden=[{"a00": 1, "a01": 1}])
    near = dict(sorted(positions.items(), key=lambda one: one[0][1:]))
    costs = [Cost("c", {name: [1, 2] for name in positions}, most=40)]
    assert 0 < SearchSpace(near, when=when, costs=costs).feasible < 3**30


def test_an_option_that_is_a_list_is_one_option() -> None:
    space = SearchSpace({"x": [[1, 2], 1, 2]}, forbidden=[{"x": [1, 2]}])
    assert configs(space) == [(1,), (2,)]
    assert configs(SearchSpace({"x": [[1, 2], 1, 2]}, forbidden=[{"x": [[1, 2], 1]}])) == [(2,)]


def test_a_unit_never_lets_a_code_beyond_a_bound_in() -> None:
    rng = np.random.default_rng(0)
    positions = {f"p{at}": [*range(6)] for at in range(8)}
    table = {name: rng.integers(0, 10**9, 6).tolist() for name in positions}
    exact = SearchSpace(positions, costs=[Cost("c", table, least=3 * 10**9, most=35 * 10**8)])
    coarse = SearchSpace(positions, costs=[Cost("c", table, least=3 * 10**9, most=35 * 10**8, unit=10**7)])
    assert 0.5 * exact.feasible < coarse.feasible < exact.feasible
    assert exact.fits(coarse.draws.random(2000, 1)).all()
    low, high = coarse.cost_ranges()["c"]
    assert 3 * 10**9 <= low < 3.1 * 10**9 < 3.4 * 10**9 < high <= 3.5 * 10**9


def test_sums_that_are_too_many_are_told_with_a_unit_that_works() -> None:
    rng = np.random.default_rng(0)
    positions = {f"p{at}": [*range(8)] for at in range(20)}
    tables = {one: {name: rng.integers(1, 400, 8).tolist() for name in positions} for one in "ab"}
    with pytest.raises(InputError, match=r"^\[costs.[ab]\] its sums differ in too many ways .*: unit = 5e\+01$"):
        SearchSpace(positions, costs=[Cost(name, table, most=4000) for name, table in tables.items()])
    space = SearchSpace(positions, costs=[Cost(name, table, most=4000, unit=50) for name, table in tables.items()])
    assert (space.cost(space.draws.random(1000, 1)).max(axis=0) <= 4000).all()


@pytest.mark.parametrize(
    ("costs", "forbidden", "said"),
    [
        ([("a", 3, None, 2)], [], "[costs.a] most = 2, but the smallest possible is 3"),
        ([("a", 0.5, None, 0.4)], [], "[costs.a] most = 0.4, but the smallest possible is 0.5"),
        ([("a", 0, 9, None)], [], "[costs.a] least = 9, but the largest possible is 6"),
        ([("a", 0, None, 1), ("b", 1, 6, None)], [], "least = 6, but the largest possible is 1 where the other"),
        ([("a", 0, None, 2)], [{"x": "low"}], "[costs.a] most = 2, but the smallest possible is 3 where the other"),
        ([("a", 0, 1, 2)], [], "[costs.a] none of its sums is within least = 1 and most = 2"),
        ([("a", 0, None, -1), ("b", 20, None, 1)], [], "[costs.b] most = 1, but the smallest possible is 20"),
        ([("a", 20, None, 1), ("b", 0, None, -1)], [], "[costs.a] most = 1, but the smallest possible is 20"),
        ([("a", 0, None, -1), ("b", 9, 2, 2)], [], "[costs.b] most = 2, but the smallest possible is 9"),
        ([], [{"x": ["low", "high"]}], '[[forbidden]] {"x": ["low", "high"]} leaves none of those that keep to the'),
    ],
)
def test_infeasible_bounds_name_the_tightest_and_what_is_possible(
    costs: list[Any], forbidden: list[Any], said: str
) -> None:
    positions = {"x": ["low", "high"], "y": ["low", "high"]}
    declared = [
        Cost(name, {"x": [low, low + 3], "y": [0, 3]}, least=least, most=most) for name, low, least, most in costs
    ]
    with pytest.raises(InputError) as caught:
        SearchSpace(positions, costs=declared, forbidden=forbidden)
    assert str(caught.value).startswith("no code fits: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


WRONG_OPTIONS: list[tuple[Any, str]] = [
    ([1, 2], "options is [1, 2]; it must be a table of positions"),
    ({"depth": [1]}, "[costs.c] options: unknown position 'depth'; allowed: 'op', 'kernel', 'width'"),
    ({"op": [1]}, "[costs.c] options of position 'op': 1 costs for 2 options; give one to each"),
    ({"op": {"conv": 1}}, "[costs.c] options of position 'op': option \"pool\" has no cost; give one to each of"),
    ({"op": {"conv": 1, "pol": 1}}, "[costs.c] options of position 'op': there is no option 'pol'; allowed: \"conv\""),
    ({"op": "conv"}, "[costs.c] options of position 'op' is 'conv'; give a list of costs, or a table by option"),
    ({"op": [1, "2"]}, "[costs.c] options of position 'op' has '2'; it must be a finite number"),
    ({"op": [1, True]}, "has True; it must be a finite number"),
    ({"op": [1, float("inf")]}, "has inf; it must be a finite number"),
]
WRONG_PARTS: list[tuple[dict[str, Any], str]] = [
    ({"most": "12"}, "[costs.c] most has '12'; it must be a finite number"),
    ({"least": 3, "most": 2}, "[costs.c] least = 3 is above most = 2; swap or mend them"),
    ({"unit": 0}, "[costs.c] unit is 0; it must be above 0"),
    ({"options": {"op": [1, 1e19]}, "most": 2}, "[costs.c] its numbers are too large, or have too many digits"),
    ({"options": {"op": [1, 1e-19]}, "most": 2}, "compared with bounds; let them be rounded: unit = 2e-04"),
    ({"options": {"op": [1e19, 1e19]}, "most": 2}, "let them be rounded: unit = 2e+04"),
    ({"most": 2, "unit": 1e-20}, "[costs.c] its numbers are too large, or have too many digits"),
    ({"pairs": []}, "[costs.c] pairs is []; it must be a table of pairs of positions"),
    ({"pairs": {"op": []}}, "[costs.c] pairs: 'op' is no pair of positions"),
    ({"pairs": {("op", "depth"): []}}, "[costs.c] pairs: unknown position 'depth'"),
    ({"pairs": {("op", "width"): []}}, "'width' does not come right after 'op'; reorder [space]"),
    ({"pairs": {("width", "op"): []}}, "'op' does not come right after 'width'; reorder [space]"),
    ({"pairs": {("op", "kernel"): [[1, 1]]}}, "[costs.c] pairs: 1 costs for 2 options"),
    ({"pairs": {("op", "kernel"): [[1, 1], [1]]}}, "[costs.c] pairs of position 'kernel': 1 costs for 2 options"),
]
WRONG_SPACES: list[tuple[dict[str, Any], str]] = [
    ({"costs": PARAMS}, "must be a list"),
    ({"costs": [{"name": "c"}]}, "is none; give a Cost with a name"),
    ({"costs": [PARAMS, PARAMS]}, "cost 'params' is declared twice; rename one of them"),
    ({"forbidden": {"op": "conv"}}, "forbidden is {'op': 'conv'}; it must be a list"),
    ({"forbidden": [{}]}, "forbidden combination {}: it must be a table of positions and options"),
    ({"forbidden": [{"depth": 1}]}, "forbidden: unknown position 'depth'; allowed: 'op', 'kernel', 'width'"),
    ({"forbidden": [{"op": "cnov"}]}, "forbidden: position 'op' has no option 'cnov'; allowed: \"conv\", \"pool\""),
    ({"forbidden": [{"op": []}]}, "forbidden: position 'op' has an empty list; name an option, or leave it out"),
    *[({"costs": [Cost("c", options)]}, said) for options, said in WRONG_OPTIONS],
    *[({"costs": [Cost("c", **{"options": {"op": [1, 2]}, **parts})]}, said) for parts, said in WRONG_PARTS],
]


@pytest.mark.parametrize(("declared", "said"), WRONG_SPACES)
def test_wrong_constraints_name_the_place(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        SearchSpace(POSITIONS, **declared)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_costs_as_a_profiler_prints_them() -> None:
    """Thirty-two bits, and sixteen digits."""
    positions = {f"p{at}": [0, 1, 2] for at in range(6)}
    small = np.random.default_rng(0).random((6, 3)).astype(np.float32) / 100
    long = np.random.default_rng(1).random((6, 3)) / 100
    free = SearchSpace(positions, costs=[Cost("c", dict(zip(positions, long, strict=True)))])
    codes = free.core.enumerate(0, free.size)
    sums = long[np.arange(6), codes].sum(axis=1)
    np.testing.assert_allclose(free.cost(codes)[:, 0], sums, rtol=1e-12)
    assert free.cost_ranges()["c"] == pytest.approx((sums.min(), sums.max()), rel=1e-12)
    bound = float(np.median(sums))
    rounded = SearchSpace(positions, costs=[Cost("c", dict(zip(positions, long, strict=True)), most=bound, unit=1e-6)])
    kept = rounded.fits(codes)
    assert not kept[sums > bound].any()
    assert kept[sums < bound - 6e-6].all()
    exact = SearchSpace(positions, costs=[Cost("c", dict(zip(positions, small, strict=True)), most=0.03)])
    sums = np.array([[Fraction(str(value)) for value in row] for row in small])[np.arange(6), codes].sum(axis=1)
    np.testing.assert_array_equal(exact.fits(codes), sums <= Fraction("0.03"))


def test_spaces_of_any_size_have_constraints() -> None:
    """More than 2**128 feasible codes: counted exactly, drawn and bred, searched."""
    positions = {f"p{at}": [0, 1, 2, 3] for at in range(200)}
    space = SearchSpace(positions, forbidden=[{"p0": 0, "p199": 3}, {"p7": [1, 2]}])
    assert space.feasible == (4**2 - 1) * 2 * 4**197
    assert space.unique_size() == space.feasible
    log = ObservationLog(len(space))
    pool = CandidatePool(space).draw(log.view(), 64, np.random.default_rng(0))
    assert len(np.unique(pool, axis=0)) == 64
    assert space.fits(pool).all()
    log.begin(1, pool[0])
    log.complete(1, 1.0)
    bred = CandidatePool(space).draw(log.view(), 64, np.random.default_rng(1))
    assert space.fits(bred).all()


def test_constraints_are_kept_and_compared_by_what_they_mean() -> None:
    pairs = {("op", "kernel"): {"conv": [0.5, 1], "pool": [0, 0]}}
    costs = [Cost("z", {"op": [0, 1]}, pairs, least=0, unit=0.25), PARAMS, Cost("nothing", {"op": [0, 0]}, most=1)]
    forbidden = [{"width": [32, 16], "op": "conv"}, {"op": ["pool"], "kernel": 5}]
    space = SearchSpace(POSITIONS, when={"kernel": {"op": ["conv"]}}, costs=costs, forbidden=forbidden)
    for again in (SearchSpace.from_json(space.to_json()), SearchSpace.restore(space.positions, space.declared)):
        assert again == space
        assert configs(again) == configs(space)
    turned = [{"kernel": [5], "op": "pool"}, {"op": ["conv"], "width": [16, 32, 16]}]
    assert SearchSpace(POSITIONS, when={"kernel": {"op": ["conv"]}}, costs=costs[::-1], forbidden=turned) == space
    assert SearchSpace(POSITIONS, costs=costs) != SearchSpace(POSITIONS, costs=[PARAMS])
    assert space.declared["costs"]["z"]["least"] == 0


# Search files

FILE = """
[search]
history = "search.db"
[space]
a.op = ["conv", "pool"]
"a.width" = { options = [8, 16, 32], when = { a.op = ["conv"] } }
norm = ["none", "batch"]
[costs.params]
options.a.op = { conv = 9, pool = 0 }
options."a.width" = [1, 2, 4]
pairs = [{ positions = ["a.op", "a.width"], costs = { conv = { 8 = 1, 16 = 2, 32 = 3 }, pool = [0, 0, 0] } }]
most = 13
[costs.ms]
options = { norm = [0.5, 1.5] }
[[forbidden]]
a.op = "pool"
norm = ["batch"]
[evaluator]
kind = "python"
function = "some:function"
"""
PAIR = '{ positions = ["a.op", "a.width"], costs = [[1, 2, 3], [0, 0, 0]] }'
FORBIDDEN = '[[forbidden]]\na.op = "pool"\nnorm = ["batch"]'


def test_a_search_file_declares_the_same(load_file) -> None:
    positions = {"a.op": ["conv", "pool"], "a.width": [8, 16, 32], "norm": ["none", "batch"]}
    options = {"a.op": [9, 0], "a.width": [1, 2, 4]}
    costs = [
        Cost("params", options, {("a.op", "a.width"): [[1, 2, 3], [0, 0, 0]]}, most=13),
        Cost("ms", {"norm": [0.5, 1.5]}),
    ]
    forbidden = [{"a.op": "pool", "norm": "batch"}]
    expected = SearchSpace(positions, when={"a.width": {"a.op": ["conv"]}}, costs=costs, forbidden=forbidden)
    assert load_file(FILE).space == expected
    assert expected.unique_size() == 5


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("most = 13", "most = -1", "no code fits: [costs.params] most = -1, but the smallest possible is 0"),
        ("most = 13", "mots = 13", 'mots is no key of [costs.params]; did you mean "most"'),
        ("most = 13", 'most = "13"', "[costs.params] most has '13'; it must be a finite number"),
        ("options = {", "option = {", 'option is no key of [costs.ms]; did you mean "options"'),
        ("options = { norm = [0.5, 1.5] }", "", "[costs.ms] has no costs; give those of a position's options"),
        ("options = { norm", "options = { nrom", "[costs.ms] options: unknown position 'nrom'; allowed: 'a.op'"),
        ("[costs.ms]", "[costs]\nx = 1\n[costs.ms]", "[costs.x] is 1; it must be a table with options"),
        ("conv = 9, pool", "conv = 9, pol", "there is no option 'pol'"),
        ('positions = ["a.op"', 'position = ["a.op"', "[costs.params] a pair is "),
        ('"a.width"], costs', '"norm"], costs', "[costs.params] pairs: 'norm' does not come right after 'a.op'"),
        ('positions = ["a.op", "a.width"]', 'positions = [["a.op"], ["a.width"]]', "[costs.params] a pair is "),
        (
            "pairs = [{",
            f"pairs = [{PAIR}, {{",
            "[costs.params] the pair a.op, a.width is given twice",
        ),
        ("pairs = [{", "pairs = 1 #", "[costs.params] pairs is 1; it must be a list"),
        ('a.op = "pool"', 'a.op = "pol"', "forbidden: position 'a.op' has no option 'pol'"),
        ('a.op = "pool"', 'b.op = "pool"', "forbidden: unknown position 'b.op'"),
        (FORBIDDEN, "[forbidden]", "[forbidden] is no list; write [[forbidden]] above every combination"),
        (FORBIDDEN, "[[forbidden]]", "forbidden combination {}: it must be a table of positions and options"),
    ],
)
def test_wrong_search_files_name_the_place(load_file, tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in FILE
    with pytest.raises(InputError) as caught:
        load_file(FILE.replace(before, after, 1))
    assert said in str(caught.value)
    assert str(tmp_path / "search.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


# Pools and searches


def observed(space: SearchSpace, seed: int) -> ObservationLog:
    log, rng = ObservationLog(len(space)), np.random.default_rng(seed)
    codes = space.canonical(space.draws.sample(3, seed))
    codes = np.unique(codes[space.fits(codes)], axis=0)
    log.load(codes, rng.random(len(codes)), codes[:0])
    return log


@given(st.integers(4, 13), st.booleans(), st.integers(1, 20), st.integers(0, 99))
@settings(deadline=None)
def test_pools_are_feasible_canonical_new_and_as_large_as_what_is_left(
    most: int, equal: bool, wanted: int, seed: int
) -> None:
    when = {"kernel": {"op": ["conv"]}} if equal else None
    costs = [Cost("params", {**PARAMS.options, "kernel": [3, 0]}, most=most)]
    space = SearchSpace(POSITIONS, when=when, costs=costs)
    log, candidates = observed(space, seed), CandidatePool(space)
    candidates.mark_seen(log.view().codes)
    pool = candidates.draw(log.view(), wanted, np.random.default_rng(seed))
    assert len(pool) == min(wanted, space.unique_size() - len(log.view()))
    assert space.fits(pool).all()
    np.testing.assert_array_equal(space.canonical(pool), pool)
    assert len(np.unique(np.concatenate([pool, log.view().codes]), axis=0)) == len(pool) + len(log.view())


def test_one_code_in_a_billion_is_found_at_once() -> None:
    positions = {f"p{at}": [0, 1] for at in range(60)}
    space = SearchSpace(positions, costs=[Cost("ones", {name: [0, 1] for name in positions}, least=3, most=3)])
    log, candidates = observed(space, 0), CandidatePool(space)
    pool = candidates.draw(log.view(), 128, np.random.default_rng(0))
    assert len(np.unique(pool, axis=0)) == 128
    assert (pool.sum(axis=1) == 3).all()


def test_a_search_tries_the_feasible_codes_and_no_other(tmp_path: Path) -> None:
    space = SearchSpace(POSITIONS, costs=[PARAMS])
    with Search(space, history=tmp_path / "x.db", ranker="evolution", trials=20) as search:
        seen = [tuple(search.ask().config.values()) for _ in range(10)]
        assert sorted(seen) == sorted(configs(space))
        with pytest.raises(SpaceExhaustedError, match="12 codes, 10 of them feasible; all have been proposed"):
            search.ask()
    other = SearchSpace(POSITIONS, costs=[Cost("params", PARAMS.options, most=13)])
    with (
        Search(other, history=tmp_path / "x.db", ranker="evolution") as search,
        pytest.raises(HistoryError, match="another costs: 'params.most' is 12 in the history and 13 now"),
    ):
        search.ask()
