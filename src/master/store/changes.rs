//! The table `changes`: row ↔ [`Change`]. A row goes once its change has become a build.

use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::params;

use crate::master::domain::entities::Change;
use crate::master::store::columns;
use crate::model::ids::ChangeId;
use crate::model::ids::Commit;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;

/// Every change that has not become a build, oldest first.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Change>> {
    let mut statement = connection.prepare("SELECT * FROM changes ORDER BY id")?;
    statement.query_map([], from_row)?.collect()
}

/// Writes a change over the one before.
pub(super) fn write(connection: &Connection, change: &Change) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO changes (id, project, ref_name, commit_hash, seen_at) \
         VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (id) DO UPDATE SET project = ?2, ref_name = ?3, commit_hash = ?4, \
         seen_at = ?5",
    )?;
    statement.execute(params![
        columns::put(change.id.0),
        change.project.0,
        change.ref_name.0,
        change.commit.0,
        columns::put(change.seen_at.0),
    ])?;
    Ok(())
}

/// Forgets a change.
pub(super) fn remove(connection: &Connection, id: ChangeId) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM changes WHERE id = ?1")?
        .execute([columns::put(id.0)])?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Change> {
    Ok(Change {
        id: ChangeId(columns::number(row, "id")?),
        project: ProjectName(row.get("project")?),
        ref_name: RefName(row.get("ref_name")?),
        commit: Commit(row.get("commit_hash")?),
        seen_at: columns::time(row, "seen_at")?,
    })
}
