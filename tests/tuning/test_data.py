"""Files of samples: the same bytes however they came about."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ncode_search.agent.errors import InputError
from ncode_search.agent.tuning import data
from ncode_search.agent.tuning.data import DataSettings, write_samples
from ncode_search.agent.tuning.formats import FORMATS, from_line, to_line
from ncode_search.agent.tuning.published import Sample, SampleMaker, SampleSettings, Source

SAMPLES = 150


def settings(table, **changes):
    arguments = {"samples": SAMPLES, "seed": 5, "sample": SampleSettings(history=20)} | changes
    return DataSettings(Source.parse(f"{table}:acc"), **arguments)


@pytest.fixture(scope="module")
def whole(table, tmp_path_factory):
    """The bytes of uninterrupted files, by suffix."""
    found = {}
    for suffix in ("jsonl", "jsonl.gz"):
        path = tmp_path_factory.mktemp("whole") / f"a.{suffix}"
        write_samples(path, settings(table))
        found[suffix] = path.read_bytes()
    return found


def test_a_seed_gives_the_same_samples(table, tmp_path, whole):
    lines = whole["jsonl"].decode().splitlines()
    make = SampleMaker(Source.parse(f"{table}:acc"), SampleSettings(history=20), seed=5)
    assert [from_line(line) for line in lines] == [make(at) for at in range(SAMPLES)]
    assert gzip.decompress(whole["jsonl.gz"]) == whole["jsonl"]
    write_samples(tmp_path / "b.jsonl", settings(table, seed=6))
    assert (tmp_path / "b.jsonl").read_bytes() != whole["jsonl"]


def test_several_processes_give_the_same_bytes(table, tmp_path, whole):
    write_samples(tmp_path / "a.jsonl", settings(table), jobs=2)
    assert (tmp_path / "a.jsonl").read_bytes() == whole["jsonl"]


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 0.99, 1.0])
def test_a_cut_file_is_continued_to_the_same_bytes(table, tmp_path, whole, suffix, share):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(whole[suffix][: int(share * len(whole[suffix]))])
    had = write_samples(path, settings(table))
    assert path.read_bytes() == whole[suffix]
    assert (had == SAMPLES) == (share == 1.0)
    assert had > 0 or share < 0.5


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_more_samples_can_be_asked_for_later(table, tmp_path, whole, suffix):
    path = tmp_path / f"a.{suffix}"
    write_samples(path, settings(table, samples=70))
    write_samples(path, settings(table))
    assert path.read_bytes() == whole[suffix]
    with pytest.raises(InputError, match="150 samples already"):
        write_samples(path, settings(table, samples=70))


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
@pytest.mark.parametrize("content", [b"mine", b"\x1f\x8b not gzip", b'{"history": "0000|1.0,", "x": 1}\n'])
def test_a_foreign_file_is_left_alone(table, tmp_path, suffix, content):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match="delete it, or name another file"):
        write_samples(path, settings(table))
    assert path.read_bytes() == content


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_samples_of_other_settings_are_left_alone(table, tmp_path, whole, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(whole[suffix])
    with pytest.raises(InputError, match="delete it, or name another file"):
        write_samples(path, settings(table, samples=300, sample=SampleSettings(history=21)))
    assert path.read_bytes() == whole[suffix]


@pytest.mark.slow
def test_a_killed_process_is_continued(table, tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    arguments = ["--table", f"{table}:acc", "--samples", "4000", "--jobs", "1", "--history", "20"]
    process = subprocess.Popen([sys.executable, "-m", "ncode_search.agent", "ranker", "data", path, *arguments])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (not path.exists() or path.stat().st_size < 50_000):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wanted = settings(table, samples=4000, seed=0)
    assert 0 < write_samples(path, wanted) < 4000
    write_samples(tmp_path / "b.jsonl", wanted)
    assert path.read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_the_number_of_samples_is_reported(table, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "BLOCK", 10)
    told: list[int] = []
    write_samples(tmp_path / "a.jsonl", settings(table, samples=25), report=told.append)
    assert told == [10, 20, 25]


def test_formats():
    sample = Sample("01|1.0,10|0.0,", "11;00;", "11", "Task.")
    prompt = "Task.\n01|1.0,10|0.0,11;00;"
    rows = {form: json.loads(to_line(sample, form)) for form in FORMATS}
    assert rows["published"] == {
        "description": "Task.",
        "history": sample.history,
        "candidates": "11;00;",
        "answer": "11",
    }
    assert rows["sharegpt"]["conversations"] == [
        {"from": "system", "value": prompt},
        {"from": "human", "value": ""},
        {"from": "gpt", "value": "11"},
    ]
    assert rows["alpaca"] == {"instruction": "", "input": "", "output": "11", "system": prompt}
    assert rows["trl"] == {
        "prompt": [{"role": "system", "content": prompt}],
        "completion": [{"role": "assistant", "content": "11"}],
    }
    assert from_line(to_line(sample, "published")) == sample


@pytest.mark.parametrize("line", ["", "[]", "{}", '{"history": 1, "candidates": "a;", "answer": "a"}', "nonsense"])
def test_a_line_that_is_no_sample_is_one_clear_error(line):
    with pytest.raises(InputError, match="x.jsonl:3: no sample"):
        from_line(line, "x.jsonl:3")


def test_an_answer_outside_the_pool_is_one_clear_error():
    with pytest.raises(InputError, match="none of the candidates"):
        from_line('{"history": "", "candidates": "00;11;", "answer": "01"}', "x.jsonl:3")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--format", "csv"], "published, sharegpt, alpaca, trl"),
        (["--samples", "0"], "one at least"),
        (["--seed", "-1"], "0 or greater"),
        (["--table", "nowhere.csv:acc"], "nowhere.csv"),
        (["--table", "nowhere.csv"], "FILE.csv:COLUMN"),
        (["--jobs", "0"], "--jobs"),
        (["--format", "arrays", "--jobs", "-1"], "--jobs"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(table, tmp_path, capsys, monkeypatch, arguments, match):
    from ncode_search.agent.cli import main

    monkeypatch.setattr(
        sys, "argv", ["ncode", "ranker", "data", str(tmp_path / "a.jsonl"), "--table", f"{table}:acc", *arguments]
    )
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert match in error
    assert error.count("\n") == 1
