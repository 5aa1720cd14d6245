"""The history's contract: legal moves only, atomic writes by many processes, nothing lost to a kill."""

import asyncio
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ncode_search.agent import agent_lock
from ncode_search.agent.database import exists
from ncode_search.agent.errors import (
    HistoryError,
    HistoryInUseElsewhereError,
    HistoryInUseError,
    HistoryLockedError,
    IllegalTransitionError,
    OwnerUnclearError,
)
from ncode_search.agent.history import Decision, History, Objective
from ncode_search.agent.processes import ProcessId
from ncode_search.agent.states import PREDECESSORS, TrialState
from tests.faults.harness import locked

SPACE = {"width": [8, 16], "op": ["conv", None]}
EVALUATOR = {"kind": "table", "path": "t.csv", "metric": "acc"}
OBJECTIVE = Objective("maximize", EVALUATOR)
DECISION = Decision("llama", "/m.gguf", "ab" * 32, 128, 1, 0.25, False, None)


def digest(path: Path) -> bytes:
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "search.db"


@pytest.fixture
def history(path: Path):
    with History.open(path, SPACE, OBJECTIVE) as history:
        yield history


def bring_to(history: History, trial: int, state: TrialState) -> int:
    """A new trial in `state`; returns its attempt."""
    history.add(trial, f"code{trial}", "random")
    if state is TrialState.QUEUED:
        return 0
    attempt = history.start(trial, "w", "cpu")
    finish = {
        TrialState.COMPLETE: lambda: history.complete(trial, attempt, 0.5),
        TrialState.FAILED: lambda: history.fail(trial, attempt, "boom"),
        TrialState.PRUNED: lambda: history.prune(trial, attempt),
        TrialState.RUNNING: lambda: None,
    }
    finish[state]()
    return attempt


def test_a_trial_s_life_is_recorded(history: History) -> None:
    history.add(1, "01", "llama", DECISION)
    attempt = history.start(1, "host:1:x", "cuda:1")
    history.report(1, attempt, 1, {"accuracy": 0.5})
    history.complete(1, attempt, 0.75, {"parameters": 10})
    trial = history.trial(1)
    assert (trial.state, trial.value, trial.metrics) == (TrialState.COMPLETE, 0.75, {"parameters": 10})
    assert (trial.worker, trial.device, trial.attempt, trial.lease_until) == ("host:1:x", "cuda:1", 1, None)
    assert trial.created_at <= trial.started_at <= trial.finished_at <= time.time()
    assert history.db["epochs"].count == 1
    row = next(history.db["decisions"].rows)
    assert (row["ranker"], row["model_sha256"], row["pool"], row["fallback"]) == ("llama", "ab" * 32, 128, 0)


@pytest.mark.parametrize(("state", "to"), list(itertools.product(TrialState, TrialState)))
def test_only_legal_moves_are_made(history: History, state: TrialState, to: TrialState) -> None:
    attempt = bring_to(history, 1, state)
    moves = {
        TrialState.QUEUED: lambda: history.promote(1, 9) if state is TrialState.PRUNED else history.requeue(1, attempt),
        TrialState.RUNNING: lambda: history.start(1, "w", "cpu"),
        TrialState.COMPLETE: lambda: history.complete(1, attempt, 1.0),
        TrialState.FAILED: lambda: history.fail(1, attempt, "boom"),
        TrialState.PRUNED: lambda: history.prune(1, attempt),
    }
    if state in PREDECESSORS[to]:
        moves[to]()
        assert history.trial(1).state is to
    else:
        before = history.trial(1)
        with pytest.raises(IllegalTransitionError, match="trial 1"):
            moves[to]()
        assert history.trial(1) == before


def test_only_a_running_trial_is_requeued_and_only_a_pruned_one_promoted(history: History) -> None:
    for state in TrialState:
        trial = list(TrialState).index(state) + 1
        attempt = bring_to(history, trial, state)
        if state is not TrialState.RUNNING:
            with pytest.raises(IllegalTransitionError):
                history.requeue(trial, attempt)
        if state is not TrialState.PRUNED:
            with pytest.raises(IllegalTransitionError):
                history.promote(trial, 9)


def test_a_late_writer_of_an_older_attempt_changes_nothing(history: History) -> None:
    first = bring_to(history, 1, TrialState.RUNNING)
    history.requeue(1, first, "lease ran out")
    history.start(1, "other", "cpu")
    with pytest.raises(IllegalTransitionError, match="attempt 1"):
        history.complete(1, first, 0.9)
    history.report(1, first, 1, {"accuracy": 0.1})
    assert not history.renew(1, first)
    assert history.trial(1).state is TrialState.RUNNING
    assert history.db["epochs"].count == 0


@pytest.mark.parametrize("state", [state for state in TrialState if state is not TrialState.FAILED])
def test_two_live_trials_of_one_code_are_impossible(history: History, state: TrialState) -> None:
    bring_to(history, 1, state)
    with pytest.raises(IllegalTransitionError, match="code1"):
        history.add(2, "code1", "random")
    with pytest.raises(sqlite3.IntegrityError):
        history.db.execute(
            "INSERT INTO trials (id, code, canonical, state, proposed_by, created_at) "
            "VALUES (3, 'code1', 'code1', 'queued', 'x', 0)"
        )


def test_trials_are_told_apart_by_their_canonical_codes(history: History) -> None:
    history.add(1, "02", "enqueued", canonical="00")
    with pytest.raises(IllegalTransitionError, match="another trial of code 00"):
        history.add(2, "00", "random")
    history.add(3, "10", "random")
    assert [(trial.code, trial.canonical) for trial in history.trials()] == [("02", "00"), ("10", "10")]
    assert (history.trial_of("00"), history.trial_of("02")) == (history.trial(1), None)


def test_a_proposal_and_its_decision_are_one_write(history: History) -> None:
    broken = Decision("llama", None, None, 128, 1, 0.1, False, None)
    object.__setattr__(broken, "seconds", None)
    with pytest.raises(sqlite3.IntegrityError):
        history.add(1, "code1", "llama", broken)
    assert history.last_trial() == 0


def test_foreign_keys_are_on(history: History) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        history.db.execute("INSERT INTO epochs (trial, attempt, step, metrics, reported_at) VALUES (99, 1, 1, '{}', 0)")


def test_the_file_is_in_wal_mode(history: History) -> None:
    assert history.db.journal_mode == "wal"


# Other files, other searches


@pytest.mark.parametrize(
    ("space", "objective", "said"),
    [
        (
            {"width": [8, 32], "op": ["conv", None]},
            OBJECTIVE,
            "'width' is \\[8, 16\\] in the history and \\[8, 32\\] now",
        ),
        ({"op": ["conv", None], "width": [8, 16]}, OBJECTIVE, "order"),
        ({"width": [8, 16]}, OBJECTIVE, "'op' is only in the history"),
        ({"width": [8, 16.0], "op": ["conv", None]}, OBJECTIVE, "'width'"),
        (SPACE, Objective("minimize", EVALUATOR), "'goal'"),
        (SPACE, Objective("maximize", {**EVALUATOR, "metric": "loss"}), "'evaluator.metric'"),
    ],
)
def test_another_search_is_refused_with_what_differs(path: Path, space: dict, objective: Objective, said: str) -> None:
    History.open(path, SPACE, OBJECTIVE).close()
    before = digest(path)
    with pytest.raises(HistoryError, match=said):
        History.open(path, space, objective)
    assert digest(path) == before


def test_other_equalities_are_another_search(path: Path) -> None:
    declared = {"equal": {"when": {"width": {"op": ["conv"]}}}}
    History.open(path, SPACE, OBJECTIVE, declared).close()
    with History.open(path, SPACE, OBJECTIVE, declared) as history:
        assert history.space().declared == declared
    for other in (None, {"equal": {"when": {"width": {"op": [None]}}}}):
        with pytest.raises(HistoryError, match="holds a search with another equal: 'when"):
            History.open(path, SPACE, OBJECTIVE, other)


def test_other_constraints_are_another_search(path: Path) -> None:
    costs = {"params": {"options": {"width": [8, 16]}, "most": 9}}
    declared = {"costs": costs, "forbidden": [{"width": [8], "op": ["conv"]}]}
    History.open(path, SPACE, OBJECTIVE, declared).close()
    with History.open(path, SPACE, OBJECTIVE, declared) as history:
        assert history.space().declared == declared
    with pytest.raises(HistoryError, match="another costs: 'params.most' is 9 in the history and 8 now"):
        History.open(path, SPACE, OBJECTIVE, {**declared, "costs": {"params": {**costs["params"], "most": 8}}})
    with pytest.raises(HistoryError, match="another forbidden"):
        History.open(path, SPACE, OBJECTIVE, {"costs": costs})


def test_a_history_of_the_first_version_declares_nothing(path: Path) -> None:
    with History.open(path, SPACE, OBJECTIVE) as history:
        history.db.execute("DELETE FROM meta WHERE key IN ('equal', 'costs', 'forbidden')")
    with pytest.raises(HistoryError, match="'when' is only in the new one"):
        History.open(path, SPACE, OBJECTIVE, {"equal": {"when": {"width": {"op": ["conv"]}}}})
    with pytest.raises(HistoryError, match="another costs: 'params' is only in the new one"):
        History.open(path, SPACE, OBJECTIVE, {"costs": {"params": {"options": {"width": [8, 16]}}}})
    with History.open(path, SPACE, OBJECTIVE) as history:
        assert history.space().declared == {}


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    with History.open(path, SPACE, OBJECTIVE) as history:
        history.db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('ncode_search', 'm999_x', '')"
        )
    before = digest(path)
    with pytest.raises(HistoryError, match=r"newer ncode-search \(schema m999_x\); upgrade"):
        History.open(path, SPACE, OBJECTIVE)
    assert digest(path) == before


def test_files_that_are_no_history_are_refused(path: Path, tmp_path: Path) -> None:
    path.write_text("code,score\n01,0.5\n" * 100)
    with pytest.raises(HistoryError, match="is no history"):
        History.open(path, SPACE, OBJECTIVE)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE contacts (name TEXT)")
    connection.close()
    with pytest.raises(HistoryError, match="of another program"):
        History.open(other, SPACE, OBJECTIVE)
    with pytest.raises(HistoryError, match="does not exist"):
        History.open(tmp_path / "nowhere" / "x.db", SPACE, OBJECTIVE)
    with pytest.raises(HistoryError, match="there is no history there"):
        History.read(tmp_path / "none.db")


@pytest.mark.parametrize("look", [exists, History.read, lambda path: History.open(path, SPACE, OBJECTIVE)])
def test_who_looks_at_a_history_in_the_same_process_takes_no_lock_from_it(path: Path, look) -> None:
    """Another process that closes the file would take itself for the last one, and remove the write-ahead log."""
    with History.open(path, SPACE, OBJECTIVE) as history:
        if isinstance(looked := look(path), History):
            looked.close()
        other = f"import sqlite3; db = sqlite3.connect({str(path)!r}); db.execute('SELECT * FROM meta'); db.close()"
        subprocess.run([sys.executable, "-c", other], check=True)
        history.remember("settings", {"trials": 7})
        read = f"import sqlite3; print(sqlite3.connect({str(path)!r}).execute('SELECT * FROM meta').fetchall())"
        seen = subprocess.run([sys.executable, "-c", read], check=True, capture_output=True, text=True).stdout
        assert '{"trials": 7}' in seen


def test_a_damaged_file_is_one_clear_line(path: Path) -> None:
    with History.open(path, SPACE, OBJECTIVE) as history:
        bring_to(history, 1, TrialState.COMPLETE)
    content = bytearray(path.read_bytes())
    content[100:8000] = os.urandom(7900)
    path.write_bytes(content)
    with pytest.raises(HistoryError, match=r"search\.db: .*") as caught:
        History.open(path, SPACE, OBJECTIVE)
    assert "\n" not in str(caught.value)


def test_reading_does_not_write(path: Path) -> None:
    History.open(path, SPACE, OBJECTIVE).close()
    with History.read(path) as history, pytest.raises(sqlite3.OperationalError, match="readonly"):
        history.add(1, "code1", "random")


# Many processes


def spawn(name: str, path: Path, *arguments: int) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        str(Path(__file__).with_name("history_writers.py")),
        name,
        str(path),
        *map(str, arguments),
    ]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def output_of(processes: list[subprocess.Popen[str]]) -> list[int]:
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return sorted(int(line) for output in outputs for line in output.split())


def test_writers_in_many_processes_do_not_disturb_each_other(path: Path) -> None:
    History.open(path, SPACE, OBJECTIVE).close()
    output_of([spawn("write_trials", path, 1 + 1000 * number, 50) for number in range(4)])
    with History.read(path) as history:
        assert history.counts()[TrialState.COMPLETE] == 200
        assert all(trial.value == trial.id for trial in history.trials())


def test_racing_processes_add_a_code_once(raced, path: Path) -> None:
    History.open(path, SPACE, OBJECTIVE).close()
    assert raced("race_for_codes", path, 1000, 2000, 3000) == list(range(100))


def test_complaint_04_racing_processes_start_a_trial_once(raced, path: Path, history: History) -> None:
    for trial in range(1, 101):
        history.add(trial, f"code{trial}", "random")
    assert raced("race_to_start", path, 100, 100, 100) == list(range(1, 101))


def kill_after(process: subprocess.Popen[str], lines: int) -> int:
    """Kill -9 after so many lines of output; returns the last line, which may have come after them."""
    assert process.stdout is not None
    read = [int(line) for line in itertools.islice(process.stdout, lines)]
    process.kill()
    read += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    process.communicate()
    return read[-1]


def test_kill_9_in_the_middle_of_writing_loses_nothing_that_was_said_to_be_written(path: Path) -> None:
    History.open(path, SPACE, OBJECTIVE).close()
    for kill in range(5):
        last = kill_after(spawn("write_trials", path, 1 + 1000 * kill, 900), 20 + 7 * kill)
        with History.open(path, SPACE, OBJECTIVE) as history:
            assert history.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert history.trial(last).state is TrialState.COMPLETE
            assert sum(not trial.state.is_finished for trial in history.trials()) <= 1 + kill
            without_decision = "SELECT id FROM trials WHERE id NOT IN (SELECT trial FROM decisions)"
            assert history.db.execute(without_decision).fetchall() == []


# Who owns the file


def test_a_second_agent_is_refused_until_the_first_is_gone(path: Path, history: History) -> None:
    process = spawn("hold_lock", path)
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    with pytest.raises(HistoryInUseError, match=f"process {process.pid} on "):
        agent_lock.claim(history)
    process.kill()
    process.communicate()
    agent_lock.claim(history)
    assert agent_lock.owner(history) == ProcessId.current()
    agent_lock.release(history)
    assert agent_lock.owner(history) is None


def test_an_agent_on_another_machine_counts_while_it_gives_signs_of_life(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def owned_by_another_machine(seen: float) -> None:
        history.remember("agent", {"process": "elsewhere:12:345", "seen": seen})

    owned_by_another_machine(time.time() - 10)
    with pytest.raises(HistoryInUseElsewhereError, match="process 12 on elsewhere"):
        agent_lock.claim(history)
    monkeypatch.setattr(agent_lock, "WATCH", 0.2)
    for clock in (-agent_lock.STALE_AFTER - 1, 3600):
        owned_by_another_machine(time.time() + clock)
        with pytest.raises(OwnerUnclearError, match="process 12 on elsewhere"):
            agent_lock.claim(history, waits=False)
        agent_lock.claim(history)


def test_watching_another_machine_s_agent_ends_with_its_claim_and_waits_little_for_locks(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = {"process": "elsewhere:12:345", "seen": time.time() - agent_lock.STALE_AFTER - 1}
    history.remember("agent", stale)
    monkeypatch.setattr(agent_lock, "WATCH", 0.2)
    with locked(history.path), pytest.raises(HistoryLockedError, match="another program holds it locked"):
        asyncio.run(agent_lock.watch_out(history.path, 0.1))
    looks = agent_lock._looks(history)
    assert next(looks) == 0.2 / 20
    history.db.execute("DELETE FROM meta WHERE key = 'agent'")
    assert list(looks) == [], "it was given up"


def test_a_process_number_that_was_given_out_again_is_another_process() -> None:
    me = ProcessId.current()
    assert me.is_alive
    assert ProcessId.parse(str(me)) == me
    assert not ProcessId(me.host, me.pid, "1@other-boot").is_alive
    assert not ProcessId(me.host, 2**22 + 1, me.started).is_alive


def test_settings_that_may_change_are_remembered(path: Path, history: History) -> None:
    history.remember("settings", {"trials": 40})
    history.remember("settings", {"trials": 80})
    assert json.loads(history.db["meta"].get("settings")["value"]) == {"trials": 80}
