"""``python tests/agent/histories/store.py``: keeps a history of the newest schema here, made of the one before it.

A file of every schema that ever was is kept, so that each can be shown to open. Written once, it is never changed.
"""

import sqlite3
from pathlib import Path

from sqlite_utils import Database

from ncode_search.agent.schema import MIGRATIONS

HERE = Path(__file__).parent


def main() -> None:
    """Write the file that is missing."""
    before, newest = [migration.name for migration in MIGRATIONS._migrations][-2:]
    db = sqlite3.connect(":memory:")
    db.executescript((HERE / f"{before}.sql").read_text(encoding="utf-8"))
    MIGRATIONS.apply(Database(db))
    db.execute("UPDATE _sqlite_migrations SET applied_at = '2026-11-24 17:51:46+00:00'")
    db.commit()
    with (HERE / f"{newest}.sql").open("x", encoding="utf-8") as file:
        file.write("\n".join(db.iterdump()) + "\n")


if __name__ == "__main__":
    main()
