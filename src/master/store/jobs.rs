//! The table `jobs`: row ↔ [`Job`].

use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::params;

use crate::master::domain::entities::Build;
use crate::master::domain::entities::Job;
use crate::master::store::Store;
use crate::master::store::builds;
use crate::master::store::columns;
use crate::master::store::job_spec;
use crate::master::store::rows_max;
use crate::model::ids::AttemptId;
use crate::model::ids::BuildId;
use crate::model::ids::Fence;
use crate::model::ids::JobId;
use crate::model::ids::WorkerName;

/// The condition of the index `jobs_active`, word for word; see `builds::ACTIVE`.
pub(super) const ACTIVE: &str = "jobs.status IN ('waiting', 'queued', 'running')";

impl Store {
    /// The jobs of a build, in order.
    pub async fn jobs_of(&self, build: BuildId) -> anyhow::Result<Vec<Job>> {
        self.read(move |connection| Ok(of_build(connection, build)?)).await
    }

    /// The jobs of several builds: build by build as asked for, in order within each.
    pub async fn jobs_of_many(&self, builds: Vec<BuildId>) -> anyhow::Result<Vec<Job>> {
        self.read(move |connection| {
            let mut jobs = Vec::new();
            for build in builds {
                jobs.extend(of_build(connection, build)?);
            }
            Ok(jobs)
        })
        .await
    }

    /// The jobs that could run and wait for a worker, with their builds; who waits longest first.
    pub async fn queued_jobs(&self, limit: u32) -> anyhow::Result<Vec<(Job, Build)>> {
        self.read(move |connection| {
            let sql = format!(
                "SELECT * FROM jobs INDEXED BY jobs_active \
                 WHERE {ACTIVE} AND status = 'queued' ORDER BY queued_at, id LIMIT ?1"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let jobs: Vec<Job> =
                statement.query_map([rows_max(limit)], from_row)?.collect::<Result<_, _>>()?;
            let mut build_of = connection.prepare_cached("SELECT * FROM builds WHERE id = ?1")?;
            let mut queued = Vec::with_capacity(jobs.len());
            for job in jobs {
                let build = build_of.query_row([columns::put(job.build.0)], builds::from_row)?;
                queued.push((job, build));
            }
            Ok(queued)
        })
        .await
    }
}

/// The jobs of a build, in order.
pub(super) fn of_build(connection: &Connection, build: BuildId) -> rusqlite::Result<Vec<Job>> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM jobs WHERE build = ?1 ORDER BY id")?;
    statement.query_map([columns::put(build.0)], from_row)?.collect()
}

/// All jobs of the builds that are not over.
pub(super) fn of_active_builds(connection: &Connection) -> rusqlite::Result<Vec<Job>> {
    let sql = format!(
        "SELECT jobs.* FROM builds INDEXED BY builds_active CROSS JOIN jobs \
         ON jobs.build = builds.id WHERE {} ORDER BY jobs.id",
        builds::ACTIVE
    );
    connection.prepare(&sql)?.query_map([], from_row)?.collect()
}

/// Writes a job over the one before. Its spec is written once: it never changes, and is long.
pub(super) fn write(connection: &Connection, job: &Job) -> anyhow::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE jobs SET status = ?2, reason = ?3, attempts = ?4, infra_failures = ?5, \
         fence = ?6, attempt = ?7, worker = ?8, queued_at = ?9, started_at = ?10, \
         finished_at = ?11, unstarted = ?12, avoids_spot = ?13 WHERE id = ?1",
    )?;
    let updated = update.execute(params![
        columns::put(job.id.0),
        job.status.as_str(),
        job.reason,
        job.attempts,
        job.infra_failures,
        columns::put(job.fence.0),
        columns::put_opt(job.attempt.map(|attempt| attempt.0)),
        job.worker.as_ref().map(WorkerName::as_str),
        columns::put_time_opt(job.queued_at),
        columns::put_time_opt(job.started_at),
        columns::put_time_opt(job.finished_at),
        job.unstarted,
        job.avoids_spot,
    ])?;
    if updated == 0 {
        insert(connection, job)?;
    }
    Ok(())
}

fn insert(connection: &Connection, job: &Job) -> anyhow::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO jobs (id, build, spec, status, reason, attempts, infra_failures, fence, \
         attempt, worker, queued_at, started_at, finished_at, unstarted, avoids_spot) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    insert.execute(params![
        columns::put(job.id.0),
        columns::put(job.build.0),
        job_spec::to_json(&job.spec)?,
        job.status.as_str(),
        job.reason,
        job.attempts,
        job.infra_failures,
        columns::put(job.fence.0),
        columns::put_opt(job.attempt.map(|attempt| attempt.0)),
        job.worker.as_ref().map(WorkerName::as_str),
        columns::put_time_opt(job.queued_at),
        columns::put_time_opt(job.started_at),
        columns::put_time_opt(job.finished_at),
        job.unstarted,
        job.avoids_spot,
    ])?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Job> {
    let spec: String = row.get("spec")?;
    let spec = job_spec::from_json(&spec)
        .map_err(|error| columns::unreadable(row, "spec", error.into()))?;
    Ok(Job {
        id: JobId(columns::number(row, "id")?),
        build: BuildId(columns::number(row, "build")?),
        spec: Arc::new(spec),
        status: columns::word(row, "status")?,
        reason: row.get("reason")?,
        attempts: row.get("attempts")?,
        infra_failures: row.get("infra_failures")?,
        unstarted: row.get("unstarted")?,
        avoids_spot: row.get("avoids_spot")?,
        fence: Fence(columns::number(row, "fence")?),
        attempt: columns::number_opt(row, "attempt")?.map(AttemptId),
        worker: row.get::<_, Option<String>>("worker")?.map(WorkerName),
        queued_at: columns::time_opt(row, "queued_at")?,
        started_at: columns::time_opt(row, "started_at")?,
        finished_at: columns::time_opt(row, "finished_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::status::JobStatus;

    #[test]
    fn the_active_jobs_are_exactly_those_that_are_not_final() {
        for status in JobStatus::ALL {
            assert_eq!(ACTIVE.contains(&format!("'{status}'")), !status.is_final(), "{status}");
        }
    }
}
