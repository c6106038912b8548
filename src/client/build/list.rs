//! `busybee build list`

use crate::api::build::Build;
use crate::api::build::BuildList;
use crate::api::build::BuildQuery;
use crate::client::answer;
use crate::client::arguments::build::ListArguments;
use crate::client::connection::Connection;
use crate::client::document::Document;
use crate::client::exit::Exit;
use crate::client::exit::Failure;
use crate::client::moment;
use crate::client::screen::Screen;
use crate::client::table::Cell;
use crate::client::table::Table;

/// How many builds one question brings at most: the API's own limit.
const PAGE_BUILDS_MAX: usize = 100;

/// Lists builds, newest first.
///
/// # Errors
/// There is no such project, or the master cannot be reached.
pub async fn run(
    connection: &Connection,
    arguments: ListArguments,
    json: bool,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let document = pages(connection, arguments.project.as_deref(), limit).await?;
    if json {
        screen.line(&document.text())?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["BUILD", "STATUS", "REF", "COMMIT", "TOOK", "CREATED", "SUBJECT"]);
    for build in document.read::<BuildList>()?.builds {
        table.row(vec![
            Cell::plain(format!("{}/{}", build.project, build.number)),
            Cell::status(&build.status),
            Cell::plain(short_ref(&build)),
            Cell::plain(short_commit(&build.commit)),
            Cell::or_dash(took(&build).as_deref()),
            Cell::plain(screen.moment(&build.created_at)),
            Cell::plain(&build.subject),
        ]);
    }
    answer::table(screen, &table, "no builds yet; `busybee build start PROJECT` starts one")
}

/// As many pages as are needed, as one document.
async fn pages(
    connection: &Connection,
    project: Option<&str>,
    limit: usize,
) -> Result<Document, Failure> {
    let path: &[&str] = match &project {
        Some(project) => &["projects", project, "builds"],
        None => &["builds"],
    };
    let query = |before, have: usize| BuildQuery {
        branch: None,
        before,
        limit: u32::try_from((limit - have).min(PAGE_BUILDS_MAX)).ok(),
    };
    let mut all = connection.get(path, &query(None, 0)).await?;
    loop {
        let have = all.items("builds");
        let Some(before) = all.next_page().filter(|_| have < limit) else { return Ok(all) };
        let page = connection.get(path, &query(Some(before), have)).await?;
        if page.items("builds") == 0 {
            return Ok(all);
        }
        all.append("builds", page);
    }
}

/// `main`, or `v1` for a tag.
pub fn short_ref(build: &Build) -> String {
    let short = build.ref_name.strip_prefix("refs/tags/").unwrap_or(&build.ref_name);
    build.branch.as_deref().unwrap_or(short).to_owned()
}

/// The first twelve characters: enough to tell commits apart.
pub fn short_commit(commit: &str) -> String {
    commit.chars().take(12).collect()
}

/// How long a build took, once it has ended.
pub fn took(build: &Build) -> Option<String> {
    between(build.started_at.as_deref(), build.finished_at.as_deref())
}

/// How long it was from one moment to another.
pub fn between(from: Option<&str>, to: Option<&str>) -> Option<String> {
    Some(moment::duration(moment::parse(to?)?.since(moment::parse(from?)?)))
}
