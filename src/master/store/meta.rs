//! The table `meta`: small facts of the master itself, by key.

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::params;

use crate::master::store::Store;

impl Store {
    /// What is kept under `key`.
    pub async fn meta(&self, key: &'static str) -> anyhow::Result<Option<String>> {
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
            Ok(statement.query_row([key], |row| row.get(0)).optional()?)
        })
        .await
    }
}

/// Keeps `value` under `key`, over the one before.
pub(super) fn write(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO meta (key, value) VALUES (?1, ?2) \
             ON CONFLICT (key) DO UPDATE SET value = ?2",
        )?
        .execute(params![key, value])?;
    Ok(())
}
