"""Tables of scores as arrays."""

from pathlib import Path

import numpy as np
import pytest

from ncode_search.agent.errors import InputError
from ncode_search.agent.score_table import ScoreTable


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text("code,accuracy,cost\n010,0.5,3\n100,0.25,2\n012,0.75,1\n000,0.1,9\n")
    return path


def canon(folder: Path, *lines: str) -> Path:
    path = folder / "canon.csv"
    path.write_text("\n".join(["code,canon", *lines]))
    return path


def test_codes_values_and_rows(table: Path) -> None:
    found = ScoreTable.read(table, "cost", minimize=True, report="accuracy")
    assert found.space.core.sizes == [2, 2, 3]
    np.testing.assert_array_equal(found.values, [-3, -2, -1, -9])
    np.testing.assert_array_equal(found.report, [0.5, 0.25, 0.75, 0.1])
    asked = found.space.from_text(["012", "010", "111", "000"])
    np.testing.assert_array_equal(found.rows_of(asked), [2, 0, -1, 3])
    assert not found.is_complete


def test_a_class_has_the_score_of_its_canonical_code_listed_or_not(table: Path, tmp_path: Path) -> None:
    found = ScoreTable.read(table, "accuracy", canon=canon(tmp_path, "100,010", "010,010", "110,012", "111,002"))
    assert found.values[found.rows_of(found.space.from_text(["100", "010"]))].tolist() == [0.5, 0.5]
    unlisted, missing = found.rows_of(found.space.from_text(["110", "111"]))
    assert (found.values[unlisted], found.canon[unlisted], missing) == (0.75, 2, -1)


def test_wrong_columns(table: Path) -> None:
    with pytest.raises(InputError, match="no such column; it has accuracy, cost"):
        ScoreTable.read(table, "speed")
    with pytest.raises(InputError, match="no column 'speed' of numbers; it has accuracy, cost"):
        ScoreTable.read(table, "cost", report="speed")
    with pytest.raises(InputError, match="columns code and canon; it has code, accuracy, cost"):
        ScoreTable.read(table, "cost", canon=table)
