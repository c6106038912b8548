//! The ledger: a page of it, and one row's life.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::Path;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::Deserialize;

use crate::master::domain::entities::Instance;
use crate::master::http::Web;
use crate::master::http::auth::Caller;
use crate::master::http::costs;
use crate::master::http::error::Problem;
use crate::master::http::links;
use crate::master::http::pages;
use crate::master::http::pages::Frame;
use crate::master::http::pages::Moment;
use crate::master::http::pages::Took;
use crate::master::http::pages::picture::Picture;
use crate::master::http::query;
use crate::master::http::timeline;
use crate::model::ids::InstanceId;
use crate::model::status::InstanceStatus;
use crate::model::time::Timestamp;

/// Rows on a page.
const ROWS: u32 = 40;

/// Jobs of one instance that are drawn, at most.
pub const JOBS_MAX: u32 = 200;

#[derive(Template)]
#[template(path = "instances.html")]
struct InstancesPage {
    frame: Frame,
    instances: Vec<InstanceView>,
    next: Option<u64>,
}

#[derive(Template)]
#[template(path = "instance.html")]
struct InstancePage {
    frame: Frame,
    i: InstanceView,
    cloud_id: Option<String>,
    what: Option<String>,
    price: Option<String>,
}

/// What both pages show of a row.
struct InstanceView {
    id: u64,
    href: String,
    status: &'static str,
    sign: &'static str,
    pool: String,
    worker: String,
    worker_href: String,
    why_started: String,
    why_ended: Option<String>,
    requested: Moment,
    took: Took,
    cost: Option<String>,
    picture: Picture,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct InstancesQuery {
    before: Option<u64>,
}

/// `GET /instances`
pub async fn list(
    State(web): State<Arc<Web>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Problem> {
    let asked: InstancesQuery = query::parse(&uri)?;
    let frame =
        Frame::new("instances", caller, &web).watching(format!("{}/events", crate::api::PREFIX));
    let rows = web.store.instances(asked.before.map(InstanceId), ROWS).await?;
    let next = rows.last().filter(|_| rows.len() == ROWS as usize).map(|last| last.id.0);
    let workers = rows.iter().map(|row| row.worker.clone()).collect();
    let work = web.store.work_of(workers, JOBS_MAX, false).await?;
    let shown = |row: &Instance| {
        let work = work.get(&row.worker).map_or(&[][..], Vec::as_slice);
        view(&web, row, Picture::small(row, work, frame.now), frame.now)
    };
    let instances = rows.iter().map(shown).collect();
    pages::page(&InstancesPage { frame, instances, next })
}

/// `GET /instances/ID`
pub async fn show(
    State(web): State<Arc<Web>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let no_such = || Problem::not_found(format!("the ledger has no instance {id}"));
    let number = id.parse().map_err(|_| no_such())?;
    let instance = web.store.instance(InstanceId(number)).await?.ok_or_else(no_such)?;
    let frame =
        Frame::new("instances", caller, &web).watching(format!("{}/events", crate::api::PREFIX));
    let picture = picture(&web, &instance, frame.now).await?;
    let price = instance.price_per_hour.map(|price| format!("${}", price.decimal()));
    let page = InstancePage {
        i: view(&web, &instance, picture, frame.now),
        cloud_id: instance.cloud_id.as_ref().map(ToString::to_string),
        what: instance.what.clone(),
        price,
        frame,
    };
    pages::page(&page)
}

/// The picture of an instance's life, for a page of its own.
pub async fn picture(web: &Web, instance: &Instance, now: Timestamp) -> Result<Picture, Problem> {
    let work = web.store.work_of(vec![instance.worker.clone()], JOBS_MAX, true).await?;
    let work = work.get(&instance.worker).map_or(&[][..], Vec::as_slice);
    Ok(Picture::large(instance, work, now))
}

fn view(web: &Web, instance: &Instance, picture: Picture, now: Timestamp) -> InstanceView {
    InstanceView {
        id: instance.id.0,
        href: format!("/instances/{}", instance.id),
        status: instance.status.as_str(),
        sign: sign(instance.status),
        pool: instance.pool.to_string(),
        worker: instance.worker.to_string(),
        worker_href: links::worker(instance.worker.as_str()),
        why_started: instance.why_started.clone(),
        why_ended: instance.why_ended.clone(),
        requested: Moment::new(instance.requested_at, now),
        took: Took::between(Some(instance.requested_at), timeline::end(instance), now),
        cost: costs::of_instance(&web.config, instance, now).text(),
        picture,
    }
}

/// The class of its sign: what is up does not turn like what is under way.
fn sign(status: InstanceStatus) -> &'static str {
    match status {
        InstanceStatus::Running => "idle",
        InstanceStatus::Requested
        | InstanceStatus::Pending
        | InstanceStatus::Stopping
        | InstanceStatus::Stopped
        | InstanceStatus::Terminating
        | InstanceStatus::Terminated
        | InstanceStatus::Failed => status.as_str(),
    }
}
