//! The tables `counters` and `projects`: the highest ids and build numbers ever given.
//!
//! They are kept apart from the rows they count, so that removing old rows never frees a number.

use std::collections::BTreeMap;

use rusqlite::Connection;
use rusqlite::params;

use crate::master::domain::decision::Record;
use crate::master::domain::snapshot::LastIds;
use crate::master::store::columns;
use crate::model::ids::BuildNumber;
use crate::model::ids::ProjectName;

/// The highest ids and numbers given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Of each kind of thing.
    pub(super) ids: LastIds,
    /// Of each project's builds.
    pub(super) numbers: BTreeMap<ProjectName, BuildNumber>,
}

impl Counters {
    /// What the store has.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Counters> {
        let mut counters = Counters::default();
        let mut statement = connection.prepare("SELECT kind, last FROM counters")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let kind: String = row.get("kind")?;
            let last = columns::number(row, "last")?;
            let ids = &mut counters.ids;
            match kind.as_str() {
                "build" => ids.build = last,
                "job" => ids.job = last,
                "attempt" => ids.attempt = last,
                "instance" => ids.instance = last,
                "change" => ids.change = last,
                other => {
                    let why = format!("unknown counter {other}");
                    return Err(columns::unreadable(row, "kind", why.into()));
                }
            }
        }
        let mut statement =
            connection.prepare("SELECT name, last_number FROM projects WHERE last_number > 0")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let number = BuildNumber(columns::number(row, "last_number")?);
            counters.numbers.insert(ProjectName(row.get("name")?), number);
        }
        Ok(counters)
    }

    /// Takes note of the ids in a record.
    pub(super) fn note(&mut self, record: &Record) {
        let ids = &mut self.ids;
        match record {
            Record::Change(change) => ids.change = ids.change.max(change.id.0),
            Record::ChangeDone(change) => ids.change = ids.change.max(change.0),
            Record::Build(build) => {
                ids.build = ids.build.max(build.id.0);
                match self.numbers.get_mut(&build.project) {
                    Some(last) => *last = (*last).max(build.number),
                    None => {
                        self.numbers.insert(build.project.clone(), build.number);
                    }
                }
            }
            Record::Job(job) => ids.job = ids.job.max(job.id.0),
            Record::Attempt(attempt) => ids.attempt = ids.attempt.max(attempt.id.attempt.0),
            Record::Instance(instance) => ids.instance = ids.instance.max(instance.id.0),
            // These have names, or are told by another's id.
            Record::Ref(..)
            | Record::Baseline(_)
            | Record::Step(_)
            | Record::Worker(_)
            | Record::Pool(_)
            | Record::ProjectDay(_)
            | Record::BudgetTold(..)
            | Record::PoolForecast(_)
            | Record::JobTime(_)
            | Record::JobTimeForgotten(..) => {}
        }
    }

    /// Writes what has grown since `before`.
    pub(super) fn write_since(
        &self,
        before: &Counters,
        connection: &Connection,
    ) -> rusqlite::Result<()> {
        let (now, then) = (&self.ids, &before.ids);
        let kinds = [
            ("build", now.build, then.build),
            ("job", now.job, then.job),
            ("attempt", now.attempt, then.attempt),
            ("instance", now.instance, then.instance),
            ("change", now.change, then.change),
        ];
        for (kind, now, then) in kinds {
            if now != then {
                connection
                    .prepare_cached(
                        "INSERT INTO counters (kind, last) VALUES (?1, ?2) \
                         ON CONFLICT (kind) DO UPDATE SET last = ?2",
                    )?
                    .execute(params![kind, columns::put(now)])?;
            }
        }
        for (project, number) in &self.numbers {
            if before.numbers.get(project) != Some(number) {
                connection
                    .prepare_cached(
                        "INSERT INTO projects (name, last_number) VALUES (?1, ?2) \
                         ON CONFLICT (name) DO UPDATE SET last_number = ?2",
                    )?
                    .execute(params![project.0, columns::put(number.0)])?;
            }
        }
        Ok(())
    }
}

/// The projects that have a baseline.
pub(super) fn baselines(connection: &Connection) -> rusqlite::Result<Vec<ProjectName>> {
    let mut statement =
        connection.prepare("SELECT name FROM projects WHERE has_baseline = 1 ORDER BY name")?;
    statement.query_map([], |row| row.get(0).map(ProjectName))?.collect()
}

/// Writes that a project has a baseline.
pub(super) fn write_baseline(
    connection: &Connection,
    project: &ProjectName,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO projects (name, has_baseline) VALUES (?1, 1) \
             ON CONFLICT (name) DO UPDATE SET has_baseline = 1",
        )?
        .execute([&project.0])?;
    Ok(())
}
