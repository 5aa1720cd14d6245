"""Samples in the published format: what is in them, and that they are what a search would have met."""

import numpy as np
import pytest

from ncode_search.agent.errors import InputError
from ncode_search.agent.tuning.pruning import sample_subspace
from ncode_search.agent.tuning.published import SampleMaker, SampleSettings, Source, draw_task


def parsed(text):
    trials = [trial.split("|") for trial in text.split(",")[:-1]]
    return [code for code, _ in trials], [float(score) for _, score in trials]


def subspace(table, seed=0, **options):
    from ncode_search.agent.score_table import ScoreTable

    return sample_subspace(ScoreTable.read(table, "acc"), np.random.default_rng(seed), **options)


def test_a_sample_has_the_published_shape(table):
    make = SampleMaker(Source.parse(f"{table}:acc"), SampleSettings(history=40), seed=0)
    lengths = set()
    for sample in map(make, range(60)):
        codes, scores = parsed(sample.history)
        candidates = sample.candidates.split(";")
        assert candidates.pop() == ""
        assert len(candidates) == len(set(candidates)) == 10
        assert len(codes) == len(set(codes)) <= 40
        assert not set(codes) & set(candidates)
        assert sample.answer in candidates
        assert scores == sorted(scores, reverse=True)
        assert scores[0] == 1.0
        assert scores[-1] == 0.0 or len(scores) == 1
        assert all(round(score, 4) == score for score in scores)
        assert sample.prompt == sample.history + sample.candidates
        lengths.add(len(codes))
    assert len(lengths) > 20


def test_the_answer_is_the_best_candidate_and_minimised_columns_are_turned_round(table):
    high = SampleMaker(Source.parse(f"{table}:acc"), SampleSettings(), seed=3)
    low = SampleMaker(Source.parse(f"{table}:-loss"), SampleSettings(), seed=3)
    assert [high(at) for at in range(20)] == [low(at) for at in range(20)]


def test_pools_are_half_bred_from_the_best(table):
    space = subspace(table, share=0.0)
    near = 0
    for seed in range(50):
        rows, pool = draw_task(space, 60, 10, np.random.default_rng(seed))
        best = rows[np.argsort(-space.values[rows], kind="stable")[:10]]
        distances = (space.codes[pool][:, None] != space.codes[best][None]).sum(axis=2).min(axis=1)
        near += int((distances <= 2).sum())
        assert len(set(rows) | set(pool)) == 70
    assert near >= 250


def test_histories_improve(table):
    space = subspace(table, share=0.0)
    early, late = [], []
    for seed in range(100):
        rows, _ = draw_task(space, 40, 10, np.random.default_rng(seed))
        early.append(space.values[rows[:5]].mean())
        late.append(space.values[rows[-10:]].mean())
    assert np.mean(late) > np.mean(early) + 0.5 * space.values.std()


def test_a_table_can_be_used_up(table):
    space = subspace(table, share=0.0)
    rows, pool = draw_task(space, len(space) - 10, 10, np.random.default_rng(0))
    assert sorted([*rows, *pool]) == list(range(len(space)))


def test_a_space_of_one_position_works(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("code,x\n" + "".join(f"{digit},{at}\n" for at, digit in enumerate("0123456789abcdef")))
    make = SampleMaker(Source.parse(f"{path}:x"), SampleSettings(pool=4), seed=0)
    assert {make(at).candidates.count(";") for at in range(20)} == {4}


def test_the_description_stands_before_the_prompt(table):
    plain = SampleMaker(Source.parse(f"{table}:acc"), SampleSettings(), seed=0)(0)
    told = SampleMaker(Source.parse(f"{table}:acc"), SampleSettings(describe="Digits."), seed=0)(0)
    assert told.prompt == f"Digits. Metric: acc.\n{plain.prompt}"


def test_samples_can_share_a_history(table):
    source = Source.parse(f"{table}:acc")
    alone = SampleMaker(source, SampleSettings(history=20), seed=4)
    several = SampleMaker(source, SampleSettings(history=20, pools=3), seed=4)
    for at in range(10):
        group = [several(3 * at + number) for number in range(3)]
        assert group[0] == alone(at)
        assert len({sample.history for sample in group}) == 1
        assert len({sample.candidates for sample in group}) == 3


def test_histories_and_subspaces_can_be_bounded(table):
    settings = SampleSettings(history=12, least_history=10, pool=4, most_rows=40)
    make = SampleMaker(Source.parse(f"{table}:acc"), settings, seed=0)
    assert {make(at).history.count("|") for at in range(40)} == {10, 11, 12}
    sizes = [len(subspace(table, seed, least_rows=settings.least_rows, most_rows=40)) for seed in range(40)]
    assert min(sizes) >= settings.least_rows == 20
    assert max(sizes) <= 40


def test_subspaces_can_be_pruned_by_saliency(table):
    """Of 4, 3, 5 and 3 options one each is dropped: two would leave fewer rows than a subspace has at least."""
    source, bounds = Source.parse(f"{table}:acc"), {"pool": 4, "most_rows": 60}

    def shapes(salient):
        make = SampleMaker(source, SampleSettings(**bounds, salient=salient), seed=0)
        codes = [parsed(make(at).history)[0] for at in range(40)]
        return [
            [1 + max(map(int, digits)) for digits in zip(*group, strict=True)] for group in codes if len(group) > 30
        ]

    assert {tuple(shape) for shape in shapes(1.0)} == {(3, 2, 4, 2)}
    assert len({tuple(shape) for shape in shapes(0.0)}) > 3


@pytest.mark.parametrize("text", ["table.csv", "table.csv:", ":acc", "table.csv:acc,", "table.csv:-"])
def test_a_table_without_a_column_is_one_clear_error(text):
    with pytest.raises(InputError, match="give FILE.csv:COLUMN"):
        Source.parse(text)


def test_columns_and_directions_are_read():
    found = Source.parse("a:b.csv:x,-y")
    assert [(str(source.path), source.metric, source.minimize) for source in found] == [
        ("a:b.csv", "x", False),
        ("a:b.csv", "y", True),
    ]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"history": 201}, "1 to 200"),
        ({"history": 9, "least_history": 10}, "--least-history 10: give 1 to 9"),
        ({"pool": 1}, "2 to 1000"),
        ({"most_rows": 19}, "give 20 or more"),
        ({"pools": 0}, "--pools 0"),
        ({"salient": 1.5}, "--salient 1.5: give a share"),
    ],
)
def test_settings_are_checked(settings, match):
    with pytest.raises(InputError, match=match):
        SampleSettings(**settings)


def test_a_table_smaller_than_the_pool_is_one_clear_error(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("code,x\n0,1\n1,2\n")
    with pytest.raises(InputError, match="2 rows are too few"):
        SampleMaker(Source.parse(f"{path}:x"), SampleSettings(), seed=0)
