BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'ncode_search','m001_trials_epochs_decisions','2026-11-24 17:51:46.068675+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'ncode_search','m002_forecasts','2026-11-24 17:51:46.068966+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'ncode_search','m003_canonical_codes','2026-11-24 17:51:46+00:00');
INSERT INTO "_sqlite_migrations" VALUES(4,'ncode_search','m004_narrowings','2026-11-24 17:51:46+00:00');
INSERT INTO "_sqlite_migrations" VALUES(5,'ncode_search','m005_costs_and_budgets','2026-11-24 17:51:46+00:00');
INSERT INTO "_sqlite_migrations" VALUES(6,'ncode_search','m006_leases','2026-11-24 17:51:46+00:00');
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
, predicted TEXT, trust TEXT);
INSERT INTO "decisions" VALUES(1,'random',NULL,NULL,8,1,7.07748700369847938418e-03,0,NULL,1.79554270607707858091e+09,NULL,NULL);
INSERT INTO "decisions" VALUES(2,'random',NULL,NULL,7,1,3.28223002725280821323e-04,0,NULL,1.7955427060776863098e+09,NULL,NULL);
INSERT INTO "decisions" VALUES(3,'random',NULL,NULL,6,1,3.0012999923201277852e-04,0,NULL,1.79554270607811689375e+09,NULL,NULL);
INSERT INTO "decisions" VALUES(4,'random',NULL,NULL,5,1,2.93691002298146486282e-04,0,NULL,1.79554270607852649692e+09,NULL,NULL);
INSERT INTO "decisions" VALUES(5,'random',NULL,NULL,4,1,2.84116998955141752958e-04,0,NULL,1.7955427060789167881e+09,NULL,NULL);
INSERT INTO "decisions" VALUES(6,'embedded',NULL,NULL,8,1,0.01,0,NULL,1.79554270608084726333e+09,'{"model": 1.0, "ridge": 2.0, "history": 3.0}','{"model": 1.0}');
CREATE TABLE duplicates (
    trial INTEGER NOT NULL REFERENCES trials (id),
    attempt INTEGER NOT NULL, -- it had been taken back, and another one was begun
    state TEXT NOT NULL CHECK (state IN ('complete', 'pruned')),
    value REAL,
    metrics TEXT, -- JSON
    recorded_at REAL NOT NULL,
    PRIMARY KEY (trial, attempt)
) WITHOUT ROWID;
CREATE TABLE epochs (
    trial INTEGER NOT NULL REFERENCES trials (id),
    attempt INTEGER NOT NULL,
    step INTEGER NOT NULL,
    metrics TEXT NOT NULL, -- JSON
    reported_at REAL NOT NULL, score REAL,
    PRIMARY KEY (trial, attempt, step)
) WITHOUT ROWID;
INSERT INTO "epochs" VALUES(5,1,1,'{"loss": 0.5}',1.79554270608095169065e+09,NULL);
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL -- JSON
) WITHOUT ROWID;
INSERT INTO "meta" VALUES('costs','{}');
INSERT INTO "meta" VALUES('equal','{"when": {"kernel": {"op": ["conv"]}}}');
INSERT INTO "meta" VALUES('forbidden','[]');
INSERT INTO "meta" VALUES('objective','{"goal": "maximize", "evaluator": null}');
INSERT INTO "meta" VALUES('space','{"op": ["conv", "pool"], "kernel": [3, 5, 7], "width": [8, 16]}');
CREATE TABLE narrowings (
    after INTEGER NOT NULL, -- completed trials that told which options did best
    keep TEXT NOT NULL, -- JSON: how many options of every position, or what share of them
    trial INTEGER NOT NULL, -- the first that was proposed so
    kept TEXT NOT NULL, -- JSON: position to its kept options
    decided_at REAL NOT NULL,
    PRIMARY KEY (after, keep)
) WITHOUT ROWID;
CREATE TABLE starts (
    id INTEGER PRIMARY KEY,
    started_at REAL NOT NULL,
    settings TEXT NOT NULL -- JSON: those that may change from start to start
);
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
    lease_until REAL, canonical TEXT, seconds REAL, peak_memory INTEGER, budget INTEGER, lease_seconds REAL, lease_boot TEXT, lease_clock REAL, failures INTEGER NOT NULL DEFAULT 0,
    CHECK ((state = 'complete') = (value IS NOT NULL))
);
INSERT INTO "trials" VALUES(1,'011','complete',21.0,'{"seconds": 1.5}',1,'elsewhere:11:345','caller',NULL,'startup',1.79554270607707858091e+09,1.79554270607722640034e+09,1.79554270607903051376e+09,NULL,'011',NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "trials" VALUES(2,'020','complete',15.0,'{"seconds": 1.5}',1,'elsewhere:11:345','caller',NULL,'startup',1.7955427060776863098e+09,1.79554270607775211332e+09,1.7955427060795929432e+09,NULL,'020',NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "trials" VALUES(3,'100','complete',8.5,'{"seconds": 1.5}',1,'elsewhere:11:345','caller',NULL,'startup',1.79554270607811689375e+09,1.79554270607817125318e+09,1.79554270607990646355e+09,NULL,'100',NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "trials" VALUES(4,'001','failed',NULL,NULL,1,'elsewhere:11:345','caller','boom','startup',1.79554270607852649692e+09,1.79554270607857751848e+09,1.79554270608017396931e+09,NULL,'001',NULL,NULL,NULL,NULL,NULL,NULL,1);
INSERT INTO "trials" VALUES(5,'000','running',NULL,NULL,1,'elsewhere:12:345','caller',NULL,'startup',1.7955427060789167881e+09,1.79554270607896685604e+09,NULL,0.0,'000',NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "trials" VALUES(6,'021','queued',NULL,NULL,0,NULL,NULL,NULL,'embedded',1.79554270608084726333e+09,NULL,NULL,NULL,'021',NULL,NULL,NULL,NULL,NULL,NULL,0);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX trials_unfinished ON trials (state) WHERE state IN ('queued', 'running');
CREATE UNIQUE INDEX trials_one_per_class ON trials (canonical) WHERE state != 'failed';
COMMIT;
