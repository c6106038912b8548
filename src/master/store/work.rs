//! What workers have done: their attempts, with the names of jobs and builds. For the picture of a
//! machine's life.

use std::collections::BTreeMap;

use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::params;

use crate::master::domain::entities::AttemptState;
use crate::master::store::Store;
use crate::master::store::attempts;
use crate::master::store::columns;
use crate::model::ids::BuildNumber;
use crate::model::ids::JobName;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;
use crate::model::time::Timestamp;

/// An attempt of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Whose build.
    pub project: ProjectName,
    /// Which.
    pub number: BuildNumber,
    /// Which of its jobs; nothing where names were not asked for.
    pub job: Option<JobName>,
    /// Counted from 1 within the job.
    pub attempt: u32,
    /// Where it stands.
    pub state: AttemptState,
    /// When the worker was given it.
    pub from: Timestamp,
    /// When it ended; nothing: it goes on.
    pub until: Option<Timestamp>,
}

impl Store {
    /// The newest attempts of each of these workers, oldest first; one without any is not there. Names of
    /// jobs stand in their specs, which are long: a list of many machines does without.
    pub async fn work_of(
        &self,
        workers: Vec<WorkerName>,
        limit: u32,
        with_names: bool,
    ) -> anyhow::Result<BTreeMap<WorkerName, Vec<Work>>> {
        self.read(move |connection| {
            let mut all = BTreeMap::new();
            for worker in workers {
                let work = of_worker(connection, &worker, limit, with_names)?;
                if !work.is_empty() {
                    all.insert(worker, work);
                }
            }
            Ok(all)
        })
        .await
    }
}

fn of_worker(
    connection: &Connection,
    worker: &WorkerName,
    limit: u32,
    with_names: bool,
) -> rusqlite::Result<Vec<Work>> {
    let mut statement = connection.prepare_cached(
        "SELECT builds.project, builds.number AS build_number, \
         CASE WHEN ?3 THEN jobs.spec ->> '$.name' END AS job_name, \
         attempts.number, attempts.state, attempts.sentence, attempts.assigned_at, \
         attempts.finished_at \
         FROM attempts INDEXED BY attempts_worker CROSS JOIN jobs ON jobs.id = attempts.job \
         CROSS JOIN builds ON builds.id = jobs.build \
         WHERE attempts.worker = ?1 ORDER BY attempts.id DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![worker.0, limit, with_names], from_row)?;
    let mut work = rows.collect::<rusqlite::Result<Vec<Work>>>()?;
    work.reverse();
    Ok(work)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Work> {
    Ok(Work {
        project: ProjectName(row.get("project")?),
        number: BuildNumber(columns::number(row, "build_number")?),
        job: row.get::<_, Option<String>>("job_name")?.map(JobName),
        attempt: row.get("number")?,
        state: attempts::state_from(row)?,
        from: columns::time(row, "assigned_at")?,
        until: columns::time_opt(row, "finished_at")?,
    })
}
