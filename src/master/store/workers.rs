//! The table `workers`: row ↔ [`Worker`].

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::params;

use crate::master::domain::entities::Enrolment;
use crate::master::domain::entities::Worker;
use crate::master::store::Store;
use crate::master::store::columns;
use crate::master::store::rows_max;
use crate::model::attempt::AttemptRef;
use crate::model::ids::AttemptId;
use crate::model::ids::Fence;
use crate::model::ids::InstanceId;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;
use crate::model::time::Timestamp;

impl Store {
    /// The workers that are not gone, by name.
    pub async fn workers(&self) -> anyhow::Result<Vec<Worker>> {
        self.read(|connection| Ok(present(connection)?)).await
    }

    /// A page of workers that are gone, the last to end first: those after `before` in that
    /// order (the last row's `ended_at` and name), or the first.
    pub async fn gone_workers(
        &self,
        before: Option<(Timestamp, WorkerName)>,
        limit: u32,
    ) -> anyhow::Result<Vec<Worker>> {
        self.read(move |connection| {
            let (ended_at, name) = match before {
                Some((ended_at, name)) => (columns::put(ended_at.0), name.0),
                None => (i64::MAX, String::new()),
            };
            let mut statement = connection.prepare_cached(
                "SELECT * FROM workers INDEXED BY workers_gone \
                 WHERE status = 'gone' AND (ended_at, name) < (?1, ?2) \
                 ORDER BY ended_at DESC, name DESC LIMIT ?3",
            )?;
            let rows = statement.query_map(params![ended_at, name, rows_max(limit)], from_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// One worker, gone or not.
    pub async fn worker(&self, name: WorkerName) -> anyhow::Result<Option<Worker>> {
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT * FROM workers WHERE name = ?1")?;
            Ok(statement.query_row([name.0], from_row).optional()?)
        })
        .await
    }
}

/// The workers that are not gone, by name.
pub(super) fn present(connection: &Connection) -> rusqlite::Result<Vec<Worker>> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM workers INDEXED BY workers_present WHERE status <> 'gone' ORDER BY name",
    )?;
    statement.query_map([], from_row)?.collect()
}

/// Writes a worker over the one before.
pub(super) fn write(connection: &Connection, worker: &Worker) -> rusqlite::Result<()> {
    let enrolment = EnrolmentColumns::of(&worker.enrolment);
    let mut statement = connection.prepare_cached(
        "INSERT INTO workers (name, pool, launch, instance, status, reason, enrolment, \
         password_expires_at, public_key, instance_claim, epoch, boot_id, bootstrapped, project, \
         jobs_given, attempt, attempt_fence, fate, created_at, idle_since, ended_at, \
         taken_at, notice, notice_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, \
         ?18, ?19, ?20, ?21, ?22, ?23, ?24) \
         ON CONFLICT (name) DO UPDATE SET pool = ?2, launch = ?3, instance = ?4, status = ?5, \
         reason = ?6, enrolment = ?7, password_expires_at = ?8, public_key = ?9, \
         instance_claim = ?10, epoch = ?11, boot_id = ?12, bootstrapped = ?13, project = ?14, \
         jobs_given = ?15, attempt = ?16, attempt_fence = ?17, fate = ?18, created_at = ?19, \
         idle_since = ?20, ended_at = ?21, taken_at = ?22, notice = ?23, notice_at = ?24",
    )?;
    statement.execute(params![
        worker.name.0,
        worker.pool.0,
        worker.launch.0,
        columns::put_opt(worker.instance.map(|instance| instance.0)),
        worker.status.as_str(),
        worker.reason,
        enrolment.word,
        enrolment.password_expires_at,
        enrolment.public_key,
        enrolment.instance_claim,
        enrolment.epoch,
        worker.boot_id,
        worker.bootstrapped,
        worker.project.as_ref().map(ProjectName::as_str),
        worker.jobs_given,
        columns::put_opt(worker.attempt.map(|at| at.attempt.0)),
        columns::put_opt(worker.attempt.map(|at| at.fence.0)),
        worker.fate.as_str(),
        columns::put(worker.created_at.0),
        columns::put_time_opt(worker.idle_since),
        columns::put_time_opt(worker.ended_at),
        columns::put_time_opt(worker.taken_at),
        worker.notice.as_ref().map(|(_, text)| text),
        columns::put_time_opt(worker.notice.as_ref().map(|(at, _)| *at)),
    ])?;
    Ok(())
}

/// The columns that hold an [`Enrolment`].
#[derive(Default)]
struct EnrolmentColumns<'a> {
    word: &'static str,
    password_expires_at: Option<i64>,
    public_key: Option<&'a [u8]>,
    instance_claim: Option<&'a str>,
    epoch: Option<i64>,
}

impl EnrolmentColumns<'_> {
    fn of(enrolment: &Enrolment) -> EnrolmentColumns<'_> {
        match enrolment {
            Enrolment::Unused { expires_at } => EnrolmentColumns {
                word: "unused",
                password_expires_at: columns::put_time_opt(*expires_at),
                ..EnrolmentColumns::default()
            },
            Enrolment::Bound { public_key, instance_claim, epoch } => EnrolmentColumns {
                word: "bound",
                public_key: Some(public_key),
                instance_claim: Some(instance_claim),
                epoch: Some(columns::put(*epoch)),
                ..EnrolmentColumns::default()
            },
            Enrolment::Alarmed => {
                EnrolmentColumns { word: "alarmed", ..EnrolmentColumns::default() }
            }
        }
    }
}

fn enrolment_from(row: &Row<'_>) -> rusqlite::Result<Enrolment> {
    let word: String = row.get("enrolment")?;
    match word.as_str() {
        "unused" => {
            Ok(Enrolment::Unused { expires_at: columns::time_opt(row, "password_expires_at")? })
        }
        "bound" => Ok(Enrolment::Bound {
            public_key: row.get("public_key")?,
            instance_claim: row.get("instance_claim")?,
            epoch: columns::number(row, "epoch")?,
        }),
        "alarmed" => Ok(Enrolment::Alarmed),
        other => {
            let why = format!("unknown enrolment {other}");
            Err(columns::unreadable(row, "enrolment", why.into()))
        }
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Worker> {
    let attempt = columns::number_opt(row, "attempt")?.map(AttemptId);
    let fence = columns::number_opt(row, "attempt_fence")?.map(Fence);
    Ok(Worker {
        name: WorkerName(row.get("name")?),
        pool: PoolName(row.get("pool")?),
        launch: LaunchId(row.get("launch")?),
        instance: columns::number_opt(row, "instance")?.map(InstanceId),
        status: columns::word(row, "status")?,
        reason: row.get("reason")?,
        enrolment: enrolment_from(row)?,
        boot_id: row.get("boot_id")?,
        bootstrapped: row.get("bootstrapped")?,
        project: row.get::<_, Option<String>>("project")?.map(ProjectName),
        jobs_given: row.get("jobs_given")?,
        attempt: attempt.zip(fence).map(|(attempt, fence)| AttemptRef { attempt, fence }),
        fate: columns::word(row, "fate")?,
        taken_at: columns::time_opt(row, "taken_at")?,
        notice: columns::time_opt(row, "notice_at")?.zip(row.get("notice")?),
        created_at: columns::time(row, "created_at")?,
        idle_since: columns::time_opt(row, "idle_since")?,
        ended_at: columns::time_opt(row, "ended_at")?,
    })
}
