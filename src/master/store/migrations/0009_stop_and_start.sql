-- Stopped machines, the spot market, and what agents have to say of their machines.

-- Each stretch in which an instance ran: its launch, and each start after a stop.
CREATE TABLE instance_runs (
    instance   INTEGER NOT NULL,
    number     INTEGER NOT NULL, -- counted from 1 within the instance
    asked_at   INTEGER NOT NULL,
    started_at INTEGER,          -- first seen up
    ready_at   INTEGER,          -- its worker was ready
    ended_at   INTEGER,          -- first seen not to run any more
    PRIMARY KEY (instance, number)
) STRICT, WITHOUT ROWID;
INSERT INTO instance_runs (instance, number, asked_at, started_at, ready_at, ended_at)
    SELECT id, 1, requested_at, coalesce(running_at, contact_at), ready_at, ended_at FROM instances;

-- Attempts that were given out and never began, since somebody last asked for the job.
ALTER TABLE jobs ADD COLUMN unstarted INTEGER NOT NULL DEFAULT 0;
-- 1: it has lost an attempt to the spot market.
ALTER TABLE jobs ADD COLUMN avoids_spot INTEGER NOT NULL DEFAULT 0;

-- When the cloud takes its machine away, once that is known.
ALTER TABLE workers ADD COLUMN taken_at INTEGER;
-- The last that its agent had to say of the machine, and when.
ALTER TABLE workers ADD COLUMN notice TEXT;
ALTER TABLE workers ADD COLUMN notice_at INTEGER;
