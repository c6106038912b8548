//! The table `instances`, the ledger: row ↔ [`Instance`].

use std::path::Path;

use anyhow::Context;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::params;

use crate::master::domain::entities::Instance;
use crate::master::store::DATABASE_FILE;
use crate::master::store::Store;
use crate::master::store::columns;
use crate::master::store::instance_runs;
use crate::master::store::readers;
use crate::master::store::rows_max;
use crate::model::ids::CloudId;
use crate::model::ids::InstanceId;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::ids::WorkerName;
use crate::model::money::Money;
use crate::model::time::Timestamp;

/// The condition of the index `instances_present`, word for word; see `builds::ACTIVE`.
pub(super) const PRESENT: &str = "status NOT IN ('terminated', 'failed')";

impl Store {
    /// The rows that are not over, of a store that may be another process's; nothing where there is none.
    /// Blocks.
    ///
    /// # Errors
    /// It cannot be read, or has another schema.
    pub fn open_rows(data_dir: &Path) -> anyhow::Result<Vec<Instance>> {
        let path = data_dir.join(DATABASE_FILE);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let connection = readers::connect(&path)?;
        present(&connection).with_context(|| format!("read {}", path.display()))
    }

    /// The instances that are there or may come, oldest first.
    pub async fn active_instances(&self) -> anyhow::Result<Vec<Instance>> {
        self.read(|connection| Ok(present(connection)?)).await
    }

    /// A page of the ledger, newest first: what was launched before `before`, or the newest.
    pub async fn instances(
        &self,
        before: Option<InstanceId>,
        limit: u32,
    ) -> anyhow::Result<Vec<Instance>> {
        self.read(move |connection| {
            let before = before.map_or(i64::MAX, |before| columns::put(before.0));
            let mut statement = connection.prepare_cached(
                "SELECT * FROM instances WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
            )?;
            let rows = statement.query_map(params![before, rows_max(limit)], from_row)?;
            Ok(with_runs(connection, rows.collect::<Result<_, _>>()?)?)
        })
        .await
    }

    /// One row of the ledger.
    pub async fn instance(&self, id: InstanceId) -> anyhow::Result<Option<Instance>> {
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT * FROM instances WHERE id = ?1")?;
            let row = statement.query_row([columns::put(id.0)], from_row).optional()?;
            let row = row.map_or_else(Vec::new, |row| vec![row]);
            Ok(with_runs(connection, row)?.pop())
        })
        .await
    }
}

/// The instances that are there or may come, oldest first.
pub(super) fn present(connection: &Connection) -> rusqlite::Result<Vec<Instance>> {
    let sql =
        format!("SELECT * FROM instances INDEXED BY instances_present WHERE {PRESENT} ORDER BY id");
    let rows =
        connection.prepare_cached(&sql)?.query_map([], from_row)?.collect::<Result<_, _>>()?;
    with_runs(connection, rows)
}

fn with_runs(connection: &Connection, mut rows: Vec<Instance>) -> rusqlite::Result<Vec<Instance>> {
    for row in &mut rows {
        row.runs = instance_runs::of(connection, row.id)?;
    }
    Ok(rows)
}

/// The instances that have ended since then, in no order.
pub(super) fn ended_since(
    connection: &Connection,
    since: Timestamp,
) -> rusqlite::Result<Vec<Instance>> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM instances INDEXED BY instances_ended \
         WHERE ended_at IS NOT NULL AND ended_at >= ?1",
    )?;
    let rows = statement.query_map([columns::put(since.0)], from_row)?.collect::<Result<_, _>>()?;
    with_runs(connection, rows)
}

/// Writes a row of the ledger over the one before.
pub(super) fn write(connection: &Connection, instance: &Instance) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO instances (id, launch, pool, worker, status, cloud_id, why_started, \
         why_ended, requested_at, accepted_at, running_at, contact_at, ready_at, ending_at, \
         ended_at, candidate, what, request, price_per_hour, seat) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, \
         ?18, ?19, ?20) \
         ON CONFLICT (id) DO UPDATE SET launch = ?2, pool = ?3, worker = ?4, status = ?5, \
         cloud_id = ?6, why_started = ?7, why_ended = ?8, requested_at = ?9, accepted_at = ?10, \
         running_at = ?11, contact_at = ?12, ready_at = ?13, ending_at = ?14, ended_at = ?15, \
         candidate = ?16, what = ?17, request = ?18, price_per_hour = ?19, seat = ?20",
    )?;
    statement.execute(params![
        columns::put(instance.id.0),
        instance.launch.0,
        instance.pool.0,
        instance.worker.0,
        instance.status.as_str(),
        instance.cloud_id.as_ref().map(CloudId::as_str),
        instance.why_started,
        instance.why_ended,
        columns::put(instance.requested_at.0),
        columns::put_time_opt(instance.accepted_at),
        columns::put_time_opt(instance.running_at),
        columns::put_time_opt(instance.contact_at),
        columns::put_time_opt(instance.ready_at),
        columns::put_time_opt(instance.ending_at),
        columns::put_time_opt(instance.ended_at),
        instance.candidate,
        instance.what,
        instance.request,
        columns::put_opt(instance.price_per_hour.map(|price| price.0)),
        instance.seat,
    ])?;
    instance_runs::write(connection, instance)
}

/// Without its runs, which are rows of their own.
fn from_row(row: &Row<'_>) -> rusqlite::Result<Instance> {
    Ok(Instance {
        id: InstanceId(columns::number(row, "id")?),
        launch: LaunchId(row.get("launch")?),
        pool: PoolName(row.get("pool")?),
        worker: WorkerName(row.get("worker")?),
        status: columns::word(row, "status")?,
        candidate: row.get("candidate")?,
        seat: row.get("seat")?,
        what: row.get("what")?,
        request: row.get("request")?,
        price_per_hour: columns::number_opt(row, "price_per_hour")?.map(Money),
        cloud_id: row.get::<_, Option<String>>("cloud_id")?.map(CloudId),
        why_started: row.get("why_started")?,
        why_ended: row.get("why_ended")?,
        requested_at: columns::time(row, "requested_at")?,
        accepted_at: columns::time_opt(row, "accepted_at")?,
        running_at: columns::time_opt(row, "running_at")?,
        contact_at: columns::time_opt(row, "contact_at")?,
        ready_at: columns::time_opt(row, "ready_at")?,
        ending_at: columns::time_opt(row, "ending_at")?,
        ended_at: columns::time_opt(row, "ended_at")?,
        runs: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::status::InstanceStatus;

    #[test]
    fn the_present_instances_are_exactly_those_that_are_not_final() {
        for status in InstanceStatus::ALL {
            assert_eq!(PRESENT.contains(&format!("'{status}'")), status.is_final(), "{status}");
        }
    }
}
