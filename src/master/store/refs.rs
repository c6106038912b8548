//! The table `refs`: where each ref of each project was last seen.

use std::collections::BTreeMap;

use rusqlite::Connection;
use rusqlite::params;

use crate::master::store::Store;
use crate::model::ids::Commit;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;

impl Store {
    /// Where the refs of a project were last seen.
    pub async fn refs(&self, project: ProjectName) -> anyhow::Result<BTreeMap<RefName, Commit>> {
        self.read(move |connection| {
            let mut statement = connection
                .prepare_cached("SELECT name, commit_hash FROM refs WHERE project = ?1")?;
            let rows = statement
                .query_map([project.0], |row| Ok((RefName(row.get(0)?), Commit(row.get(1)?))))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// Every ref of every project.
pub(super) fn all(
    connection: &Connection,
) -> rusqlite::Result<BTreeMap<(ProjectName, RefName), Commit>> {
    let mut statement = connection.prepare("SELECT project, name, commit_hash FROM refs")?;
    let rows = statement.query_map([], |row| {
        Ok(((ProjectName(row.get(0)?), RefName(row.get(1)?)), Commit(row.get(2)?)))
    })?;
    rows.collect()
}

/// Writes where a ref was seen, or that it is gone.
pub(super) fn write(
    connection: &Connection,
    project: &ProjectName,
    name: &RefName,
    commit: Option<&Commit>,
) -> rusqlite::Result<()> {
    match commit {
        Some(commit) => connection
            .prepare_cached(
                "INSERT INTO refs (project, name, commit_hash) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (project, name) DO UPDATE SET commit_hash = ?3",
            )?
            .execute(params![project.0, name.0, commit.0])?,
        None => connection
            .prepare_cached("DELETE FROM refs WHERE project = ?1 AND name = ?2")?
            .execute(params![project.0, name.0])?,
    };
    Ok(())
}
