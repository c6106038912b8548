//! The table `instance_runs`: the rows of an instance ↔ its [`InstanceRun`]s, in order.

use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::params;

use crate::master::domain::entities::Instance;
use crate::master::domain::entities::InstanceRun;
use crate::master::store::columns;
use crate::model::ids::InstanceId;

/// Writes all of them: they are few, as each is a start of a machine.
pub(super) fn write(connection: &Connection, instance: &Instance) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO instance_runs (instance, number, asked_at, started_at, ready_at, ended_at, \
         start) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
         ON CONFLICT (instance, number) DO UPDATE SET asked_at = ?3, started_at = ?4, \
         ready_at = ?5, ended_at = ?6, start = ?7",
    )?;
    for (number, run) in (1_u32..).zip(&instance.runs) {
        statement.execute(params![
            columns::put(instance.id.0),
            number,
            columns::put(run.asked_at.0),
            columns::put_time_opt(run.started_at),
            columns::put_time_opt(run.ready_at),
            columns::put_time_opt(run.ended_at),
            run.start,
        ])?;
    }
    Ok(())
}

/// Those of one instance, the launch first.
pub(super) fn of(
    connection: &Connection,
    instance: InstanceId,
) -> rusqlite::Result<Vec<InstanceRun>> {
    let mut statement = connection
        .prepare_cached("SELECT * FROM instance_runs WHERE instance = ?1 ORDER BY number")?;
    statement.query_map([columns::put(instance.0)], from_row)?.collect()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<InstanceRun> {
    Ok(InstanceRun {
        asked_at: columns::time(row, "asked_at")?,
        started_at: columns::time_opt(row, "started_at")?,
        ready_at: columns::time_opt(row, "ready_at")?,
        ended_at: columns::time_opt(row, "ended_at")?,
        start: row.get("start")?,
    })
}
