"""The log beside a history: whole lines of JSON with trials and workers, bounded in size, quiet about repetitions."""

import json
import logging
import time
from pathlib import Path

import pytest

from ncode_search import SearchSpace
from ncode_search.agent import run_log
from ncode_search.agent.run_log import BURST, LogFile, RateLimit, written

HOSTILE = SearchSpace({"a": ["raise", "fine"], "b": [0, 1, 2]})


def entries(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def warning(text: str, *values: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("ncode_search.x", level, "x.py", 1, text, values, None)


def test_a_search_logs_trials_with_their_workers(make_search, tmp_path: Path) -> None:
    make_search("hostile", trials=6, workers=2, retries=0, space=HOSTILE).run()
    log = entries(tmp_path / "search.db.log")
    assert [log[0]["message"], log[-1]["message"]] == ["run began", "run exhausted"]
    started = [entry for entry in log if entry["message"] == "trial started"]
    failed = [entry for entry in log if entry["message"] == "trial failed"]
    done = [entry for entry in log if entry["message"] == "trial complete"]
    assert (len(started), len(done), len(failed)) == (6, 3, 3)
    assert {entry["worker"] for entry in started} == {0, 1}
    assert {entry["trial"] for entry in started} == set(range(1, 7))
    assert {entry["error"] for entry in failed} == {"RuntimeError: no such layer"}
    assert all(":" in entry["process"] and entry["seconds"] >= 0 for entry in done + failed)
    make_search("hostile", trials=6, workers=2, retries=0, space=HOSTILE).run()
    assert len(entries(tmp_path / "search.db.log")) >= len(log), "it is added to"
    assert not [one for one in logging.getLogger("ncode_search").handlers if isinstance(one, LogFile)]


def test_what_the_package_logs_is_in_it_too(tmp_path: Path) -> None:
    with written(tmp_path / "h.db"):
        try:
            raise ValueError("zähl bis 3")
        except ValueError:
            logging.getLogger("ncode_search.agent.x").exception("trial %d is odd", 7)
    [entry] = entries(tmp_path / "h.db.log")
    assert (entry["level"], entry["logger"], entry["message"]) == ("error", "ncode_search.agent.x", "trial 7 is odd")
    assert entry["traceback"].endswith("ValueError: zähl bis 3")
    assert entry["time"].endswith("+00:00")


def test_a_line_that_was_cut_off_costs_no_other(tmp_path: Path) -> None:
    (tmp_path / "h.db.log").write_text('{"time": "2026-11')
    with written(tmp_path / "h.db") as log:
        log.opened(3, None)
    torn, whole, nothing = (tmp_path / "h.db.log").read_text().split("\n")
    assert (torn, json.loads(whole)["completed"], nothing) == ('{"time": "2026-11', 3, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_full_disk_ends_no_run_with_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncode_search.agent.run_files.beside", lambda history, name: Path("/dev/full"))
    with written(Path("h.db")) as log:
        log.opened(3, None)


def test_it_is_rotated_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "MOST_BYTES", 2000)
    with written(tmp_path / "h.db") as log:
        for trial in range(500):
            log.started(trial, "0123", 0)
    files = sorted(tmp_path.glob("h.db.log*"))
    assert [file.name for file in files] == ["h.db.log", "h.db.log.1", "h.db.log.2", "h.db.log.3"]
    assert all(file.stat().st_size <= 2000 for file in files)
    assert entries(files[0])[-1]["trial"] == 499


def test_warnings_of_one_kind_are_said_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    limit = RateLimit()
    passed = [limit.filter(warning("trial %d is odd", trial)) for trial in range(30)]
    assert passed == [True] * BURST + [False] * 25
    assert limit.filter(warning("something else"))
    assert limit.filter(warning("trial %d is odd", 1, level=logging.INFO)), "only warnings are limited"
    now[0] += run_log.PERIOD + 1
    late = warning("trial %d is odd", 31)
    assert limit.filter(late)
    assert vars(late)["left_out"] == " (25 more like it were left out)"
    assert [limit.filter(warning("trial %d is odd", 1)) for _ in range(9)] == [True] * (BURST - 1) + [False] * (
        10 - BURST
    )


def test_the_memory_of_the_rate_limit_is_bounded() -> None:
    limit = RateLimit()
    assert all(limit.filter(warning(f"text {number}")) for number in range(5000))
    assert len(limit._kinds) <= run_log._MOST_KINDS + 1


def test_a_log_that_cannot_be_written_stops_nothing(make_search, tmp_path: Path, capfd) -> None:
    (tmp_path / "search.db.log").mkdir()
    assert make_search(trials=3).run().completed == 3
    assert "Traceback" not in capfd.readouterr().err
