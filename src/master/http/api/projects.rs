//! `/api/v1/projects`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::api::project::Project;
use crate::api::project::ProjectList;
use crate::master::domain::billing;
use crate::master::http::Web;
use crate::master::http::convert;
use crate::master::http::costs;
use crate::master::http::error::Problem;
use crate::runtime::clock;

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
        let today = billing::day_of(clock::now());
        let month = billing::first_of_month(today);
        let days = web.store.project_days(project.name.clone(), month).await?;
        let this_month = costs::of_days(days.iter());
        let cost_today = costs::of_days(days.iter().filter(|day| day.day == today));
        projects.push(Project {
            cost_today: cost_today.decimal(),
            cost_this_month: this_month.decimal(),
            cost_in_part: this_month.in_part,
            name: project.name.to_string(),
            repo: convert::shown_repo(&project.repo),
            last_build,
        });
    }
    Ok(Json(ProjectList { projects }))
}
