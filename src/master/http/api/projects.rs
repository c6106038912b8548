//! `/api/v1/projects`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::api::project::Project;
use crate::api::project::ProjectList;
use crate::master::http::Web;
use crate::master::http::convert;
use crate::master::http::error::Problem;

/// `GET /projects`
pub async fn list(State(web): State<Arc<Web>>) -> Result<Json<ProjectList>, Problem> {
    let newest = web.store.latest_builds().await?;
    let mut projects = Vec::new();
    for project in &web.config.projects {
        let last_build = match newest.iter().find(|build| build.project == project.name) {
            Some(build) => {
                let jobs = web.store.jobs_of(build.id).await?;
                let jobs = jobs.iter().map(|job| convert::job(job, None)).collect();
                Some(convert::build(&web.config, build, jobs))
            }
            None => None,
        };
        projects.push(Project {
            name: project.name.to_string(),
            repo: convert::shown_repo(&project.repo),
            last_build,
        });
    }
    Ok(Json(ProjectList { projects }))
}
