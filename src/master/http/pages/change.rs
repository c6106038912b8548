//! The buttons: each form becomes one `Request`, then the browser is sent to the page that shows
//! what came of it.

use std::sync::Arc;

use axum::Form;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::response::Redirect;
use serde::Deserialize;

use crate::master::domain::decision::Answer;
use crate::master::domain::event::Request;
use crate::master::http::Web;
use crate::master::http::api;
use crate::master::http::error::Problem;
use crate::master::http::links;
use crate::master::http::query;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;
use crate::model::inputs::GivenInputs;

/// What the start form sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    #[serde(default, rename = "ref")]
    reference: String,
}

/// What the retry forms send.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    #[serde(default)]
    failed_only: bool,
}

/// `POST /projects/PROJECT/builds`
pub async fn start_build(
    State(web): State<Arc<Web>>,
    Path(project): Path<String>,
    form: Result<Form<Start>, FormRejection>,
) -> Result<Redirect, Problem> {
    let form = query::form(form)?;
    let project = web.project(&project)?.name.clone();
    let typed = form.reference.trim();
    let reference = (!typed.is_empty()).then(|| typed.to_owned());
    // The form has none: a pipeline that must be given some says so, and which.
    let inputs = GivenInputs::new();
    let request = Request::StartBuild { project: project.clone(), reference, inputs };
    match api::ask(&web, request).await? {
        Answer::BuildStarted(project, number) => Ok(Redirect::to(&links::build(&project, number))),
        // The answer says so of nothing else; the project's page shows how things stand.
        _ => Ok(Redirect::to(&links::project(&project))),
    }
}

/// `POST /projects/PROJECT/builds/N/cancel`
pub async fn cancel_build(
    State(web): State<Arc<Web>>,
    Path((project, number)): Path<(String, String)>,
) -> Result<Redirect, Problem> {
    let (project, number) = (ProjectName(project), query::build_number(&number)?);
    let page = links::build(&project, number);
    api::ask(&web, Request::CancelBuild(project, number)).await?;
    Ok(Redirect::to(&page))
}

/// `POST /projects/PROJECT/builds/N/retry`
pub async fn retry_build(
    State(web): State<Arc<Web>>,
    Path((project, number)): Path<(String, String)>,
    form: Result<Form<Retry>, FormRejection>,
) -> Result<Redirect, Problem> {
    let form = query::form(form)?;
    let (project, number) = (ProjectName(project), query::build_number(&number)?);
    let page = links::build(&project, number);
    let request = Request::RetryBuild { project, number, failed_only: form.failed_only };
    api::ask(&web, request).await?;
    Ok(Redirect::to(&page))
}

/// `POST /workers/NAME/drain`
pub async fn drain_worker(
    State(web): State<Arc<Web>>,
    Path(name): Path<String>,
) -> Result<Redirect, Problem> {
    let page = links::worker(&name);
    api::ask(&web, Request::DrainWorker(WorkerName(name))).await?;
    Ok(Redirect::to(&page))
}

/// `POST /workers/NAME/stop`
pub async fn stop_worker(
    State(web): State<Arc<Web>>,
    Path(name): Path<String>,
) -> Result<Redirect, Problem> {
    let page = links::worker(&name);
    api::ask(&web, Request::StopWorker(WorkerName(name))).await?;
    Ok(Redirect::to(&page))
}

/// `POST /pools/NAME/pause`
pub async fn pause_pool(
    State(web): State<Arc<Web>>,
    Path(name): Path<String>,
) -> Result<Redirect, Problem> {
    api::ask(&web, Request::PausePool(PoolName(name))).await?;
    Ok(Redirect::to("/"))
}

/// `POST /pools/NAME/resume`
pub async fn resume_pool(
    State(web): State<Arc<Web>>,
    Path(name): Path<String>,
) -> Result<Redirect, Problem> {
    api::ask(&web, Request::ResumePool(PoolName(name))).await?;
    Ok(Redirect::to("/"))
}
