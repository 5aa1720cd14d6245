"""Histories of every schema that ever was: copied, migrated, and gone on with; or read as they are."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from ncode_search.agent import snapshots
from ncode_search.agent.errors import HistoryError, IllegalTransitionError
from ncode_search.agent.history import History, Objective
from ncode_search.agent.schema import MIGRATIONS
from ncode_search.agent.session import Session
from ncode_search.agent.space import SearchSpace

STORED = sorted((Path(__file__).parent / "histories").glob("*.sql"))
"""A history in every schema that ever was: three complete trials, a failed, a running and a queued one."""
OLD_SPACE = {"op": ["conv", "pool"], "kernel": [3, 5, 7], "width": [8, 16]}
OLD_DECLARED = {"equal": {"when": {"kernel": {"op": ["conv"]}}}}
OLD_CODES = ["011", "020", "100", "001", "000", "021"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "search.db"


@pytest.fixture(params=STORED, ids=lambda stored: stored.stem)
def old(path: Path, request: pytest.FixtureRequest) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(request.param.read_text())
        db.execute("PRAGMA journal_mode = WAL")
    return path


def test_a_history_of_every_schema_is_stored() -> None:
    """`histories/store.py` makes the one that is missing."""
    assert [stored.stem for stored in STORED] == [migration.name for migration in MIGRATIONS._migrations]


def test_an_older_history_is_migrated_and_goes_on(old: Path) -> None:
    with History.open(old, OLD_SPACE, Objective(), OLD_DECLARED) as history:
        trials = list(history.trials())
        assert [trial.code for trial in trials] == OLD_CODES
        assert [trial.canonical for trial in trials] == [trial.code for trial in trials]
        assert [trial.failures for trial in trials] == [0, 0, 0, 1, 0, 0]
        assert history.narrowings() == []
        assert history.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        with pytest.raises(IllegalTransitionError, match="another trial of code 120"):
            history.add(7, "120", "enqueued", canonical="100")
        history.add(7, "001", "enqueued")  # the code of the failed one
    space = SearchSpace(OLD_SPACE, when=OLD_DECLARED["equal"]["when"])
    session = Session(old, space, Objective())
    try:
        assert (session.completed, session.live) == (3, 3)
        assert session.observations().values.tolist() == [21.0, 15.0, 8.5]
        assert [chosen.text for chosen in session.queue] == ["000", "021", "001"]
    finally:
        session.close()


def test_an_older_history_is_copied_before_it_is_migrated(old: Path) -> None:
    def schema(path: Path) -> list[str]:
        with contextlib.closing(sqlite3.connect(path)) as db:
            return [name for (name,) in db.execute("SELECT name FROM _sqlite_migrations ORDER BY id")]

    before = schema(old)
    History.open(old, OLD_SPACE, Objective(), OLD_DECLARED).close()
    copies = list(old.parent.glob("search.db.*"))
    if before[-1] == STORED[-1].stem:
        assert copies == []
    else:
        assert copies == [old.with_name(f"search.db.before-{STORED[-1].stem}")]
        assert schema(copies[0]) == before
        History.open(copies[0], OLD_SPACE, Objective(), OLD_DECLARED).close()
    assert schema(old) == [stored.stem for stored in STORED]


@pytest.mark.parametrize("old", STORED[:-1], indirect=True, ids=lambda stored: stored.stem)
def test_the_copy_is_checked_and_on_disk_before_anything_is_migrated(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, synced = old.read_bytes(), []
    copy = old.with_name(f"search.db.before-{STORED[-1].stem}")
    monkeypatch.setattr(snapshots, "sync", lambda path: synced.append((path.name, old.read_bytes() == before)))
    History.open(old, OLD_SPACE, Objective(), OLD_DECLARED).close()
    assert synced == [(f"{copy.name}.unfinished", True), (old.parent.name, True)]
    old.write_bytes(before)
    copy.unlink()

    def check(path: Path, is_broken_off: object) -> None:
        raise HistoryError(f"{path}: is not sound")

    monkeypatch.setattr(snapshots, "check", check)
    with pytest.raises(HistoryError, match="is not sound"):
        History.open(old, OLD_SPACE, Objective(), OLD_DECLARED)
    assert old.read_bytes() == before
    assert list(old.parent.glob("search.db.*")) == []


def test_a_history_that_cannot_be_migrated_is_left_as_it_was(old: Path) -> None:
    with contextlib.closing(sqlite3.connect(old)) as db:
        db.execute("DELETE FROM _sqlite_migrations WHERE id = (SELECT max(id) FROM _sqlite_migrations)")
        db.commit()
    before = old.read_bytes()
    with pytest.raises(HistoryError):
        History.open(old, OLD_SPACE, Objective(), OLD_DECLARED)
    assert old.read_bytes() == before
    assert list(old.parent.glob("search.db.*")) == []


def test_an_older_history_is_read_as_it_is(old: Path) -> None:
    before = old.read_bytes()
    with History.read(old) as history:
        assert [trial.canonical for trial in history.trials()] == OLD_CODES
        assert history.best() == history.trial(1)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            history.add(7, "101", "random")
    assert old.read_bytes() == before
