//! The home page: what runs, what waits and why, what has finished, projects and pools.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::Deserialize;

use crate::api::fleet::LookAhead;
use crate::master::domain::entities::Build;
use crate::master::http::Web;
use crate::master::http::api::fleet;
use crate::master::http::auth::Caller;
use crate::master::http::convert;
use crate::master::http::error::Problem;
use crate::master::http::links;
use crate::master::http::pages;
use crate::master::http::pages::Frame;
use crate::master::http::pages::build_row::BuildRow;
use crate::master::http::query;
use crate::master::store::builds::BuildFilter;
use crate::master::store::builds::BuildsOf;
use crate::model::ids::BuildId;
use crate::model::money::Money;
use crate::model::status::BuildStatus;

/// Builds under "Now", at most: the page stays light when a thousand wait.
const NOW_MAX: usize = 15;

/// Builds that are looked at for it, at most.
const ACTIVE_MAX: u32 = 200;

/// Finished builds on a page.
const RECENT_MAX: u32 = 20;

/// Projects with a picture of their last builds, at most; it costs a query for each.
const PICTURES_MAX: usize = 12;

/// Builds in such a picture.
const BARS: u32 = 20;

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    frame: Frame,
    now: Vec<BuildRow>,
    now_more: usize,
    recent: Vec<BuildRow>,
    next: Option<u64>,
    projects: Vec<ProjectTile>,
    pools: Vec<PoolTile>,
}

struct ProjectTile {
    name: String,
    repo: String,
    href: String,
    status: Option<&'static str>,
    /// Its repository gave no answer when it was last asked.
    is_silent: bool,
    bars: Vec<Bar>,
}

/// One build in a project's picture.
struct Bar {
    number: u64,
    status: &'static str,
    x: u32,
    y: u64,
    height: u64,
}

struct PoolTile {
    name: String,
    href: String,
    labels: Vec<String>,
    provisioner: String,
    paused: Option<String>,
    budget_hold: Option<String>,
    today: Option<String>,
    workers: u32,
    limit: u32,
    busy: u32,
    idle: u32,
    min_idle: u32,
    looked_ahead: Option<String>,
    busy_percent: u32,
    idle_percent: u32,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HomeQuery {
    before: Option<u64>,
}

/// `GET /`
pub async fn show(
    State(web): State<Arc<Web>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Problem> {
    let asked: HomeQuery = query::parse(&uri)?;
    let frame = Frame::new("home", caller, &web).watching(format!("{}/events", crate::api::PREFIX));
    let mut active = web.store.active_builds(ACTIVE_MAX).await?;
    // What runs, then what waits, each in the order of coming.
    active.sort_by_key(|build| (build.status == BuildStatus::Queued, build.id));
    let now_more = active.len().saturating_sub(NOW_MAX);
    active.truncate(NOW_MAX);
    let (recent, next) = finished(&web, asked.before).await?;
    let ids: Vec<BuildId> = active.iter().map(|build| build.id).collect();
    let jobs = web.store.jobs_of_many(ids).await?;
    let page = HomePage {
        now: BuildRow::many(&active, &jobs, true, frame.now),
        now_more,
        recent: BuildRow::many(&recent, &[], true, frame.now),
        next,
        projects: project_tiles(&web).await?,
        pools: pool_tiles(&web).await?,
        frame,
    };
    pages::page(&page)
}

/// The newest finished builds, and where the page after them begins.
async fn finished(web: &Web, before: Option<u64>) -> Result<(Vec<Build>, Option<u64>), Problem> {
    let before = before.map(BuildId);
    let builds = web.store.builds(BuildFilter::default(), before, RECENT_MAX).await?;
    let is_full = builds.len() == RECENT_MAX as usize;
    let next = builds.last().filter(|_| is_full).map(|build| build.id.0);
    Ok((builds.into_iter().filter(|build| build.status.is_final()).collect(), next))
}

async fn project_tiles(web: &Web) -> Result<Vec<ProjectTile>, Problem> {
    let mut tiles = Vec::new();
    for (index, project) in web.config.projects.iter().enumerate() {
        let wanted = if index < PICTURES_MAX { BARS } else { 1 };
        let of = BuildsOf::Project(project.name.clone());
        let builds = web.store.builds(BuildFilter { of, status: None }, None, wanted).await?;
        tiles.push(ProjectTile {
            name: project.name.to_string(),
            repo: convert::shown_repo(&project.repo),
            href: links::project(&project.name),
            status: builds.first().map(|build| build.status.as_str()),
            is_silent: (web.trouble)(&project.name).is_some(),
            bars: if wanted > 1 { bars(&builds) } else { Vec::new() },
        });
    }
    Ok(tiles)
}

/// The last builds, oldest to the left, as high as they took long.
fn bars(builds: &[Build]) -> Vec<Bar> {
    const HEIGHT: u64 = 30;
    const HEIGHT_MIN: u64 = 5;
    let took_ms = |build: &Build| match (build.started_at, build.finished_at) {
        (Some(from), Some(until)) => u64::try_from(until.since(from).as_millis()).unwrap_or(0),
        _ => 0,
    };
    let longest_ms = builds.iter().map(took_ms).max().unwrap_or(0).max(1);
    let bar = |(x, build): (u32, &Build)| {
        let height = HEIGHT_MIN + (HEIGHT - HEIGHT_MIN) * took_ms(build) / longest_ms;
        Bar {
            number: build.number.0,
            status: build.status.as_str(),
            x: x * 10,
            y: HEIGHT - height,
            height,
        }
    };
    (0u32..).zip(builds.iter().rev()).map(bar).collect()
}

async fn pool_tiles(web: &Web) -> Result<Vec<PoolTile>, Problem> {
    let states = web.store.pools().await?;
    let forecasts = web.store.pool_forecasts().await?;
    let alive = web.store.workers().await?;
    let spent = fleet::spent_today(web).await?;
    let tile = |view: &crate::master::http::PoolView| {
        let state = states.iter().find(|state| state.name == view.name);
        let forecast = forecasts.iter().find(|forecast| forecast.name == view.name);
        let pool = convert::pool(&web.config, view, (state, forecast), &alive, &spent);
        let today = spent.pool(&view.name).text();
        let today = today.or_else(|| view.daily_budget.map(|_| Money::ZERO.to_string()));
        let today = match view.daily_budget {
            Some(budget) => today.map(|spent| format!("{spent} of {budget}")),
            None => today,
        };
        let busy = pool.workers.saturating_sub(pool.idle);
        let limit = pool.max_instances.max(pool.workers);
        let percent = |part: u32| part * 100 / limit.max(1);
        PoolTile {
            href: format!("/pools/{}", links::encode(&pool.name)),
            busy_percent: percent(busy),
            idle_percent: percent(pool.idle),
            name: pool.name,
            labels: pool.labels,
            provisioner: pool.provisioner,
            paused: pool.reason,
            budget_hold: pool.budget_hold,
            today,
            workers: pool.workers,
            idle: pool.idle,
            min_idle: pool.min_idle,
            looked_ahead: pool.look_ahead.as_ref().map(looked_ahead),
            limit,
            busy,
        }
    };
    Ok(web.config.pools.iter().map(tile).collect())
}

/// What came of looking ahead, in words.
fn looked_ahead(of: &LookAhead) -> String {
    let LookAhead { hits, misses, open } = of;
    match hits + misses {
        0 if *open == 0 => "looks ahead: nothing was started early yet".to_owned(),
        0 => format!("looks ahead: {open} started early"),
        known => format!("looks ahead: {hits} of {known} started early were needed"),
    }
}
