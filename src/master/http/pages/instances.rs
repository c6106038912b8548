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
use crate::master::http::error::Problem;
use crate::master::http::links;
use crate::master::http::pages;
use crate::master::http::pages::Frame;
use crate::master::http::pages::Moment;
use crate::master::http::pages::Took;
use crate::master::http::query;
use crate::master::http::words;
use crate::model::ids::InstanceId;
use crate::model::status::InstanceStatus;
use crate::model::time::Timestamp;

/// Rows on a page.
const ROWS: u32 = 40;

/// Width of the picture of an instance's life, in its own units.
const WIDTH: u128 = 1000;

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
    life: Vec<Turn>,
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
    spans: Vec<Span>,
    spans_text: String,
}

/// A stretch of an instance's life in its picture.
struct Span {
    class: &'static str,
    x: u128,
    width: u128,
    title: String,
}

/// A turn in an instance's life, in words.
struct Turn {
    word: &'static str,
    machine: String,
    full: String,
    after: Option<String>,
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
    let instances = rows.iter().map(|row| view(row, frame.now)).collect();
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
    let page = InstancePage {
        i: view(&instance, frame.now),
        cloud_id: instance.cloud_id.as_ref().map(ToString::to_string),
        what: instance.what.clone(),
        life: life(&instance),
        frame,
    };
    pages::page(&page)
}

fn view(instance: &Instance, now: Timestamp) -> InstanceView {
    let spans = spans(instance, now);
    let words: Vec<&str> = spans.iter().map(|span| span.title.as_str()).collect();
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
        took: Took::between(Some(instance.requested_at), end(instance), now),
        spans_text: words.join(", "),
        spans,
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

/// When it was over: a launch that failed has no machine whose end could be seen.
fn end(instance: &Instance) -> Option<Timestamp> {
    let known = [instance.ending_at, instance.accepted_at].into_iter().flatten().next();
    let is_over = instance.status.is_final();
    instance.ended_at.or_else(|| is_over.then_some(known.unwrap_or(instance.requested_at)))
}

/// The turns in order: what each was, and the class and word of the stretch that follows it.
fn turns(instance: &Instance) -> Vec<(Timestamp, &'static str, &'static str)> {
    let turns = [
        (Some(instance.requested_at), "asked", "asked for"),
        (instance.accepted_at, "boots", "boots"),
        (instance.contact_at, "prepares", "prepares"),
        (instance.ready_at, "ready", "ready"),
        (instance.ending_at, "ends", "ends"),
    ];
    turns.into_iter().filter_map(|(at, class, word)| Some((at?, class, word))).collect()
}

fn spans(instance: &Instance, now: Timestamp) -> Vec<Span> {
    let turns = turns(instance);
    let end = end(instance).unwrap_or(now);
    let whole_ms = end.since(instance.requested_at).as_millis().max(1);
    let place =
        |at: Timestamp| (at.since(instance.requested_at).as_millis() * WIDTH / whole_ms).min(WIDTH);
    let mut spans = Vec::new();
    for (index, (from, class, word)) in turns.iter().enumerate() {
        let until = turns.get(index + 1).map_or(end, |(at, _, _)| *at);
        let title = format!("{word} {}", words::duration(until.since(*from)));
        let (x, right) = (place(*from), place(until));
        spans.push(Span { class, x, width: right.saturating_sub(x), title });
    }
    spans
}

fn life(instance: &Instance) -> Vec<Turn> {
    let mut turns = vec![
        ("Asked for", Some(instance.requested_at)),
        ("Accepted", instance.accepted_at),
        ("Running", instance.running_at),
        ("Agent called", instance.contact_at),
        ("Ready", instance.ready_at),
        ("Told to end", instance.ending_at),
        ("Gone", instance.ended_at),
    ];
    for (number, run) in instance.runs.iter().enumerate() {
        if number > 0 {
            turns.extend([("Started again", Some(run.asked_at)), ("Ready again", run.ready_at)]);
        }
        let is_last = number + 1 == instance.runs.len();
        let was_stopped = !is_last || instance.status == InstanceStatus::Stopped;
        turns.extend(was_stopped.then_some(("Stopped", run.ended_at)));
    }
    turns.sort_by_key(|(_, at)| *at);
    let mut before: Option<Timestamp> = None;
    let mut life = Vec::new();
    for (word, at) in turns {
        let Some(at) = at else { continue };
        let after = before.map(|before| words::duration(at.since(before)));
        life.push(Turn { word, machine: at.to_string(), full: words::moment(at), after });
        before = Some(at);
    }
    life
}
