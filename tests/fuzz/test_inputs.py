"""Damaged files end in one line: a few hundred of each kind, and what longer runs (`make fuzz`) have found."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from .command_line import call, judge, ncode
from .kinds import CSV, KINDS, TOML, Histories, Models, SearchFiles, check_bytes

RUNS = {"toml": 300, "csv": 500, "sqlite": 60, "gguf": 60}


@pytest.fixture
def headers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp takes seconds a model; the long runs ask it."""
    monkeypatch.setattr(Models, "loads", False)


@pytest.mark.parametrize("name", KINDS)
def test_good_files_are_not_refused(name: str, tmp_path: Path, headers_only: None) -> None:
    kind = KINDS[name]
    assert [check_bytes(kind, data, tmp_path / "run") for data in kind.seeds[:1]] == [False]


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_damaged_files(name: str, tmp_path: Path, headers_only: None) -> None:
    kind, rng = KINDS[name], random.Random(name)
    refused = 0
    for _ in range(RUNS[name]):
        data = kind.damaged(rng, rng.choice(kind.seeds))
        refused += check_bytes(kind, data, tmp_path / "run")
    assert 0.1 * RUNS[name] < refused < RUNS[name], "some of the damage is seen, and some does no harm"


def test_a_traceback_would_be_seen(tmp_path: Path) -> None:
    def fail() -> None:
        raise KeyError("space")

    with pytest.raises(KeyError):
        call(fail)
    for code, error in ((2, ""), (2, "ncode: a\nb\n"), (1, "Traceback\n"), (2, "ncode: \x1b[31m\n"), (3, "ncode: a\n")):
        with pytest.raises(AssertionError):
            judge(type(call(lambda: None))(code, error))


# Found in search files


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TOML.replace("seed = 3", "seed = " + "9" * 5000), "is no valid TOML: Exceeds the limit"),
        (TOML.replace("seed = 3", "seed = " + "[" * 3000), "lists or tables hundreds deep"),
        (TOML.replace("seed = 3", "seed = " + "[" * 3000 + "]" * 3000), "lists or tables hundreds deep"),
        (TOML.replace("most = 40", "most = " + "9" * 400), "must be a finite number"),
        (TOML.replace("pool = 16", "pool = 18446744073709551616"), "allowed: whole numbers from 1 to 65,536"),
        (TOML.replace('e02 = ["none"', 'e02 = ["no\ufeffne"'), "\\ufeff"),
        (TOML.replace('kind = "table"', 'kind = "ta\\nble\\u001b[31m"'), "ta ble\\x1b[31m"),
    ],
)
def test_search_files(text: str, says: str, tmp_path: Path) -> None:
    text = text.replace('interchangeable = [[["a"], ["b"]]]\n', "")
    path = tmp_path / "search.toml"
    path.write_text(text, encoding="utf-8")
    judge(ncode("space", path))  # which needs no evaluator
    answer = call(lambda: SearchFiles.decide(path))
    judge(answer)
    assert answer.refused
    assert says in answer.error


# Found in tables


def test_a_header_with_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(CSV.replace("code,accuracy", '"co\r\nde",accuracy'), encoding="utf-8")
    answer = ncode("bench", "--table", path, "--metric", "accuracy")
    judge(answer)
    assert "has no column code" in answer.error


# Found in histories

READS = (("status",), ("best",), ("best", "--json"), ("trials",), ("trials", "--json"), ("trials", "--csv"))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM meta WHERE key = 'space'",
        "DELETE FROM meta WHERE key = 'objective'",
        "UPDATE meta SET value = '[]' WHERE key = 'space'",
        "UPDATE meta SET value = '{\"op\": 3}' WHERE key = 'space'",
        "UPDATE meta SET value = 'null' WHERE key = 'equal'",
        "UPDATE meta SET value = '7' WHERE key = 'costs'",
        "UPDATE meta SET value = x'ff' WHERE key = 'space'",
        "UPDATE meta SET value = CAST(x'ff' AS TEXT) WHERE key = 'space'",
        "UPDATE meta SET value = printf('%.5000c', '[') WHERE key = 'objective'",
        "UPDATE meta SET value = printf('%.5000c', '1') WHERE key = 'objective'",
        'UPDATE meta SET value = \'{"goal": "maximize", "more": 1}\' WHERE key = \'objective\'',
        "UPDATE trials SET code = 'zzz'",
        "UPDATE trials SET code = '0'",
        "UPDATE trials SET code = ''",
        "UPDATE trials SET state = 'lost'",
        "UPDATE trials SET metrics = '{' WHERE metrics IS NOT NULL",
        "UPDATE trials SET metrics = '[1]' WHERE metrics IS NOT NULL",
        "UPDATE trials SET metrics = '{\"\\ud800\": 1}' WHERE metrics IS NOT NULL",
        'UPDATE trials SET metrics = \'{"loss": ""}\' WHERE metrics IS NOT NULL',
        "UPDATE trials SET value = 'much' WHERE value IS NOT NULL",
        "UPDATE trials SET started_at = 'now'",
        "UPDATE trials SET error = x'00ff' WHERE error IS NOT NULL",
        "UPDATE trials SET attempt = 'x'",
        "UPDATE trials SET worker = 'elsewhere:1:1', lease_seconds = x'00ff', lease_boot = '' WHERE state = 'running'",
        "DROP TABLE meta",
        "DROP TABLE trials",
        "DROP TABLE decisions",
        "ALTER TABLE trials DROP COLUMN metrics",
        "ALTER TABLE trials RENAME TO other",
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, 'trials', CAST(x'a0' AS TEXT))",
    ],
)
def test_histories(statement: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    path.write_bytes(KINDS["sqlite"].seeds[0])
    db = sqlite3.connect(path)
    db.execute("PRAGMA ignore_check_constraints = ON")
    db.executescript(statement)
    db.commit()
    db.close()
    answers = [*(ncode(name, path, *options) for name, *options in READS), call(lambda: Histories.go_on(path))]
    for answer in answers:
        judge(answer)
    assert any(answer.code for answer in answers)
    for answer in answers:
        assert not answer.code or str(path) in answer.error or "exhausted" in answer.error


# Found in models


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"ncode.bins", b"ncode.bend"),
        (b"ncode.reach", b"ncode.peach"),
        (b"ncode.enter.bias", b"ncode.enter.bits"),
        (b"ncode.enter.weight", b"ncode.enter.height"),
    ],
)
def test_models(old: bytes, new: bytes, tmp_path: Path, headers_only: None) -> None:
    packaged = KINDS["gguf"].seeds[1]
    assert packaged.count(old) == 1
    assert check_bytes(KINDS["gguf"], packaged.replace(old, new), tmp_path / "run")


def test_a_model_that_llama_cpp_dies_of(tmp_path: Path) -> None:
    """A network without layers, in a header that is whole: found out in another process than the search's."""
    packaged = KINDS["gguf"].seeds[1]
    at = packaged.index(b"llama.block_count") + len("llama.block_count") + 4
    path = tmp_path / "damaged.gguf"
    path.write_bytes(packaged[:at] + bytes(4) + packaged[at + 4 :])
    looked, loaded = KINDS["gguf"].answers(path)
    judge(loaded)
    assert (looked.code, loaded.code) == (0, 2)
    assert "crashes llama.cpp on this machine" in loaded.error


def test_a_model_that_asks_for_all_memory(tmp_path: Path, headers_only: None) -> None:
    packaged = KINDS["gguf"].seeds[1]
    at = packaged.index(b"ncode.bins") + len("ncode.bins") + 4  # behind the kind of the number
    assert check_bytes(KINDS["gguf"], packaged[:at] + b"\xff" * 4 + packaged[at + 4 :], tmp_path / "run")
