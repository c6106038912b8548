//! The REST API: one file for each resource. `src/api` has the JSON, convert.rs makes it.

use std::time::Duration;

use crate::api::Done;
use crate::api::ErrorKind;
use crate::master::domain::decision::Answer;
use crate::master::domain::event::Request;
use crate::master::http::Web;
use crate::master::http::error::Problem;

pub mod builds;
pub mod fleet;
pub mod logs;
pub mod projects;

/// How long a request may wait for the domain's answer. Most take milliseconds; starting a build
/// asks the remote repository, which may be slow, but a browser's patience ends about here.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Sends the domain a request and awaits what it says.
///
/// # Errors
/// It refused, or has not answered in time.
pub async fn ask(web: &Web, request: Request) -> Result<Answer, Problem> {
    match tokio::time::timeout(ANSWER_WITHIN, web.inbox.ask(request)).await {
        Ok(Answer::Refused(refusal)) => Err(refusal.into()),
        Ok(answer) => Ok(answer),
        Err(_elapsed) => Err(Problem::new(
            ErrorKind::Unavailable,
            format!(
                "the master has asked and got no answer within {} s: the repository may be slow or \
                 down; look at the builds before trying again",
                ANSWER_WITHIN.as_secs()
            ),
        )),
    }
}

/// The same where the answer says nothing but that it is so.
///
/// # Errors
/// As [`ask`].
pub async fn ask_done(web: &Web, request: Request) -> Result<axum::Json<Done>, Problem> {
    ask(web, request).await?;
    Ok(axum::Json(Done { done: true }))
}
