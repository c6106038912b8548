//! The tables `job_times` and `pool_forecasts`: row ↔ [`JobTime`], [`PoolForecast`].

use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::params;

use crate::master::domain::forecast::Estimate;
use crate::master::domain::forecast::JobTime;
use crate::master::domain::forecast::PoolForecast;
use crate::master::store::Store;
use crate::master::store::columns;
use crate::model::ids::JobName;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;

impl Store {
    /// What was learned of pools, by name. A pool of which nothing was is not there.
    pub async fn pool_forecasts(&self) -> anyhow::Result<Vec<PoolForecast>> {
        self.read(|connection| Ok(pools(connection)?)).await
    }
}

/// What was learned of pools, by name.
pub(super) fn pools(connection: &Connection) -> rusqlite::Result<Vec<PoolForecast>> {
    let mut statement = connection.prepare_cached("SELECT * FROM pool_forecasts ORDER BY name")?;
    statement.query_map([], pool_from_row)?.collect()
}

/// How long jobs took.
pub(super) fn job_times(connection: &Connection) -> rusqlite::Result<Vec<JobTime>> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM job_times ORDER BY project, job")?;
    statement.query_map([], job_time_from_row)?.collect()
}

/// Writes what was learned of a pool over the one before.
pub(super) fn write_pool(connection: &Connection, pool: &PoolForecast) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO pool_forecasts (name, boot_ms, boot_seen, hits, misses, ahead) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (name) DO UPDATE SET boot_ms = ?2, \
         boot_seen = ?3, hits = ?4, misses = ?5, ahead = ?6",
    )?;
    let ahead: Vec<&str> = pool.ahead.iter().map(WorkerName::as_str).collect();
    statement.execute(params![
        pool.name.0,
        columns::put(pool.boot_ms.mean),
        columns::put(pool.boot_ms.seen),
        columns::put(pool.hits),
        columns::put(pool.misses),
        ahead.join(" "),
    ])?;
    Ok(())
}

/// Writes how long a job takes over the one before.
pub(super) fn write_job_time(connection: &Connection, time: &JobTime) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO job_times (project, job, took_ms, took_seen, passes, passes_seen, seen_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (project, job) DO UPDATE SET \
         took_ms = ?3, took_seen = ?4, passes = ?5, passes_seen = ?6, seen_at = ?7",
    )?;
    statement.execute(params![
        time.project.0,
        time.job.0,
        columns::put(time.took_ms.mean),
        columns::put(time.took_ms.seen),
        columns::put(time.passes.mean),
        columns::put(time.passes.seen),
        columns::put(time.seen_at.0),
    ])?;
    Ok(())
}

/// Forgets how long a job takes.
pub(super) fn remove_job_time(
    connection: &Connection,
    project: &ProjectName,
    job: &JobName,
) -> rusqlite::Result<()> {
    let sql = "DELETE FROM job_times WHERE project = ?1 AND job = ?2";
    connection.prepare_cached(sql)?.execute([project.as_str(), job.as_str()])?;
    Ok(())
}

fn estimate(row: &Row<'_>, mean: &str, seen: &str) -> rusqlite::Result<Estimate> {
    Ok(Estimate { mean: columns::number(row, mean)?, seen: columns::number(row, seen)? })
}

fn pool_from_row(row: &Row<'_>) -> rusqlite::Result<PoolForecast> {
    let ahead: String = row.get("ahead")?;
    Ok(PoolForecast {
        name: PoolName(row.get("name")?),
        boot_ms: estimate(row, "boot_ms", "boot_seen")?,
        hits: columns::number(row, "hits")?,
        misses: columns::number(row, "misses")?,
        ahead: ahead.split_whitespace().map(WorkerName::from).collect(),
    })
}

fn job_time_from_row(row: &Row<'_>) -> rusqlite::Result<JobTime> {
    Ok(JobTime {
        project: ProjectName(row.get("project")?),
        job: JobName(row.get("job")?),
        took_ms: estimate(row, "took_ms", "took_seen")?,
        passes: estimate(row, "passes", "passes_seen")?,
        seen_at: columns::time(row, "seen_at")?,
    })
}
