"""The tables that come with the project hold their whole space, and what stands in them can be trained again."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from ncode_search.agent.score_table import ScoreTable
from ncode_search.agent.search_file import SearchFile
from ncode_search.evaluators.base import Context, Result
from ncode_search.evaluators.registry import build

TABLES = Path(__file__).parents[2] / "examples" / "tables"
NAMES = sorted(path.name.removesuffix(".csv.gz") for path in TABLES.glob("*.csv.gz"))


def _rows(name: str) -> list[dict[str, str]]:
    with gzip.open(TABLES / f"{name}.csv.gz", "rt") as file:
        return list(csv.DictReader(file))


def test_there_are_tables_and_they_are_small() -> None:
    assert "digits_cnn" in NAMES
    assert sum(path.stat().st_size for path in TABLES.glob("*.csv.gz")) < 300_000


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_of_the_file_beside_it(name: str) -> None:
    space, rows = SearchFile.load(TABLES / f"{name}.toml").space, _rows(name)
    codes = space.from_text([row["code"] for row in rows])
    assert len(rows) == space.feasible == ScoreTable.read(TABLES / f"{name}.csv.gz", "value").space.size
    assert {row.get("canon", row["code"]) for row in rows} == set(space.to_text(space.canonical(codes)))
    for code, row in zip(codes[::50], rows[::50], strict=True):
        assert [row[f"config.{position}"] for position in space] == [str(one) for one in space.decode(code).values()]


@pytest.mark.slow
def test_a_row_of_the_cnns_can_be_trained_again(make_context: Callable[..., Context]) -> None:
    """Processors round differently, so the score is nearly the same."""
    file = SearchFile.load(TABLES / "digits_cnn.toml")
    options = dict(file.evaluator)
    evaluator = build(options.pop("kind"), options, TABLES, file.space.positions)
    row = next(row for row in _rows("digits_cnn") if row["code"] == "333211")
    result = evaluator(file.space.decode(row["code"]), make_context(seed=file.settings.seed))
    assert isinstance(result, Result)
    assert result.value == pytest.approx(float(row["value"]), abs=0.02)
