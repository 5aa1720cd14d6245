"""Configurations of the user's own: recorded and evaluated as given, told apart by their canonical codes."""

import json

import pytest

from ncode_search import Cost, Search, SearchSpace
from ncode_search.agent import export
from ncode_search.agent.errors import InputError
from ncode_search.agent.history import Trial
from ncode_search.agent.search import SpaceExhaustedError


def trials_of(search: Search) -> list[Trial]:
    with search.history() as history:
        return list(history.trials())


CONDITIONAL = SearchSpace(
    {"op": ["conv", "pool"], "kernel": [3, 5], "width": [8, 16]},
    when={"kernel": {"op": ["conv"]}},
    costs=[Cost("params", {"op": [10, 0], "width": [8, 16]}, most=24)],
)


def test_an_enqueued_configuration_is_tried_first_as_given_and_its_equals_never(make_search) -> None:
    mine = {"op": "pool", "kernel": 5, "width": 16}
    with make_search(None, space=CONDITIONAL) as search:
        queued = search.enqueue(mine)
        assert (queued.id, queued.code, queued.canonical, queued.proposed_by) == (1, "111", "101", "enqueued")
        assert search.enqueue({**mine, "kernel": 3}) == queued, "an equal one is the same trial"
    with make_search(None, space=CONDITIONAL) as search:
        trial = search.ask()
        assert (trial.id, trial.code, trial.config) == (1, "111", mine)
        search.tell(trial, 1.0)
        assert search.enqueue(mine).value == 1.0
        others = [search.ask().config for _ in range(3)]
        with pytest.raises(SpaceExhaustedError):
            search.ask()
        assert sorted(map(str, others)) == sorted(
            [str({"op": "conv", "kernel": kernel, "width": 8}) for kernel in (3, 5)]
            + [str({"op": "pool", "kernel": 3, "width": 8})]
        )


def test_wrong_configurations_are_not_queued(make_search) -> None:
    with make_search(None, space=CONDITIONAL) as search:
        with pytest.raises(InputError, match="breaks a bound or is forbidden; it costs 26 params: {"):
            search.enqueue({"op": "conv", "kernel": 3, "width": 16})
        with pytest.raises(InputError, match="position 'width' has no option 9"):
            search.enqueue({"op": "conv", "kernel": 3, "width": 9})
        assert trials_of(search) == []


def test_workers_evaluate_an_enqueued_configuration_as_given(make_search) -> None:
    space = SearchSpace({"a": [0, 1], "b": [0, 1, 2], "c": [0, 1, 2]}, when={"b": {"a": [0]}})
    search = make_search(space=space, trials=3)
    search.enqueue({"a": 1, "b": 2, "c": 0})
    assert search.run().completed == 3
    first = trials_of(search)[0]
    assert (first.code, first.canonical, first.value) == ("120", "100", 0.3)


def test_both_codes_are_listed_and_exported(make_search) -> None:
    with make_search(None, space=CONDITIONAL) as search:
        search.enqueue({"op": "pool", "kernel": 5, "width": 16})
        search.ask()
    with search.history() as history:
        lines = list(export.text_lines(history, CONDITIONAL))
        assert [line.split()[:4] for line in lines] == [
            ["trial", "code", "canonical", "state"],
            ["1", "111", "101", "running"],
        ]
        (exported,) = map(json.loads, export.json_lines(history, CONDITIONAL))
        assert (exported["code"], exported["canonical"], exported["config"]["kernel"]) == ("111", "101", 5)
        head, row = export.csv_lines(history, CONDITIONAL)
        assert head.split(",")[1:3] == ["code", "canonical"]
        assert row.split(",")[1:3] == ["111", "101"]
        assert "canonical" not in next(export.text_lines(history, SearchSpace(CONDITIONAL.positions)))
