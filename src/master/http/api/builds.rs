//! `/api/v1/builds` and `/api/v1/projects/PROJECT/builds`

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::Uri;
use bytes::Bytes;

use crate::api;
use crate::api::Done;
use crate::api::ErrorKind;
use crate::api::build::BuildList;
use crate::api::build::BuildQuery;
use crate::api::build::BuildRef;
use crate::api::build::Job;
use crate::api::build::RetryBuild;
use crate::api::build::StartBuild;
use crate::master::domain::decision::Answer;
use crate::master::domain::entities::Build;
use crate::master::domain::event::Request;
use crate::master::http::Web;
use crate::master::http::api::ask;
use crate::master::http::api::ask_done;
use crate::master::http::convert;
use crate::master::http::costs;
use crate::master::http::error::Problem;
use crate::master::http::links;
use crate::master::http::log_choice;
use crate::master::http::pages::project::builds_of;
use crate::master::http::query;
use crate::master::store::builds::BuildFilter;
use crate::master::store::builds::BuildsOf;
use crate::model::ids::BuildId;
use crate::model::ids::ProjectName;
use crate::model::inputs;
use crate::runtime::clock;

/// Builds of a page where the query does not say.
const BUILDS_USUAL: u32 = 20;

/// `GET /builds`
pub async fn list_all(State(web): State<Arc<Web>>, uri: Uri) -> Result<Json<BuildList>, Problem> {
    let asked: BuildQuery = query::parse(&uri)?;
    if asked.branch.is_some() {
        let sentence = "a branch belongs to a project: ask /projects/PROJECT/builds?branch=…";
        return Err(Problem::invalid(sentence));
    }
    page(&web, BuildsOf::Everyone, &asked).await
}

/// `GET /projects/PROJECT/builds`
pub async fn list(
    State(web): State<Arc<Web>>,
    Path(project): Path<String>,
    uri: Uri,
) -> Result<Json<BuildList>, Problem> {
    let asked: BuildQuery = query::parse(&uri)?;
    let of = builds_of(&web.project(&project)?.name, asked.branch.as_deref());
    page(&web, of, &asked).await
}

async fn page(web: &Web, of: BuildsOf, asked: &BuildQuery) -> Result<Json<BuildList>, Problem> {
    let limit = query::limit(asked.limit, BUILDS_USUAL)?;
    let filter = BuildFilter { of, status: None };
    let builds = web.store.builds(filter, asked.before.map(BuildId), limit).await?;
    let ids: Vec<BuildId> = builds.iter().map(|build| build.id).collect();
    let jobs = web.store.jobs_of_many(ids).await?;
    let is_full = builds.len() == limit as usize;
    let next = builds.last().filter(|_| is_full).map(|build| build.id.0);
    let with_jobs = |build: &Build| {
        let its = jobs.iter().filter(|job| job.build == build.id);
        convert::build(&web.config, build, its.map(|job| convert::job(job, None)).collect())
    };
    Ok(Json(BuildList { builds: builds.iter().map(with_jobs).collect(), next }))
}

/// `POST /projects/PROJECT/builds`
pub async fn start(
    State(web): State<Arc<Web>>,
    Path(project): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<BuildRef>), Problem> {
    let wanted: StartBuild = query::body(&body)?;
    let project = web.project(&project)?.name.clone();
    inputs::check(&wanted.inputs).map_err(Problem::invalid)?;
    let StartBuild { reference, inputs } = wanted;
    let request = Request::StartBuild { project, reference, inputs };
    match ask(&web, request).await? {
        Answer::BuildStarted(project, number) => {
            let url = format!("{}{}", web.config.url, links::build(&project, number));
            let build = BuildRef { project: project.to_string(), number: number.0, url };
            Ok((StatusCode::CREATED, Json(build)))
        }
        Answer::Done
        | Answer::WorkerAdded(..)
        | Answer::Welcome(_)
        | Answer::CallAgain(_)
        | Answer::Refused(_) => {
            Err(Problem::new(ErrorKind::Internal, "the master answered something else"))
        }
    }
}

/// `GET /projects/PROJECT/builds/N`
pub async fn show(
    State(web): State<Arc<Web>>,
    Path((project, number)): Path<(String, String)>,
) -> Result<Json<api::build::Build>, Problem> {
    let (project, number) = (ProjectName(project), query::build_number(&number)?);
    let build = log_choice::build(&web, &project, number).await?;
    let held = web.store.held_by(build.id).await?;
    let (costs, all) = costs::of_build(&web.config, &held, clock::now());
    let mut jobs = Vec::new();
    for job in web.store.jobs_of(build.id).await? {
        let steps = match job.attempt {
            Some(attempt) => web.store.steps_of(attempt).await?,
            None => Vec::new(),
        };
        let cost = costs.get(&job.id).copied().unwrap_or_default();
        let shown = convert::job(&job, Some(&steps));
        jobs.push(Job { cost: cost.decimal(), cost_in_part: cost.in_part, ..shown });
    }
    let shown = convert::build(&web.config, &build, jobs);
    Ok(Json(api::build::Build { cost: all.decimal(), cost_in_part: all.in_part, ..shown }))
}

/// `POST /projects/PROJECT/builds/N/cancel`
pub async fn cancel(
    State(web): State<Arc<Web>>,
    Path((project, number)): Path<(String, String)>,
) -> Result<Json<Done>, Problem> {
    let number = query::build_number(&number)?;
    ask_done(&web, Request::CancelBuild(ProjectName(project), number)).await
}

/// `POST /projects/PROJECT/builds/N/retry`
pub async fn retry(
    State(web): State<Arc<Web>>,
    Path((project, number)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Done>, Problem> {
    let wanted: RetryBuild = query::body(&body)?;
    let (project, number) = (ProjectName(project), query::build_number(&number)?);
    ask_done(&web, Request::RetryBuild { project, number, failed_only: wanted.failed_only }).await
}
