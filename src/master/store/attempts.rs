//! The table `attempts`: row ↔ [`Attempt`].

use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::params;

use crate::master::domain::entities::Attempt;
use crate::master::domain::entities::AttemptState;
use crate::master::store::Store;
use crate::master::store::builds;
use crate::master::store::columns;
use crate::model::attempt::AttemptRef;
use crate::model::ids::AttemptId;
use crate::model::ids::Fence;
use crate::model::ids::JobId;
use crate::model::ids::WorkerName;

impl Store {
    /// The attempts of a job, the first one first.
    pub async fn attempts_of(&self, job: JobId) -> anyhow::Result<Vec<Attempt>> {
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT * FROM attempts WHERE job = ?1 ORDER BY id")?;
            let rows = statement.query_map([columns::put(job.0)], from_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// The newest attempt of each job of the builds that are not over, where it is not over itself.
pub(super) fn active(connection: &Connection) -> rusqlite::Result<Vec<Attempt>> {
    let sql = format!(
        "SELECT attempts.* FROM builds INDEXED BY builds_active \
         CROSS JOIN jobs ON jobs.build = builds.id \
         CROSS JOIN attempts ON attempts.id = jobs.attempt \
         WHERE {} AND attempts.state IN ('assigned', 'started') ORDER BY attempts.id",
        builds::ACTIVE
    );
    connection.prepare(&sql)?.query_map([], from_row)?.collect()
}

/// Writes an attempt over the one before.
pub(super) fn write(connection: &Connection, attempt: &Attempt) -> rusqlite::Result<()> {
    let (state, sentence) = words(&attempt.state);
    let mut statement = connection.prepare_cached(
        "INSERT INTO attempts (id, fence, job, number, worker, state, sentence, assigned_at, \
         started_at, finished_at, cancelling) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
         ON CONFLICT (id) DO UPDATE SET fence = ?2, worker = ?5, state = ?6, sentence = ?7, \
         assigned_at = ?8, started_at = ?9, finished_at = ?10, cancelling = ?11",
    )?;
    statement.execute(params![
        columns::put(attempt.id.attempt.0),
        columns::put(attempt.id.fence.0),
        columns::put(attempt.job.0),
        attempt.number,
        attempt.worker.0,
        state,
        sentence,
        columns::put(attempt.assigned_at.0),
        columns::put_time_opt(attempt.started_at),
        columns::put_time_opt(attempt.finished_at),
        attempt.cancelling,
    ])?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    Ok(Attempt {
        id: AttemptRef {
            attempt: AttemptId(columns::number(row, "id")?),
            fence: Fence(columns::number(row, "fence")?),
        },
        job: JobId(columns::number(row, "job")?),
        number: row.get("number")?,
        worker: WorkerName(row.get("worker")?),
        state: state_from(row)?,
        assigned_at: columns::time(row, "assigned_at")?,
        started_at: columns::time_opt(row, "started_at")?,
        finished_at: columns::time_opt(row, "finished_at")?,
        cancelling: row.get("cancelling")?,
    })
}

fn words(state: &AttemptState) -> (&'static str, Option<&str>) {
    match state {
        AttemptState::Assigned => ("assigned", None),
        AttemptState::Started => ("started", None),
        AttemptState::Passed => ("passed", None),
        AttemptState::Failed => ("failed", None),
        AttemptState::Cancelled => ("cancelled", None),
        AttemptState::Infra(sentence) => ("infra", Some(sentence)),
    }
}

pub(super) fn state_from(row: &Row<'_>) -> rusqlite::Result<AttemptState> {
    let word: String = row.get("state")?;
    match word.as_str() {
        "assigned" => Ok(AttemptState::Assigned),
        "started" => Ok(AttemptState::Started),
        "passed" => Ok(AttemptState::Passed),
        "failed" => Ok(AttemptState::Failed),
        "cancelled" => Ok(AttemptState::Cancelled),
        "infra" => row.get("sentence").map(AttemptState::Infra),
        other => {
            Err(columns::unreadable(row, "state", format!("unknown attempt state {other}").into()))
        }
    }
}
