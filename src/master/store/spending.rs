//! The tables `project_days` and `budgets_told`, and what jobs and pools have cost: row ↔ domain.

use std::collections::BTreeMap;

use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::params;

use crate::master::domain::budget::Scope;
use crate::master::domain::entities::Instance;
use crate::master::domain::entities::ProjectDay;
use crate::master::store::Store;
use crate::master::store::columns;
use crate::master::store::instances;
use crate::model::ids::BuildId;
use crate::model::ids::JobId;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::money::Money;
use crate::model::time::Timestamp;

/// Days of a project that are read at most: a year's.
const DAYS_MAX: u32 = 366;

/// An attempt, as far as its cost goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose attempt.
    pub job: JobId,
    /// Of which pool the worker was.
    pub pool: PoolName,
    /// What its instance costs; nothing: not known, or it had none.
    pub price_per_hour: Option<Money>,
    /// Since when it held the worker.
    pub from: Timestamp,
    /// Until when; nothing: it does.
    pub until: Option<Timestamp>,
}

impl Store {
    /// What the attempts of a build's jobs have held, in no order.
    pub async fn held_by(&self, build: BuildId) -> anyhow::Result<Vec<Held>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT attempts.job, workers.pool, instances.price_per_hour, \
                 attempts.assigned_at, attempts.finished_at FROM jobs \
                 CROSS JOIN attempts ON attempts.job = jobs.id \
                 CROSS JOIN workers ON workers.name = attempts.worker \
                 LEFT JOIN instances ON instances.id = workers.instance WHERE jobs.build = ?1",
            )?;
            let held = |row: &Row<'_>| {
                Ok(Held {
                    job: JobId(columns::number(row, "job")?),
                    pool: PoolName(row.get("pool")?),
                    price_per_hour: columns::number_opt(row, "price_per_hour")?.map(Money),
                    from: columns::time(row, "assigned_at")?,
                    until: columns::time_opt(row, "finished_at")?,
                })
            };
            let rows = statement.query_map([columns::put(build.0)], held)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// What a project's jobs have cost on each day from this one on; a day without jobs is not there.
    pub async fn project_days(
        &self,
        project: ProjectName,
        from: u64,
    ) -> anyhow::Result<Vec<ProjectDay>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT * FROM project_days WHERE project = ?1 AND day >= ?2 ORDER BY day LIMIT ?3",
            )?;
            let rows =
                statement.query_map(params![project.0, columns::put(from), DAYS_MAX], day_from)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The instances that are there, and those that have ended since then.
    pub async fn instances_since(&self, since: Timestamp) -> anyhow::Result<Vec<Instance>> {
        self.read(move |connection| {
            let mut rows = instances::present(connection)?;
            rows.extend(instances::ended_since(connection, since)?);
            Ok(rows)
        })
        .await
    }
}

/// What projects have cost on each day from this one on.
pub(super) fn days_since(connection: &Connection, day: u64) -> rusqlite::Result<Vec<ProjectDay>> {
    let mut statement = connection.prepare("SELECT * FROM project_days WHERE day >= ?1")?;
    statement.query_map([columns::put(day)], day_from)?.collect()
}

/// Writes a project's day over what was known of it.
pub(super) fn write_day(connection: &Connection, day: &ProjectDay) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO project_days (project, day, cost, in_part) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (project, day) DO UPDATE SET cost = ?3, in_part = ?4",
    )?;
    let (number, cost) = (columns::put(day.day), columns::put(day.cost.0));
    statement.execute(params![day.project.0, number, cost, day.in_part])?;
    Ok(())
}

/// On which day somebody was last told of each budget.
pub(super) fn told(connection: &Connection) -> rusqlite::Result<BTreeMap<Scope, u64>> {
    let mut statement = connection.prepare("SELECT pool, day FROM budgets_told")?;
    let told = statement.query_map([], |row| {
        let pool: String = row.get("pool")?;
        let scope = (!pool.is_empty()).then_some(PoolName(pool));
        Ok((scope, columns::number(row, "day")?))
    })?;
    told.collect()
}

/// Writes that somebody was told.
pub(super) fn write_told(connection: &Connection, scope: &Scope, day: u64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO budgets_told (pool, day) VALUES (?1, ?2) \
         ON CONFLICT (pool) DO UPDATE SET day = ?2",
    )?;
    statement.execute(params![scope.as_ref().map_or("", PoolName::as_str), columns::put(day)])?;
    Ok(())
}

fn day_from(row: &Row<'_>) -> rusqlite::Result<ProjectDay> {
    Ok(ProjectDay {
        project: ProjectName(row.get("project")?),
        day: columns::number(row, "day")?,
        cost: Money(columns::number(row, "cost")?),
        in_part: row.get("in_part")?,
    })
}
