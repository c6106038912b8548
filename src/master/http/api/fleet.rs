//! `/api/v1/workers`, `/api/v1/pools`, `/api/v1/instances`

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::Uri;
use bytes::Bytes;

use crate::api::Done;
use crate::api::ErrorKind;
use crate::api::fleet::AddWorker;
use crate::api::fleet::Instance;
use crate::api::fleet::InstanceList;
use crate::api::fleet::InstanceQuery;
use crate::api::fleet::PoolList;
use crate::api::fleet::Worker;
use crate::api::fleet::WorkerAdded;
use crate::api::fleet::WorkerList;
use crate::api::fleet::WorkerQuery;
use crate::master::domain::billing;
use crate::master::domain::decision::Answer;
use crate::master::domain::entities;
use crate::master::domain::event::Request;
use crate::master::http::PoolView;
use crate::master::http::Web;
use crate::master::http::api::ask;
use crate::master::http::api::ask_done;
use crate::master::http::convert;
use crate::master::http::costs::SpentToday;
use crate::master::http::error::Problem;
use crate::master::http::query;
use crate::model::ids::InstanceId;
use crate::model::ids::PoolName;
use crate::model::ids::WorkerName;
use crate::runtime::clock;

/// Jobs of one instance that are told, at most.
const JOBS_MAX: u32 = 200;

/// Rows of the ledger where the query does not say.
const INSTANCES_USUAL: u32 = 50;

/// `GET /workers`
pub async fn workers(State(web): State<Arc<Web>>, uri: Uri) -> Result<Json<WorkerList>, Problem> {
    let asked: WorkerQuery = query::parse(&uri)?;
    let mut workers = web.store.workers().await?;
    if asked.all.unwrap_or(false) {
        workers.extend(web.store.gone_workers(None, query::ROWS_MAX).await?);
    }
    let workers = workers.iter().map(|worker| convert::worker(&web.config, worker)).collect();
    Ok(Json(WorkerList { workers }))
}

/// `GET /workers/NAME`
pub async fn worker(
    State(web): State<Arc<Web>>,
    Path(name): Path<String>,
) -> Result<Json<Worker>, Problem> {
    let found = web.store.worker(WorkerName(name.clone())).await?;
    let worker = found.ok_or_else(|| Problem::not_found(format!("there is no worker {name}")))?;
    let mut shown = convert::worker(&web.config, &worker);
    if let Some(instance) = worker.instance {
        let row = web.store.instance(instance).await?;
        let row = row.map(|row| with_work(&web, vec![row]));
        shown.machine = match row {
            Some(rows) => rows.await?.pop(),
            None => None,
        };
    }
    Ok(Json(shown))
}

/// `POST /workers`
pub async fn add_worker(
    State(web): State<Arc<Web>>,
    body: Bytes,
) -> Result<(StatusCode, Json<WorkerAdded>), Problem> {
    let wanted: AddWorker = query::body(&body)?;
    check_worker_name(&wanted.name)?;
    let pool = PoolName(wanted.pool);
    let request = Request::AddWorker(WorkerName(wanted.name), pool.clone());
    match ask(&web, request).await? {
        Answer::WorkerAdded(worker, launch) => {
            let environment = (web.worker_environment)(&worker, &launch);
            let added = WorkerAdded { name: worker.0, pool: pool.0, environment };
            Ok((StatusCode::CREATED, Json(added)))
        }
        Answer::Done
        | Answer::BuildStarted(..)
        | Answer::Welcome(_)
        | Answer::CallAgain(_)
        | Answer::Refused(_) => {
            Err(Problem::new(ErrorKind::Internal, "the master answered something else"))
        }
    }
}

/// A name that can stand in an address, a file name and a shell line as it is.
fn check_worker_name(name: &str) -> Result<(), Problem> {
    const NAME_CHARS_MAX: usize = 63;
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_good = name.len() <= NAME_CHARS_MAX
        && name.bytes().next().is_some_and(is_plain)
        && name.bytes().all(|byte| is_plain(byte) || byte == b'-');
    if is_good {
        return Ok(());
    }
    let sentence = format!(
        "\"{name}\" cannot be a worker's name: use up to {NAME_CHARS_MAX} lower-case letters, \
         digits and hyphens, beginning with a letter or digit"
    );
    Err(Problem::invalid(sentence))
}

/// `POST /workers/NAME/drain`
pub async fn drain(
    State(web): State<Arc<Web>>,
    Path(name): Path<String>,
) -> Result<Json<Done>, Problem> {
    ask_done(&web, Request::DrainWorker(WorkerName(name))).await
}

/// `POST /workers/NAME/stop`
pub async fn stop(
    State(web): State<Arc<Web>>,
    Path(name): Path<String>,
) -> Result<Json<Done>, Problem> {
    ask_done(&web, Request::StopWorker(WorkerName(name))).await
}

/// `GET /pools`
pub async fn pools(State(web): State<Arc<Web>>) -> Result<Json<PoolList>, Problem> {
    let states = web.store.pools().await?;
    let forecasts = web.store.pool_forecasts().await?;
    let alive = web.store.workers().await?;
    let spent = spent_today(&web).await?;
    let pools = web
        .config
        .pools
        .iter()
        .map(|view| {
            let state = states.iter().find(|state| state.name == view.name);
            let forecast = forecasts.iter().find(|forecast| forecast.name == view.name);
            convert::pool(&web.config, view, (state, forecast), &alive, &spent)
        })
        .collect();
    Ok(Json(PoolList { pools }))
}

/// `POST /pools/NAME/pause`
pub async fn pause(
    State(web): State<Arc<Web>>,
    Path(name): Path<String>,
) -> Result<Json<Done>, Problem> {
    ask_done(&web, Request::PausePool(PoolName(name))).await
}

/// `POST /pools/NAME/resume`
pub async fn resume(
    State(web): State<Arc<Web>>,
    Path(name): Path<String>,
) -> Result<Json<Done>, Problem> {
    ask_done(&web, Request::ResumePool(PoolName(name))).await
}

/// `GET /instances`
pub async fn instances(
    State(web): State<Arc<Web>>,
    uri: Uri,
) -> Result<Json<InstanceList>, Problem> {
    let asked: InstanceQuery = query::parse(&uri)?;
    let limit = query::limit(asked.limit, INSTANCES_USUAL)?;
    let before = asked.before.map(InstanceId);
    let all = asked.all.unwrap_or(false);
    let mut rows = if all {
        web.store.instances(before, limit).await?
    } else {
        // Few, as each is paid for; oldest first in the store.
        let mut present = web.store.active_instances().await?;
        present.retain(|row| before.is_none_or(|before| row.id < before));
        present.reverse();
        present
    };
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| rows.len() == limit as usize).map(|last| last.id.0);
    let instances = with_work(&web, rows).await?;
    Ok(Json(InstanceList { instances, next }))
}

/// `GET /instances/ID`
pub async fn instance(
    State(web): State<Arc<Web>>,
    Path(id): Path<String>,
) -> Result<Json<Instance>, Problem> {
    let no_such = || Problem::not_found(format!("the ledger has no instance {id}"));
    let number = id.parse().map_err(|_| no_such())?;
    let found = web.store.instance(InstanceId(number)).await?.ok_or_else(no_such)?;
    let shown = with_work(&web, vec![found]).await?.pop().ok_or_else(no_such)?;
    Ok(Json(shown))
}

/// Rows of the ledger with what their workers have done.
async fn with_work(web: &Web, rows: Vec<entities::Instance>) -> Result<Vec<Instance>, Problem> {
    let workers = rows.iter().map(|row| row.worker.clone()).collect();
    let work = web.store.work_of(workers, JOBS_MAX, true).await?;
    let now = clock::now();
    let of = |row: &entities::Instance| work.get(&row.worker).map_or(&[][..], Vec::as_slice);
    Ok(rows.iter().map(|row| convert::instance(&web.config, row, of(row), now)).collect())
}

/// What pools have spent today.
pub async fn spent_today(web: &Web) -> Result<SpentToday, Problem> {
    let now = clock::now();
    let has_budget = |pool: &PoolView| pool.is_paid() || pool.daily_budget.is_some();
    if web.config.daily_budget.is_none() && !web.config.pools.iter().any(has_budget) {
        return Ok(SpentToday::of(&web.config, &[], now)); // Nothing here costs anything.
    }
    let midnight = billing::start_of(billing::day_of(now));
    let instances = web.store.instances_since(midnight).await?;
    Ok(SpentToday::of(&web.config, &instances, now))
}
