-- How long the jobs of a project take, by name: means that forget. Few thousand rows at most.
CREATE TABLE job_times (
    project     TEXT    NOT NULL,
    job         TEXT    NOT NULL,
    took_ms     INTEGER NOT NULL,
    took_seen   INTEGER NOT NULL, -- 0: none has passed
    passes      INTEGER NOT NULL, -- of 1000
    passes_seen INTEGER NOT NULL,
    seen_at     INTEGER NOT NULL,
    PRIMARY KEY (project, job)
) STRICT, WITHOUT ROWID;

-- How long a pool's machines take until their worker is ready, and what came of looking ahead.
CREATE TABLE pool_forecasts (
    name      TEXT    NOT NULL PRIMARY KEY,
    boot_ms   INTEGER NOT NULL,
    boot_seen INTEGER NOT NULL, -- 0: none was ready yet
    hits      INTEGER NOT NULL,
    misses    INTEGER NOT NULL,
    ahead     TEXT    NOT NULL  -- workers that were started ahead and have served nothing: names with spaces between
) STRICT, WITHOUT ROWID;
