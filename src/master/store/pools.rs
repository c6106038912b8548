//! The table `pools`: row ↔ [`PoolState`].

use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::params;

use crate::master::domain::entities::PoolState;
use crate::master::store::Store;
use crate::model::ids::PoolName;

impl Store {
    /// What is remembered of pools, by name. A pool about which nothing is known is not there.
    pub async fn pools(&self) -> anyhow::Result<Vec<PoolState>> {
        self.read(|connection| Ok(all(connection)?)).await
    }
}

/// What is remembered of pools, by name.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<PoolState>> {
    let mut statement = connection.prepare_cached("SELECT * FROM pools ORDER BY name")?;
    statement.query_map([], from_row)?.collect()
}

/// Writes a pool over the one before.
pub(super) fn write(connection: &Connection, pool: &PoolState) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO pools (name, paused, failures) VALUES (?1, ?2, ?3) \
         ON CONFLICT (name) DO UPDATE SET paused = ?2, failures = ?3",
    )?;
    statement.execute(params![pool.name.0, pool.paused, pool.failures])?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<PoolState> {
    Ok(PoolState {
        name: PoolName(row.get("name")?),
        paused: row.get("paused")?,
        failures: row.get("failures")?,
    })
}
