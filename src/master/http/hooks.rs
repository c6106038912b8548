//! `POST /hooks/git/PROJECT`: a forge says that something may have moved.
//!
//! The body is never read: it can name no repository and no commit (protocol.md section 8, row
//! 13). All it does is wake the project's poller, which asks the configured repository itself.

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::request::Parts;

use crate::api::ErrorKind;
use crate::master::caller::Peer;
use crate::master::http::ProjectView;
use crate::master::http::Web;
use crate::master::http::auth;
use crate::master::http::error::Problem;

/// Wakes a project's poller. Unknown projects are answered like known ones.
pub async fn git(
    State(web): State<Arc<Web>>,
    Path(project): Path<String>,
    parts: Parts,
) -> Result<(StatusCode, &'static str), Problem> {
    // A page elsewhere must not use the browser of somebody on this machine.
    auth::check_origin(&parts, false)?;
    let project = web.project(&project).ok();
    if !is_trusted(&parts) && !brings_a_token(&web, project, &parts.headers) {
        let sentence = "a hook from another machine needs the project's hook token, or the \
            master's, in `Authorization: Bearer …`";
        return Err(Problem::new(ErrorKind::Unauthorized, sentence));
    }
    if let Some(project) = project {
        (web.poke)(&project.name);
    }
    Ok((StatusCode::ACCEPTED, "the repository will be asked\n"))
}

fn is_trusted(parts: &Parts) -> bool {
    match auth::peer(parts) {
        Peer::Owner => true,
        Peer::Loopback(_) => !auth::was_forwarded(&parts.headers),
        Peer::Remote(_) => false,
    }
}

fn brings_a_token(web: &Web, project: Option<&ProjectView>, headers: &HeaderMap) -> bool {
    // GitLab has a header of its own for it.
    let gitlab = headers.get("x-gitlab-token").and_then(|value| value.to_str().ok());
    let Some(given) = auth::bearer(headers).or(gitlab) else { return false };
    let hook_token = project.and_then(|project| project.hook_token.as_ref());
    let matches_hook = hook_token.is_some_and(|token| auth::same_secret(token.reveal(), given));
    matches_hook || auth::token_matches(&web.config.token_hash, given)
}
