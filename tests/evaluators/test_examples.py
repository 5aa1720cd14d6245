"""The examples that the project ships can be built, and one trial of each runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncode_search.evaluators.base import Context, Result
from ncode_search.evaluators.registry import build

MakeContext = Callable[..., Context]
Reports = list[tuple[int, dict[str, float]]]

# As a name and not as a statement: type checkers read the files for the oldest Python, without tomllib.
tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

EXAMPLES = Path(__file__).parents[2] / "examples"


def _run_first(name: str, make_context: MakeContext) -> tuple[dict[str, Any], Result]:
    document = tomllib.loads((EXAMPLES / name).read_text(encoding="utf-8"))
    options = dict(document["evaluator"])
    evaluator = build(options.pop("kind"), options, EXAMPLES, document["space"])
    config = {position: choices[1] for position, choices in document["space"].items()}
    result = evaluator(config, make_context(folder=EXAMPLES))
    assert isinstance(result, Result)
    return document, result


@pytest.mark.slow
def test_digits_cnn(make_context: MakeContext, reports: Reports) -> None:
    document, result = _run_first("digits_cnn.toml", make_context)
    assert len(document["space"]) >= 10
    assert 0 < result.value < 1
    assert len(reports) == document["evaluator"]["epochs"]


def test_digits_asha_is_digits_cnn_trained_for_longer() -> None:
    plain, longer = (tomllib.loads((EXAMPLES / f"digits_{name}.toml").read_text()) for name in ("cnn", "asha"))
    assert longer["evaluator"] == {**plain["evaluator"], "epochs": 3 * plain["evaluator"]["epochs"]}
    assert [longer[table] for table in ("space", "equal")] == [plain[table] for table in ("space", "equal")]
    assert longer["search"]["least_epochs"] * 2 == longer["evaluator"]["epochs"]


@pytest.mark.slow
def test_digits_mobile(make_context: MakeContext, reports: Reports) -> None:
    _, result = _run_first("digits_mobile.toml", make_context)
    assert result.value > 0.7
    assert len(reports) == 5


def test_my_function(make_context: MakeContext, reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    document, result = _run_first("my_function.toml", make_context)
    assert document["ranker"]["kind"] == "evolution"
    assert 0.1 < result.value < 1
    assert [step for step, _ in reports] == [1, 2, 3]
