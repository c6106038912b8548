//! A project's page: its builds, by branch, and a form that starts one.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::Path;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::Deserialize;

use crate::master::domain::billing;
use crate::master::http::Web;
use crate::master::http::auth::Caller;
use crate::master::http::convert;
use crate::master::http::costs;
use crate::master::http::error::Problem;
use crate::master::http::links;
use crate::master::http::pages;
use crate::master::http::pages::Frame;
use crate::master::http::pages::build_row::BuildRow;
use crate::master::http::query;
use crate::master::store::builds::BuildFilter;
use crate::master::store::builds::BuildsOf;
use crate::model::ids::BuildId;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;

/// Builds on a page.
const BUILDS_MAX: u32 = 30;

/// Branches that are offered as filters, at most; any other is typed into the address.
const BRANCHES_MAX: usize = 12;

/// Builds that are looked at for the branches where something happens: a repository may have a thousand
/// others, and the first of the alphabet are nobody's.
const RECENT_MAX: u32 = 100;

#[derive(Template)]
#[template(path = "project.html")]
struct ProjectPage {
    frame: Frame,
    name: String,
    repo: String,
    trouble: Option<String>,
    cost_today: Option<String>,
    cost_this_month: Option<String>,
    href: String,
    branches: Vec<BranchChip>,
    branch: Option<String>,
    before: Option<u64>,
    builds: Vec<BuildRow>,
    newest_href: String,
    next_href: Option<String>,
}

struct BranchChip {
    name: String,
    href: String,
    current: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectQuery {
    branch: Option<String>,
    before: Option<u64>,
}

/// `GET /projects/PROJECT`
pub async fn show(
    State(web): State<Arc<Web>>,
    Extension(caller): Extension<Caller>,
    Path(project): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let asked: ProjectQuery = query::parse(&uri)?;
    let project = web.project(&project)?;
    let frame = Frame::new("home", caller, &web).watching(format!("{}/events", crate::api::PREFIX));
    let filter =
        BuildFilter { of: builds_of(&project.name, asked.branch.as_deref()), status: None };
    let builds = web.store.builds(filter, asked.before.map(BuildId), BUILDS_MAX).await?;
    let open: Vec<BuildId> =
        builds.iter().filter(|build| !build.status.is_final()).map(|build| build.id).collect();
    let jobs = web.store.jobs_of_many(open).await?;
    let href = links::project(&project.name);
    let newest_href = with_branch(&href, asked.branch.as_deref());
    let is_full = builds.len() == BUILDS_MAX as usize;
    let next_href = builds.last().filter(|_| is_full).map(|build| {
        let sign = if asked.branch.is_some() { '&' } else { '?' };
        format!("{newest_href}{sign}before={}", build.id)
    });
    let today = billing::day_of(frame.now);
    let month = billing::first_of_month(today);
    let days = web.store.project_days(project.name.clone(), month).await?;
    let page = ProjectPage {
        cost_today: costs::of_days(days.iter().filter(|day| day.day == today)).text(),
        cost_this_month: costs::of_days(days.iter()).text(),
        name: project.name.to_string(),
        repo: convert::shown_repo(&project.repo),
        trouble: (web.trouble)(&project.name),
        branches: branches(&web, &project.name, asked.branch.as_deref()).await?,
        branch: asked.branch,
        before: asked.before,
        builds: BuildRow::many(&builds, &jobs, false, frame.now),
        newest_href,
        next_href,
        href,
        frame,
    };
    pages::page(&page)
}

/// Branches of the repository: first those that were built lately, the newest in front; then others,
/// as long as there is room. The asked one is always among them.
async fn branches(
    web: &Web,
    project: &ProjectName,
    current: Option<&str>,
) -> Result<Vec<BranchChip>, Problem> {
    let refs = web.store.refs(project.clone()).await?;
    let filter = BuildFilter { of: builds_of(project, None), status: None };
    let recent = web.store.builds(filter, None, RECENT_MAX).await?;
    let built = recent.iter().map(|build| &build.ref_name).filter(|name| refs.contains_key(name));
    let mut names: Vec<String> = Vec::new();
    for name in built.chain(refs.keys()).filter_map(RefName::branch) {
        if names.len() < BRANCHES_MAX && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
        .extend(current.filter(|name| !names.iter().any(|known| known == name)).map(str::to_owned));
    let href = links::project(project);
    let chip = |name: String| BranchChip {
        href: with_branch(&href, Some(&name)),
        current: current == Some(name.as_str()),
        name,
    };
    Ok(names.into_iter().map(chip).collect())
}

/// The builds of a project, or of one of its branches.
pub fn builds_of(project: &ProjectName, branch: Option<&str>) -> BuildsOf {
    match branch {
        Some(branch) => BuildsOf::Ref(project.clone(), RefName(format!("refs/heads/{branch}"))),
        None => BuildsOf::Project(project.clone()),
    }
}

fn with_branch(href: &str, branch: Option<&str>) -> String {
    match branch {
        Some(branch) => format!("{href}?branch={}", links::encode(branch)),
        None => href.to_owned(),
    }
}
