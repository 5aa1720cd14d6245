"""The tables of a history file, as numbered migrations. A released migration is never edited: a change is a new one."""

from __future__ import annotations

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

MIGRATIONS = Migrations("ncode_search")


@MIGRATIONS()
def m001_trials_epochs_decisions(db: Database) -> None:
    """The first schema."""
    db.executescript(_FIRST_SCHEMA)


@MIGRATIONS()
def m002_forecasts(db: Database) -> None:
    """What a ranker that predicts values predicted, and how far it was trusted; both JSON."""
    db.executescript("ALTER TABLE decisions ADD COLUMN predicted TEXT; ALTER TABLE decisions ADD COLUMN trust TEXT")


@MIGRATIONS()
def m003_canonical_codes(db: Database) -> None:
    """Beside the code as it was proposed, the canonical code of its class, which is what tells trials apart."""
    db.executescript(
        "ALTER TABLE trials ADD COLUMN canonical TEXT; UPDATE trials SET canonical = code; "
        "DROP INDEX trials_one_per_code; "
        "CREATE UNIQUE INDEX trials_one_per_class ON trials (canonical) WHERE state != 'failed'"
    )


@MIGRATIONS()
def m004_narrowings(db: Database) -> None:
    """The options that a search kept to, from which trial on."""
    db.executescript(_NARROWINGS)


@MIGRATIONS()
def m005_costs_and_budgets(db: Database) -> None:
    """What a trial cost, all attempts together; how far it may go; the score of an epoch in the search's metric."""
    db.executescript(
        "ALTER TABLE trials ADD COLUMN seconds REAL; "
        "ALTER TABLE trials ADD COLUMN peak_memory INTEGER; "  # bytes
        "ALTER TABLE trials ADD COLUMN budget INTEGER; "  # epochs
        "ALTER TABLE epochs ADD COLUMN score REAL"
    )


@MIGRATIONS()
def m006_leases(db: Database) -> None:
    """Leases that no clock's jump ends, failures counted apart from interruptions, late results, all starts."""
    db.executescript(_LEASES)


_FIRST_SCHEMA = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL -- JSON
) WITHOUT ROWID;
CREATE TABLE trials (
    id INTEGER PRIMARY KEY,
    code TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'complete', 'failed', 'pruned')),
    value REAL,
    metrics TEXT, -- JSON
    attempt INTEGER NOT NULL DEFAULT 0,
    worker TEXT, -- host:pid:start of the process that runs it
    device TEXT,
    error TEXT,
    proposed_by TEXT NOT NULL,
    created_at REAL NOT NULL, -- seconds since 1970, as all times
    started_at REAL,
    finished_at REAL,
    lease_until REAL,
    CHECK ((state = 'complete') = (value IS NOT NULL))
);
CREATE UNIQUE INDEX trials_one_per_code ON trials (code) WHERE state != 'failed';
CREATE INDEX trials_unfinished ON trials (state) WHERE state IN ('queued', 'running');
CREATE TABLE epochs (
    trial INTEGER NOT NULL REFERENCES trials (id),
    attempt INTEGER NOT NULL,
    step INTEGER NOT NULL,
    metrics TEXT NOT NULL, -- JSON
    reported_at REAL NOT NULL,
    PRIMARY KEY (trial, attempt, step)
) WITHOUT ROWID;
CREATE TABLE decisions (
    trial INTEGER PRIMARY KEY REFERENCES trials (id),
    ranker TEXT NOT NULL,
    model TEXT,
    model_sha256 TEXT,
    pool INTEGER NOT NULL,
    rank INTEGER NOT NULL, -- of the chosen candidate by the ranker's scores; 1 is the best
    seconds REAL NOT NULL,
    fallback INTEGER NOT NULL CHECK (fallback IN (0, 1)),
    reason TEXT, -- why it was a fallback
    decided_at REAL NOT NULL
)"""

_NARROWINGS = """
CREATE TABLE narrowings (
    after INTEGER NOT NULL, -- completed trials that told which options did best
    keep TEXT NOT NULL, -- JSON: how many options of every position, or what share of them
    trial INTEGER NOT NULL, -- the first that was proposed so
    kept TEXT NOT NULL, -- JSON: position to its kept options
    decided_at REAL NOT NULL,
    PRIMARY KEY (after, keep)
) WITHOUT ROWID"""

_LEASES = """
ALTER TABLE trials ADD COLUMN lease_seconds REAL;
ALTER TABLE trials ADD COLUMN lease_boot TEXT; -- the boot of the machine whose clock the next column is of
ALTER TABLE trials ADD COLUMN lease_clock REAL; -- seconds of that monotonic clock at which it runs out
ALTER TABLE trials ADD COLUMN failures INTEGER NOT NULL DEFAULT 0; -- attempts that were not merely interrupted
UPDATE trials SET lease_seconds = 60 WHERE state = 'running' AND device != 'caller';
UPDATE trials SET failures = attempt WHERE state = 'failed';
CREATE TABLE duplicates (
    trial INTEGER NOT NULL REFERENCES trials (id),
    attempt INTEGER NOT NULL, -- it had been taken back, and another one was begun
    state TEXT NOT NULL CHECK (state IN ('complete', 'pruned')),
    value REAL,
    metrics TEXT, -- JSON
    recorded_at REAL NOT NULL,
    PRIMARY KEY (trial, attempt)
) WITHOUT ROWID;
CREATE TABLE starts (
    id INTEGER PRIMARY KEY,
    started_at REAL NOT NULL,
    settings TEXT NOT NULL -- JSON: those that may change from start to start
)"""
