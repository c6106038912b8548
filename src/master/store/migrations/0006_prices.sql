-- What an hour of an instance costs, in millionths of a dollar, as it was when the instance was asked
-- for; null: not known.
ALTER TABLE instances ADD COLUMN price_per_hour INTEGER;
-- What has ended today counts for today's budgets.
CREATE INDEX instances_ended ON instances (ended_at) WHERE ended_at IS NOT NULL;
-- What a worker has done: the picture of its life.
CREATE INDEX attempts_worker ON attempts (worker);

-- What the jobs of a project have cost, by the day (UTC, counted from 1970-01-01) on which they ended.
CREATE TABLE project_days (
    project TEXT    NOT NULL,
    day     INTEGER NOT NULL,
    cost    INTEGER NOT NULL, -- millionths of a dollar
    in_part INTEGER NOT NULL, -- 1: some ran on instances whose price is not known
    PRIMARY KEY (project, day)
) STRICT, WITHOUT ROWID;

-- On which day somebody was last told that a budget is spent.
CREATE TABLE budgets_told (
    pool TEXT    NOT NULL PRIMARY KEY, -- '': the budget for all
    day  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
