//! Workers: who is alive and at what, who is gone; one worker with its boot log.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::Path;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::Deserialize;

use crate::master::domain::entities::Enrolment;
use crate::master::domain::entities::Worker;
use crate::master::http::Web;
use crate::master::http::auth::Caller;
use crate::master::http::convert;
use crate::master::http::error::Problem;
use crate::master::http::links;
use crate::master::http::log_tail::Source;
use crate::master::http::pages;
use crate::master::http::pages::Frame;
use crate::master::http::pages::Link;
use crate::master::http::pages::Moment;
use crate::master::http::pages::build;
use crate::master::http::pages::instances;
use crate::master::http::pages::panel;
use crate::master::http::pages::panel::Panel;
use crate::master::http::pages::picture::Picture;
use crate::master::http::query;
use crate::master::http::words;
use crate::model::ids::WorkerName;
use crate::model::status::WorkerFate;
use crate::model::status::WorkerStatus;
use crate::model::time::Timestamp;

/// Workers in a list that are gone, at most: the ledger has all machines.
const GONE_MAX: u32 = 30;

#[derive(Template)]
#[template(path = "workers.html")]
struct WorkersPage {
    frame: Frame,
    workers: Vec<WorkerView>,
    gone: Vec<WorkerView>,
}

#[derive(Template)]
#[template(path = "worker.html")]
struct WorkerPage {
    frame: Frame,
    w: WorkerView,
    is_gone: bool,
    draining: bool,
    notice: Option<Notice>,
    instance: Option<u64>,
    picture: Option<Picture>,
    enrolment: &'static str,
    created: Moment,
    ended: Option<Moment>,
    panel: Option<Panel>,
}

/// What its agent had to say of the machine.
struct Notice {
    at: Moment,
    text: String,
}

struct WorkerView {
    name: String,
    href: String,
    status: &'static str,
    pool: String,
    work: Option<Link>,
    project: Option<String>,
    jobs: String,
    reason: Option<String>,
    idle_until: Option<Until>,
    changed: Moment,
}

/// When an idle worker ends if no job comes.
struct Until {
    at: u64,
    text: String,
}

/// From which line of the boot log on.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkerQuery {
    from: Option<u64>,
}

/// `GET /workers`
pub async fn list(
    State(web): State<Arc<Web>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    let frame =
        Frame::new("workers", caller, &web).watching(format!("{}/events", crate::api::PREFIX));
    let work = build::work_of_workers(&web).await?;
    let show = |worker: &Worker| view(&web, worker, &work, frame.now);
    let workers = web.store.workers().await?;
    let gone = web.store.gone_workers(None, GONE_MAX).await?;
    let page = WorkersPage {
        workers: workers.iter().map(show).collect(),
        gone: gone.iter().map(show).collect(),
        frame,
    };
    pages::page(&page)
}

/// `GET /workers/NAME`
pub async fn show(
    State(web): State<Arc<Web>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let asked: WorkerQuery = query::parse(&uri)?;
    let name = WorkerName(name);
    let worker = web.store.worker(name.clone()).await?;
    let worker = worker.ok_or_else(|| Problem::not_found(format!("there is no worker {name}")))?;
    let work = build::work_of_workers(&web).await?;
    let is_gone = worker.status == WorkerStatus::Gone;
    let mut frame = Frame::new("workers", caller, &web);
    if !is_gone {
        frame = frame.watching(format!("{}/events", crate::api::PREFIX));
    }
    let row = match worker.instance {
        Some(instance) => web.store.instance(instance).await?,
        None => None,
    };
    let picture = match row {
        Some(row) => Some(instances::picture(&web, &row, frame.now).await?),
        None => None,
    };
    let page = WorkerPage {
        picture,
        w: view(&web, &worker, &work, frame.now),
        is_gone,
        draining: !matches!(worker.fate, WorkerFate::Serves | WorkerFate::Rests),
        notice: worker
            .notice
            .as_ref()
            .map(|(at, text)| Notice { at: Moment::new(*at, frame.now), text: text.clone() }),
        instance: worker.instance.map(|instance| instance.0),
        enrolment: enrolment(&worker.enrolment),
        created: Moment::new(worker.created_at, frame.now),
        ended: worker.ended_at.map(|at| Moment::new(at, frame.now)),
        panel: Some(boot_panel(&web, &name, asked.from).await?),
        frame,
    };
    pages::page(&page)
}

async fn boot_panel(web: &Web, name: &WorkerName, from: Option<u64>) -> Result<Panel, Problem> {
    let page = links::worker(name.as_str());
    let wanted = panel::Wanted {
        source: Source::Boot(name.clone()),
        title: "bootstrap script".into(),
        reason: None,
        prefix: "boot:0:".into(),
        href: format!("{page}?"),
        raw_href: format!("{}{page}/log", crate::api::PREFIX),
        stream_href: format!("{page}/lines?"),
        from,
        is_incomplete: false,
    };
    panel::read(web, wanted).await
}

fn view(web: &Web, worker: &Worker, work: &BTreeMap<String, Link>, now: Timestamp) -> WorkerView {
    let until = convert::idle_until(&web.config, worker);
    let jobs = match worker.jobs_given {
        0 => "no job yet".into(),
        1 => "1 job".into(),
        jobs => format!("{jobs} jobs"),
    };
    WorkerView {
        name: worker.name.to_string(),
        href: links::worker(worker.name.as_str()),
        status: worker.status.as_str(),
        pool: worker.pool.to_string(),
        work: work.get(worker.name.as_str()).cloned(),
        project: worker.project.as_ref().map(ToString::to_string),
        jobs,
        reason: worker.reason.clone(),
        idle_until: until.map(|at| Until { at: at.0, text: words::duration(at.since(now)) }),
        changed: Moment::new(worker.ended_at.unwrap_or(worker.created_at), now),
    }
}

fn enrolment(enrolment: &Enrolment) -> &'static str {
    match enrolment {
        Enrolment::Unused { .. } => "has not called yet",
        Enrolment::Bound { .. } => "bound to its key",
        Enrolment::Alarmed => "shut out: two keys came with a valid proof",
    }
}
