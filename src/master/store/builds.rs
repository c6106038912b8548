//! The table `builds`: row ↔ [`Build`], and the ways to list them.

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::ToSql;
use rusqlite::params;

use crate::master::domain::entities::Build;
use crate::master::domain::pipeline::ChangeEvent;
use crate::master::domain::pipeline::Concurrency;
use crate::master::store::Store;
use crate::master::store::columns;
use crate::master::store::concurrency;
use crate::master::store::rows_max;
use crate::model::ids::BuildId;
use crate::model::ids::BuildNumber;
use crate::model::ids::Commit;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;
use crate::model::status::BuildStatus;

/// The condition of the index `builds_active`, word for word: SQLite compares the text's meaning
/// term by term and uses the index only so. A test holds it to `BuildStatus::is_final`.
pub(super) const ACTIVE: &str = "builds.status IN ('queued', 'running')";

/// Which builds to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildFilter {
    /// Whose.
    pub of: BuildsOf,
    /// Where they stand; nothing: anywhere.
    pub status: Option<BuildStatus>,
}

/// Whose builds to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BuildsOf {
    /// Every project's.
    #[default]
    Everyone,
    /// One project's.
    Project(ProjectName),
    /// Those of one branch or tag of a project.
    Ref(ProjectName, RefName),
}

impl Store {
    /// A page of builds, newest first: those older than `before`, or the newest.
    pub async fn builds(
        &self,
        filter: BuildFilter,
        before: Option<BuildId>,
        limit: u32,
    ) -> anyhow::Result<Vec<Build>> {
        self.read(move |connection| {
            let (sql, mut values) = list_sql(&filter, before);
            let limit = rows_max(limit);
            values.push(&limit);
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(values.as_slice(), from_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The builds that are not over, newest first.
    pub async fn active_builds(&self, limit: u32) -> anyhow::Result<Vec<Build>> {
        self.read(move |connection| {
            let sql = format!(
                "SELECT * FROM builds INDEXED BY builds_active WHERE {ACTIVE} \
                 ORDER BY id DESC LIMIT ?1"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([rows_max(limit)], from_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// One build, by what people call it.
    pub async fn build(
        &self,
        project: ProjectName,
        number: BuildNumber,
    ) -> anyhow::Result<Option<Build>> {
        self.read(move |connection| Ok(find(connection, &project, number)?)).await
    }

    /// The newest build of each project that has one, by the project's name.
    pub async fn latest_builds(&self) -> anyhow::Result<Vec<Build>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT builds.* FROM projects CROSS JOIN builds \
                 ON builds.project = projects.name AND builds.number = projects.last_number \
                 ORDER BY projects.name",
            )?;
            let rows = statement.query_map([], from_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// The query for a page of `filter`, without the value of its limit.
fn list_sql(filter: &BuildFilter, before: Option<BuildId>) -> (String, Vec<&dyn ToSql>) {
    let mut values: Vec<&dyn ToSql> = Vec::new();
    let mut terms = Vec::new();
    match &filter.of {
        BuildsOf::Everyone => {}
        BuildsOf::Project(project) => {
            terms.push("project = ?".to_owned());
            values.push(&project.0);
        }
        BuildsOf::Ref(project, ref_name) => {
            terms.push("project = ? AND ref_name = ?".to_owned());
            values.push(&project.0);
            values.push(&ref_name.0);
        }
    }
    // What comes from closed sets stands in the text: it cannot do harm there, and lives longer
    // than this function.
    terms.extend(filter.status.map(|status| format!("status = '{status}'")));
    terms.extend(before.map(|before| format!("id < {}", columns::put(before.0))));
    let condition = match terms.is_empty() {
        true => String::new(),
        false => format!("WHERE {} ", terms.join(" AND ")),
    };
    (format!("SELECT * FROM builds {condition}ORDER BY id DESC LIMIT ?"), values)
}

/// One build, by what people call it.
pub(super) fn find(
    connection: &Connection,
    project: &ProjectName,
    number: BuildNumber,
) -> rusqlite::Result<Option<Build>> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM builds WHERE project = ?1 AND number = ?2")?;
    statement.query_row(params![project.0, columns::put(number.0)], from_row).optional()
}

/// Every build that is not over, oldest first.
pub(super) fn all_active(connection: &Connection) -> rusqlite::Result<Vec<Build>> {
    let sql = format!("SELECT * FROM builds INDEXED BY builds_active WHERE {ACTIVE} ORDER BY id");
    connection.prepare(&sql)?.query_map([], from_row)?.collect()
}

/// Writes a build over the one before.
pub(super) fn write(connection: &Connection, build: &Build) -> anyhow::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO builds (id, project, number, status, reason, event, ref_name, commit_hash, \
         subject, author, pipeline_name, created_at, started_at, finished_at, inputs, \
         concurrency, has_turn) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) \
         ON CONFLICT (id) DO UPDATE SET status = ?4, reason = ?5, event = ?6, ref_name = ?7, \
         commit_hash = ?8, subject = ?9, author = ?10, pipeline_name = ?11, created_at = ?12, \
         started_at = ?13, finished_at = ?14, inputs = ?15, concurrency = ?16, has_turn = ?17",
    )?;
    statement.execute(params![
        columns::put(build.id.0),
        build.project.0,
        columns::put(build.number.0),
        build.status.as_str(),
        build.reason,
        build.event.as_str(),
        build.ref_name.0,
        build.commit.0,
        build.subject,
        build.author,
        build.pipeline_name,
        columns::put(build.created_at.0),
        columns::put_time_opt(build.started_at),
        columns::put_time_opt(build.finished_at),
        columns::put_texts(&build.inputs),
        build.concurrency.as_ref().map(concurrency::to_json).transpose()?,
        build.has_turn,
    ])?;
    Ok(())
}

/// The build that a row of `builds` holds.
pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Build> {
    Ok(Build {
        id: BuildId(columns::number(row, "id")?),
        project: ProjectName(row.get("project")?),
        number: BuildNumber(columns::number(row, "number")?),
        status: columns::word(row, "status")?,
        reason: row.get("reason")?,
        event: event_from(row)?,
        ref_name: RefName(row.get("ref_name")?),
        commit: Commit(row.get("commit_hash")?),
        subject: row.get("subject")?,
        author: row.get("author")?,
        pipeline_name: row.get("pipeline_name")?,
        created_at: columns::time(row, "created_at")?,
        started_at: columns::time_opt(row, "started_at")?,
        finished_at: columns::time_opt(row, "finished_at")?,
        inputs: columns::texts(row, "inputs")?,
        concurrency: concurrency_from(row)?,
        has_turn: row.get("has_turn")?,
    })
}

fn concurrency_from(row: &Row<'_>) -> rusqlite::Result<Option<Concurrency>> {
    let json: Option<String> = row.get("concurrency")?;
    let read = |json: String| {
        concurrency::from_json(&json)
            .map_err(|error| columns::unreadable(row, "concurrency", error.into()))
    };
    json.map(read).transpose()
}

fn event_from(row: &Row<'_>) -> rusqlite::Result<ChangeEvent> {
    let word: String = row.get("event")?;
    [ChangeEvent::Push, ChangeEvent::Manual]
        .into_iter()
        .find(|event| event.as_str() == word)
        .ok_or_else(|| columns::unreadable(row, "event", format!("unknown event {word}").into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_active_builds_are_exactly_those_that_are_not_final() {
        for status in BuildStatus::ALL {
            assert_eq!(ACTIVE.contains(&format!("'{status}'")), !status.is_final(), "{status}");
        }
    }

    /// No page may look at more rows than it shows, nor sort: then a million builds cost nothing.
    #[test]
    fn every_way_to_list_builds_walks_an_index_and_sorts_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        let migrations = crate::master::store::migrate::MIGRATIONS;
        let path = std::path::Path::new(":memory:");
        crate::master::store::migrate::migrate(&mut connection, path, migrations).unwrap();
        let project = ProjectName::from("hello");
        let all = [
            BuildsOf::Everyone,
            BuildsOf::Project(project.clone()),
            BuildsOf::Ref(project, RefName::from("refs/heads/main")),
        ];
        for of in all {
            for status in [None, Some(BuildStatus::Failed)] {
                for before in [None, Some(BuildId(7))] {
                    let everything = of == BuildsOf::Everyone && status.is_none();
                    let filter = BuildFilter { of: of.clone(), status };
                    let (sql, mut values) = list_sql(&filter, before);
                    values.push(&1);
                    let mut plan =
                        connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
                    let steps: Vec<String> = plan
                        .query_map(values.as_slice(), |row| row.get("detail"))
                        .unwrap()
                        .collect::<Result<_, _>>()
                        .unwrap();
                    let plan = steps.join("; ");
                    assert!(!plan.contains("TEMP B-TREE"), "{sql}: {plan}");
                    // The newest of all come straight from the table's end.
                    assert!(plan.contains("SEARCH") || everything, "{sql}: {plan}");
                    let terms = sql.matches(" = ").count();
                    let used = plan.matches("=?").count();
                    assert_eq!(used, terms, "{sql}: {plan}");
                }
            }
        }
    }
}
