//! The table `pools`: row ↔ [`PoolState`].

use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::params;

use crate::master::domain::entities::PoolState;
use crate::master::domain::entities::Resumes;
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
        "INSERT INTO pools (name, paused, failures, resumes) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (name) DO UPDATE SET paused = ?2, failures = ?3, resumes = ?4",
    )?;
    statement.execute(params![pool.name.0, pool.paused, pool.failures, word_of(pool.resumes)])?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<PoolState> {
    Ok(PoolState {
        name: PoolName(row.get("name")?),
        paused: row.get("paused")?,
        resumes: resumes(&row.get::<_, String>("resumes")?),
        failures: row.get("failures")?,
    })
}

fn word_of(resumes: Resumes) -> &'static str {
    match resumes {
        Resumes::WhenAsked => "when asked",
        Resumes::WhenPermitted => "when permitted",
        Resumes::WhenListed => "when listed",
        Resumes::WhenConfirmed => "when confirmed",
    }
}

/// A word that we do not know is one that only a person ends.
fn resumes(word: &str) -> Resumes {
    let all = [Resumes::WhenPermitted, Resumes::WhenListed, Resumes::WhenConfirmed];
    all.into_iter().find(|resumes| word_of(*resumes) == word).unwrap_or_default()
}
