-- The tables of part 1. One row is one struct of master/domain/entities.rs.
--
-- Times are milliseconds since 1970-01-01 UTC. Ids are given by the domain, never by SQLite.
-- There are no foreign keys: the domain owns the invariants, and a record may come before what it
-- points at within one transaction.
-- An index on (a) also holds the integer primary key, so `WHERE a = ? ORDER BY id` needs no more.

-- Small facts of the master itself: its id, the hash of the token.
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The highest id ever given, per kind: kept apart, so that removing old rows never frees an id.
CREATE TABLE counters (
    kind TEXT    NOT NULL PRIMARY KEY,
    last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE projects (
    name         TEXT    NOT NULL PRIMARY KEY,
    last_number  INTEGER NOT NULL DEFAULT 0, -- the highest number given to a build
    has_baseline INTEGER NOT NULL DEFAULT 0  -- 1: what moves from now on starts builds
) STRICT, WITHOUT ROWID;

CREATE TABLE refs (
    project     TEXT NOT NULL,
    name        TEXT NOT NULL,
    commit_hash TEXT NOT NULL,
    PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE changes (
    id          INTEGER NOT NULL PRIMARY KEY,
    project     TEXT    NOT NULL,
    ref_name    TEXT    NOT NULL,
    commit_hash TEXT    NOT NULL,
    seen_at     INTEGER NOT NULL
) STRICT;

CREATE TABLE builds (
    id            INTEGER NOT NULL PRIMARY KEY,
    project       TEXT    NOT NULL,
    number        INTEGER NOT NULL,
    status        TEXT    NOT NULL,
    reason        TEXT,
    event         TEXT    NOT NULL,
    ref_name      TEXT    NOT NULL,
    commit_hash   TEXT    NOT NULL,
    subject       TEXT    NOT NULL,
    author        TEXT    NOT NULL,
    pipeline_name TEXT,
    created_at    INTEGER NOT NULL,
    started_at    INTEGER,
    finished_at   INTEGER
) STRICT;
CREATE UNIQUE INDEX builds_number ON builds (project, number);
-- One per way to list builds, so that a page costs the same with a million of them.
CREATE INDEX builds_project ON builds (project);
CREATE INDEX builds_project_status ON builds (project, status);
CREATE INDEX builds_ref ON builds (project, ref_name);
CREATE INDEX builds_ref_status ON builds (project, ref_name, status);
CREATE INDEX builds_status ON builds (status);
CREATE INDEX builds_active ON builds (id) WHERE status IN ('queued', 'running');

CREATE TABLE jobs (
    id             INTEGER NOT NULL PRIMARY KEY,
    build          INTEGER NOT NULL,
    spec           TEXT    NOT NULL, -- JSON, see store/job_spec.rs; written once
    status         TEXT    NOT NULL,
    reason         TEXT,
    attempts       INTEGER NOT NULL,
    infra_failures INTEGER NOT NULL,
    fence          INTEGER NOT NULL,
    attempt        INTEGER,
    worker         TEXT,
    queued_at      INTEGER,
    started_at     INTEGER,
    finished_at    INTEGER
) STRICT;
CREATE INDEX jobs_build ON jobs (build);
CREATE INDEX jobs_active ON jobs (status, queued_at)
    WHERE status IN ('waiting', 'queued', 'running');

CREATE TABLE attempts (
    id          INTEGER NOT NULL PRIMARY KEY,
    fence       INTEGER NOT NULL,
    job         INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    worker      TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    sentence    TEXT,             -- why, where the state is 'infra'
    assigned_at INTEGER NOT NULL,
    started_at  INTEGER,
    finished_at INTEGER,
    cancelling  INTEGER NOT NULL
) STRICT;
CREATE INDEX attempts_job ON attempts (job);

CREATE TABLE steps (
    attempt        INTEGER NOT NULL,
    step           INTEGER NOT NULL,
    name           TEXT    NOT NULL,
    outcome        TEXT,             -- null: it runs
    code           INTEGER,          -- of an exit or a signal
    sentence       TEXT,             -- why, where the outcome is 'infra'
    started_at     INTEGER NOT NULL, -- by the worker's clock
    duration_ms    INTEGER,
    log_bytes      INTEGER,
    log_incomplete INTEGER NOT NULL,
    PRIMARY KEY (attempt, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE workers (
    name                TEXT    NOT NULL PRIMARY KEY,
    pool                TEXT    NOT NULL,
    launch              TEXT    NOT NULL,
    instance            INTEGER,
    status              TEXT    NOT NULL,
    reason              TEXT,
    enrolment           TEXT    NOT NULL, -- 'unused', 'bound' or 'alarmed'
    password_expires_at INTEGER,          -- of 'unused'
    public_key          BLOB,             -- of 'bound', as the two below
    instance_claim      TEXT,
    epoch               INTEGER,
    boot_id             TEXT,
    bootstrapped        INTEGER NOT NULL,
    project             TEXT,
    jobs_given          INTEGER NOT NULL,
    attempt             INTEGER,
    attempt_fence       INTEGER,
    draining            INTEGER NOT NULL,
    created_at          INTEGER NOT NULL,
    idle_since          INTEGER,
    ended_at            INTEGER
) STRICT;
CREATE INDEX workers_present ON workers (name) WHERE status <> 'gone';
CREATE INDEX workers_gone ON workers (ended_at, name) WHERE status = 'gone';

CREATE TABLE instances (
    id           INTEGER NOT NULL PRIMARY KEY,
    launch       TEXT    NOT NULL,
    pool         TEXT    NOT NULL,
    worker       TEXT    NOT NULL,
    status       TEXT    NOT NULL,
    cloud_id     TEXT,
    why_started  TEXT    NOT NULL,
    why_ended    TEXT,
    requested_at INTEGER NOT NULL,
    accepted_at  INTEGER,
    running_at   INTEGER,
    contact_at   INTEGER,
    ready_at     INTEGER,
    ending_at    INTEGER,
    ended_at     INTEGER
) STRICT;
CREATE INDEX instances_present ON instances (id) WHERE status NOT IN ('terminated', 'failed');

CREATE TABLE pools (
    name     TEXT    NOT NULL PRIMARY KEY,
    paused   TEXT,
    failures INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
