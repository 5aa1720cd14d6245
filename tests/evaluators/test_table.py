"""Tables of scores: what they give, and what is refused."""

from __future__ import annotations

import gzip
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ncode_search.evaluators.base import Context, EvaluatorError
from ncode_search.evaluators.table import TableEvaluator, UnknownCodeError

MakeContext = Callable[..., Context]

TABLE = "code,accuracy,cost,name\n00,0.5,7,first\n01,0.75,8e1,second\n10,-1,0,third\n"


def _table(folder: Path, text: str | bytes, metric: str = "accuracy") -> TableEvaluator:
    data = text.encode() if isinstance(text, str) else text
    (folder / "table.csv").write_bytes(data)
    return TableEvaluator(path="table.csv", metric=metric, folder=folder)


def test_looks_the_code_up(tmp_path: Path, make_context: MakeContext) -> None:
    result = _table(tmp_path, TABLE)({}, make_context(code="01"))
    assert result.value == 0.75
    assert result.metrics == {"cost": 80.0}


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(TABLE.encode()),
        b"\xef\xbb\xbf" + TABLE.encode(),
        TABLE.replace("\n", "\r\n").encode(),
        TABLE.replace("second", '"se,\ncond"').encode() + b"\n\n",
        b"accuracy,code\n0.75,01\n",
    ],
    ids=["gzip", "byte order mark", "CRLF", "quotes", "order"],
)
def test_reads_what_is_a_csv(tmp_path: Path, make_context: MakeContext, data: bytes) -> None:
    assert _table(tmp_path, data)({}, make_context(code="01")).value == 0.75


@pytest.mark.parametrize("code", ["11", "1", "001", "", "10.0"])
def test_an_unknown_code_fails_the_trial(tmp_path: Path, make_context: MakeContext, code: str) -> None:
    with pytest.raises(UnknownCodeError, match=f"^code {code} is not among the 3 of table.csv$"):
        _table(tmp_path, TABLE)({}, make_context(code=code))


def test_refuses_a_space_of_another_length(tmp_path: Path) -> None:
    table = _table(tmp_path, TABLE)
    table.check_space({"a": [0, 1], "b": [0, 1]})
    with pytest.raises(EvaluatorError, match=r"the codes of table.csv have 2 positions, \[space\] has 1; name as many"):
        table.check_space({"a": [0, 1]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "table.csv has no rows; give a CSV with a header and a row a code"),
        ("code,accuracy\n", "table.csv has no rows"),
        ("id,accuracy\n0,1\n", "table.csv has no column code, only id, accuracy; add or rename it"),
        ("code,cost,loss\n0,1,2\n", 'metric = "accuracy": {}/table.csv has no such column; it has cost, loss'),
        ("code,accuracy,cost,cost\n0,1,2,3\n", "table.csv repeats the column cost; rename it"),
        ("code,accuracy\n0,1\n1,2,3\n", "row 3 of {}/table.csv has 3 fields, the header 2; repair it"),
        ("code,accuracy\n0,1\n1,2\n0,3\n", "table.csv repeats 1 codes (0); keep one row a code"),
        ("code,accuracy\n0,1\n1,high\n", "table.csv has 'high' for code 1; give a finite number or drop the row"),
        ("code,accuracy\n0,1\n1,nan\n", "table.csv has 'nan' for code 1"),
        ("code,accuracy\n0,1\n1,\n", "table.csv has '' for code 1"),
        ('code,accuracy\n0,"1\n', "table.csv is not a CSV, plain or gzip (unexpected end of data)"),
        (b"\x89PNG\xff\x00", "table.csv is not a CSV, plain or gzip ("),
        (gzip.compress(TABLE.encode(), mtime=0)[:-12], "table.csv is not a CSV, plain or gzip ("),
        (b"\x1f\x8bnothing that could be unpacked", "table.csv is not a CSV, plain or gzip ("),
    ],
)
def test_refuses_what_is_no_table(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(EvaluatorError) as error:
        _table(tmp_path, text)
    assert message.format(tmp_path) in str(error.value)
    assert str(error.value).startswith(("[evaluator] path: ", '[evaluator] metric = "accuracy": '))
    assert "\n" not in str(error.value)


def test_the_code_is_no_metric(tmp_path: Path) -> None:
    with pytest.raises(EvaluatorError, match=r'metric = "code": .* has no such column; it has accuracy, cost, name'):
        _table(tmp_path, TABLE, metric="code")


@pytest.mark.parametrize(("path", "reason"), [("none.csv", "No such file or directory"), (".", "Is a directory")])
def test_missing_file(tmp_path: Path, path: str, reason: str) -> None:
    with pytest.raises(EvaluatorError) as error:
        TableEvaluator(path=path, metric="accuracy", folder=tmp_path)
    assert str(error.value) == f"[evaluator] path: cannot read {tmp_path / path} ({reason}); correct it"


def test_sixty_thousand_rows_are_quick(tmp_path: Path) -> None:
    codes = map("".join, itertools.product("0123456789", "0123456789", "0123456789", "0123456789", "012345"))
    text = "code,accuracy,a,b,c\n" + "".join(f"{code},{row}.25,1,2,3\n" for row, code in enumerate(codes))
    started = time.process_time()
    _table(tmp_path, gzip.compress(text.encode(), 1))
    assert time.process_time() - started < 1.5
