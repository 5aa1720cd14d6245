"""A soak of seconds, whose verdict is right: on a sound search, and on what is broken on purpose."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.__main__ import run
from tests.soak.faults import Fault
from tests.soak.samples import processes_with
from tests.soak.subject import Plan

pytestmark = pytest.mark.slow
SHORT = {"workers": 2, "last": 4}
LOSSY = """
from ncode_search.agent.history import History

complete = History.complete


def lossy(history, trial, attempt, *result):
    if attempt == 1 and trial % 3 == 0:
        history.requeue(trial, attempt, "lost", failed=False)
    else:
        complete(history, trial, attempt, *result)


History.complete = lossy
"""
"""Workers that lose results: nobody sees it in the history, where the trial is complete after another attempt."""
CRASHES = (Fault("crash", 1, lambda soak: os.kill(soak.agent.pid, signal.SIGSEGV)),)


@contextlib.contextmanager
def ended_once_it_runs(witness: Path) -> Iterator[None]:
    """SIGTERM to this process, some seconds after an evaluation was completed: by then the soak listens for it."""
    is_left = threading.Event()

    def end() -> None:
        while not (witness.exists() and "end " in witness.read_text()):
            if is_left.wait(0.1):
                return
        if not is_left.wait(5.0):
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=end)
    thread.start()
    try:
        yield
    finally:
        is_left.set()
        thread.join()


def test_a_soak_that_a_signal_ends_is_judged_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = tmp_path / "run", tmp_path / "soak.txt"
    with ended_once_it_runs(folder / "witness.log"):
        assert run(Plan(60, sleep=(0.1, 0.4), pause=(0.5, 1.0), **SHORT), folder, file) == 0
    said, hint = capsys.readouterr()
    assert hint == "a few trials more, and it is judged; once more, and it ends at once\n"
    assert said == file.read_text()
    assert "of 60 minutes" in said
    assert said.splitlines()[-1] == "all invariants hold"
    assert not folder.exists()
    assert not list(processes_with("NCODE_TEST_LOG", folder / "witness.log"))


def test_a_search_that_loses_results_is_found_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(LOSSY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    assert run(Plan(0.05, sleep=(0.1, 0.2), pause=(9.0, 9.0), **SHORT), tmp_path / "run") == 1
    assert "was evaluated 2 times to completion" in capsys.readouterr().out
    assert list((tmp_path / "run").rglob("search.db")), "there is nothing to look at"


def test_an_agent_that_ends_by_itself_is_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(1.0, sleep=(0.1, 0.2), pause=(0.5, 1.0), faults=CRASHES, **SHORT)
    assert run(plan, tmp_path / "run") == 1
    said = capsys.readouterr().out
    assert f"the agent ended by itself with code -{int(signal.SIGSEGV)}" in said
    assert "all invariants hold" not in said
