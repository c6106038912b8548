//! From what an address names to the build, the job and the attempt that are meant.

use crate::master::domain::entities::Attempt;
use crate::master::domain::entities::Build;
use crate::master::domain::entities::Job;
use crate::master::http::Web;
use crate::master::http::error::Problem;
use crate::model::ids::BuildNumber;
use crate::model::ids::ProjectName;

/// A build.
///
/// # Errors
/// There is none, or the store cannot be read.
pub async fn build(
    web: &Web,
    project: &ProjectName,
    number: BuildNumber,
) -> Result<Build, Problem> {
    let found = web.store.build(project.clone(), number).await?;
    found.ok_or_else(|| Problem::not_found(format!("there is no build {project}/{number}")))
}

/// A job of a build.
///
/// # Errors
/// There is none, or the store cannot be read.
pub async fn job(web: &Web, build: &Build, name: &str) -> Result<Job, Problem> {
    let jobs = web.store.jobs_of(build.id).await?;
    let names: Vec<String> = jobs.iter().map(|job| job.spec.name.to_string()).collect();
    jobs.into_iter().find(|job| job.spec.name.as_str() == name).ok_or_else(|| {
        let known = names.join(", ");
        let sentence = format!(
            "build {}/{} has no job \"{name}\"; it has: {known}",
            build.project, build.number
        );
        Problem::not_found(sentence)
    })
}

/// An attempt of a job by its number, or the newest; nothing: none has been given out yet.
///
/// # Errors
/// There is none of this number, or the store cannot be read.
pub async fn attempt(
    web: &Web,
    job: &Job,
    number: Option<u32>,
) -> Result<Option<Attempt>, Problem> {
    let attempts = web.store.attempts_of(job.id).await?;
    let Some(number) = number else {
        return Ok(attempts.into_iter().max_by_key(|attempt| attempt.number));
    };
    match attempts.into_iter().find(|attempt| attempt.number == number) {
        Some(attempt) => Ok(Some(attempt)),
        None => Err(Problem::not_found(format!("job {} has no attempt {number}", job.spec.name))),
    }
}
