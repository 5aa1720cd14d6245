"""Subspaces of tables: which rows they have, and that their digits mean what they should."""

import itertools

import numpy as np
import pytest

from ncode_search.agent.errors import InputError
from ncode_search.agent.score_table import ScoreTable
from ncode_search.agent.space import SearchSpace
from ncode_search.agent.tuning import pruning
from ncode_search.agent.tuning.pruning import (
    kept_by_saliency,
    mean_scores,
    pruned,
    salient_subspace,
    sample_subspace,
)


def make_table(sizes=(4, 3, 5, 2), *, rows: int | None = None, seed: int = 0) -> ScoreTable:
    """A table of additive scores, complete or with `rows` random rows."""
    codes = np.array(list(itertools.product(*map(range, sizes))), dtype=np.uint8)
    rng = np.random.default_rng(seed)
    if rows is not None:
        codes = codes[rng.permutation(len(codes))[:rows]]
    effects = [rng.normal(size=size) for size in sizes]
    values = sum(effect[codes[:, at]] for at, effect in enumerate(effects))
    space = SearchSpace({f"p{at}": list(range(size)) for at, size in enumerate(sizes)})
    return ScoreTable(space, codes, values, values, np.arange(len(codes)))


@pytest.mark.parametrize("rows", [None, 70])
def test_a_subspace_has_the_rows_of_its_options_only(rows):
    table = make_table(rows=rows)
    kept = [[3, 1], [2], [4, 0, 2], [0, 1]]
    found = pruned(table, kept)
    expected = {
        (kept[0].index(a), kept[2].index(c), kept[3].index(d)): value
        for (a, b, c, d), value in zip(table.codes.tolist(), table.values, strict=True)
        if a in kept[0] and b in kept[1] and c in kept[2] and d in kept[3]
    }
    assert found.sizes == [2, 3, 2]
    assert {tuple(code): value for code, value in zip(found.codes.tolist(), found.values, strict=True)} == expected


def test_nothing_left_is_one_clear_error():
    with pytest.raises(InputError, match="drop fewer options"):
        pruned(make_table(), [[0], [0], [0], [0]])


@pytest.mark.parametrize("indexed", [True, False])
def test_rows_are_found_by_their_codes(indexed, monkeypatch):
    if not indexed:
        monkeypatch.setattr(pruning, "_MOST_INDEXED", 0)
    found = pruned(make_table(rows=70), [[3, 1, 0], [2, 0, 1], [4, 0, 2], [0, 1]])
    everything = found.space.enumerate(0, found.space.size)
    rows = found.rows_of(everything)
    assert found.rows_of(found.codes).tolist() == list(range(len(found)))
    assert (rows >= 0).sum() == len(found) < len(everything)
    assert np.array_equal(found.codes[rows[rows >= 0]], everything[rows >= 0])


def test_random_subspaces_differ_and_repeat_with_the_seed():
    table = make_table()
    draws = [sample_subspace(table, np.random.default_rng(seed), least_rows=8) for seed in range(50)]
    again = [sample_subspace(table, np.random.default_rng(seed), least_rows=8) for seed in range(50)]
    assert all(np.array_equal(a.values, b.values) for a, b in zip(draws, again, strict=True))
    assert all(len(draw) >= 8 and min(draw.sizes) > 1 for draw in draws)
    assert len({tuple(draw.sizes) for draw in draws}) > 10
    assert any(len(draw.sizes) < 4 for draw in draws)


def test_digits_are_renumbered_at_random():
    table = make_table()
    best = int(table.values.argmax())
    wholes = [sample_subspace(table, np.random.default_rng(seed), share=0.0) for seed in range(20)]
    assert all(len(whole) == len(table) for whole in wholes)
    assert len({tuple(whole.codes[best]) for whole in wholes}) > 10


def test_a_table_that_is_smaller_than_asked_is_taken_whole():
    assert len(sample_subspace(make_table(rows=10), np.random.default_rng(0), share=1.0)) == 10


def test_saliency_keeps_what_matters():
    saliency = [np.array([0.1, 3.0, 2.0]), np.array([5.0, 5.0]), np.array([1.0])]
    assert kept_by_saliency(saliency, drop=1) == [[1, 2], [0], [0]]
    shuffled = [kept_by_saliency(saliency, 1, np.random.default_rng(seed))[0] for seed in range(20)]
    assert {tuple(options) for options in shuffled} == {(1, 2), (2, 1)}


def test_the_mean_score_is_the_saliency_of_a_table():
    table = make_table(rows=70)
    saliency = mean_scores(table)
    assert [len(scores) for scores in saliency] == [4, 3, 5, 2]
    assert saliency[2][4] == pytest.approx(table.values[table.codes[:, 2] == 4].mean())
    kept = kept_by_saliency(saliency, drop=1)
    assert pruned(table, kept).values.mean() > table.values.mean()


def test_salient_subspaces_lose_the_same_number_of_the_worst_options_everywhere():
    table = make_table()
    saliency = mean_scores(table)
    draws = [salient_subspace(table, saliency, np.random.default_rng(seed), least_rows=6) for seed in range(40)]
    wholes = [pruned(table, kept_by_saliency(saliency, drop)) for drop in (1, 2)]
    assert {len(found) for found in draws} == {len(whole) for whole in wholes}, "three and four leave too few rows"
    for found in draws:
        whole = next(one for one in wholes if len(one) == len(found))
        assert sorted(found.values) == pytest.approx(sorted(whole.values))
        assert found.values.max() == table.values.max()
    assert salient_subspace(table, saliency, np.random.default_rng(0), least_rows=100) is None
