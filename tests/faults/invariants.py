"""What must be true of a search that is done, whatever was done to it.

``python invariants.py HISTORY WITNESS --target N`` reads the SQLite file and the evaluators' own log and nothing else,
prints what is violated, a line each, and exits with 1 if anything is. It shares no code with what it judges.

The witness has a line for everything that an evaluator did, on disk before it went on: ``begin CODE PID`` and
``end CODE PID VALUE``; and ``kill PID`` for every process that was killed, written before it was. The history may have
a table ``moves`` that triggers fill (`TRIGGERS`), with every state that every trial ever had.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

TRIGGERS = """
CREATE TABLE IF NOT EXISTS moves (
    id INTEGER PRIMARY KEY, trial INTEGER, attempt INTEGER, old TEXT, new TEXT
);
CREATE TRIGGER IF NOT EXISTS move_added AFTER INSERT ON trials BEGIN
    INSERT INTO moves (trial, attempt, new) VALUES (NEW.id, NEW.attempt, NEW.state);
END;
CREATE TRIGGER IF NOT EXISTS move_made AFTER UPDATE OF state ON trials BEGIN
    INSERT INTO moves (trial, attempt, old, new) VALUES (NEW.id, NEW.attempt, OLD.state, NEW.state);
END;
"""
LEGAL = {
    (None, "queued"),
    ("queued", "running"),
    ("running", "queued"),
    *(("running", end) for end in ("complete", "failed", "pruned")),
    *(("queued", end) for end in ("complete", "pruned")),  # late, by an attempt that was taken back
    ("pruned", "queued"),  # promoted
}


def violations(history: Path, witness: Path, target: int) -> list[str]:
    """All that is wrong, a line each."""
    db = sqlite3.connect(f"file:{history}?mode=ro", uri=True)
    try:
        ends, cut_off = completed_evaluations(witness.read_text(encoding="utf-8"))
        return [
            *_of_the_file(db),
            *_of_the_trials(db, target),
            *_of_the_evaluations(db, ends, cut_off),
            *_of_the_moves(db),
        ]
    finally:
        db.close()


def completed_evaluations(witness: str) -> tuple[list[tuple[str, float]], set[str]]:
    """Code and value of every evaluation that was completed; and the codes of those whose process was killed before it
    did anything else.

    Between an evaluator's last line and the history's commit lie milliseconds. A kill there loses the result, which
    nothing can help: such an evaluation may be recorded, or done again. Where a process was asked to end and not
    stopped before its line, a moment lies between that and its end, too, in which the evaluator may write its last
    line.
    """
    last: dict[str, tuple[str, float]] = {}
    ends: list[tuple[str, float]] = []
    cut_off: set[str] = set()
    dying: set[str] = set()
    for word, *rest in (line.split() for line in witness.splitlines()):
        if word == "kill":
            cut_off |= {last.pop(rest[0])[0]} if rest[0] in last else set()
            dying.add(rest[0])
        elif word in ("begin", "end"):
            code, pid = rest[:2]
            ends += [last.pop(pid)] if pid in last else []
            if word == "end" and pid in dying:
                cut_off.add(code)
            elif word == "end":
                last[pid] = code, float(rest[2])
            dying.discard(pid)  # whatever follows is another process of that number
    return ends + list(last.values()), cut_off


def _of_the_file(db: sqlite3.Connection) -> Iterator[str]:
    for (found,) in db.execute("PRAGMA integrity_check"):
        if found != "ok":
            yield f"the file is damaged: {found}"
    for row in db.execute("PRAGMA foreign_key_check"):
        yield f"a row of {row[0]} belongs to no trial"


def _of_the_trials(db: sqlite3.Connection, target: int) -> Iterator[str]:
    for trial, worker in db.execute("SELECT id, worker FROM trials WHERE state = 'running'"):
        yield f"trial {trial} was left running, by {worker}"
    (complete,) = db.execute("SELECT count(*) FROM trials WHERE state = 'complete'").fetchone()
    if complete < target:
        yield f"the search ended with {complete} of {target} trials"
    (count, last) = db.execute("SELECT count(*), coalesce(max(id), 0) FROM trials").fetchone()
    if count != last:
        yield f"there are {count} trials, and the last is number {last}"
    for (code,) in db.execute("SELECT code FROM trials WHERE state != 'failed' GROUP BY code HAVING count(*) > 1"):
        yield f"code {code} is in several trials"
    for (trial,) in db.execute("SELECT id FROM trials WHERE id NOT IN (SELECT trial FROM decisions)"):
        yield f"nobody decided on trial {trial}"
    unsound = "attempt < 1 OR finished_at IS NULL OR lease_until IS NOT NULL OR lease_seconds IS NOT NULL"
    for trial, state in db.execute(f"SELECT id, state FROM trials WHERE {unsound}"):
        if state in ("complete", "failed", "pruned"):
            yield f"trial {trial} is {state} and its row does not look like it"


def _of_the_evaluations(db: sqlite3.Connection, ends: list[tuple[str, float]], cut_off: set[str]) -> Iterator[str]:
    recorded = dict(db.execute("SELECT code, value FROM trials WHERE state = 'complete'").fetchall())
    for code, count in Counter(code for code, _ in ends).items():
        if count > 1:
            yield f"code {code} was evaluated {count} times to completion"
    for code, value in ends:
        if code not in recorded:
            yield f"the evaluation of code {code} was completed and is not recorded"
        elif recorded[code] != value:
            yield f"code {code} was evaluated to {value} and is recorded with {recorded[code]}"
    for code in recorded.keys() - {code for code, _ in ends} - cut_off:
        yield f"code {code} is recorded as complete and no evaluation of it was"


def _of_the_moves(db: sqlite3.Connection) -> Iterator[str]:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'moves'").fetchone():
        return
    states: dict[int, str] = {}
    attempts: dict[int, int] = {}
    for trial, attempt, old, new in db.execute("SELECT trial, attempt, old, new FROM moves ORDER BY id"):
        expected = attempts.get(trial, 0) + (new == "running")
        if (old, new) not in LEGAL or states.get(trial) != old or attempt != expected:
            yield f"trial {trial} went from {states.get(trial)} ({old}) to {new} in attempt {attempt} of {expected}"
        states[trial], attempts[trial] = new, attempt
    for trial, state in db.execute("SELECT id, state FROM trials"):
        if states.get(trial) != state:
            yield f"trial {trial} is {state} and its last move was to {states.get(trial)}"


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description="Check the invariants of a search that is done.")
    parser.add_argument("history", type=Path)
    parser.add_argument("witness", type=Path)
    parser.add_argument("--target", type=int, required=True)
    arguments = parser.parse_args()
    found = violations(arguments.history, arguments.witness, arguments.target)
    print("\n".join(found) or "all invariants hold")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
