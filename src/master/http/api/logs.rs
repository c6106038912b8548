//! Logs as raw bytes: `src/api/log.rs` says what may be asked for.

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Uri;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::api::log::ATTEMPT_HEADER;
use crate::api::log::BootLogQuery;
use crate::api::log::LogQuery;
use crate::master::domain::entities::Job;
use crate::master::http::Web;
use crate::master::http::error::Problem;
use crate::master::http::log_choice;
use crate::master::http::log_sequence::Sequence;
use crate::master::http::log_tail::Piece;
use crate::master::http::log_tail::Source;
use crate::master::http::log_tail::Tail;
use crate::master::http::query;
use crate::master::http::stream;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;

/// `GET /projects/PROJECT/builds/N/log`
pub async fn build_log(
    State(web): State<Arc<Web>>,
    Path((project, number)): Path<(String, String)>,
    uri: Uri,
) -> Result<Response, Problem> {
    let asked: LogQuery = query::parse(&uri)?;
    let (project, number) = (ProjectName(project), query::build_number(&number)?);
    let build = log_choice::build(&web, &project, number).await?;
    let mut attempt = None;
    let jobs: Vec<Job> = match &asked.job {
        Some(name) => {
            let job = log_choice::job(&web, &build, name).await?;
            attempt = log_choice::attempt(&web, &job, asked.attempt).await?;
            vec![job]
        }
        None if asked.step.is_some() || asked.attempt.is_some() => {
            return Err(Problem::invalid(
                "`step` and `attempt` belong to a job: name it with `job`",
            ));
        }
        None => web.store.jobs_of(build.id).await?,
    };
    let follow = asked.follow.unwrap_or(false);
    if let (Some(step), false) = (&asked.step, follow) {
        let steps = match &attempt {
            Some(attempt) => web.store.steps_of(attempt.id.attempt).await?,
            None => Vec::new(),
        };
        if !steps.iter().any(|run| run.name == *step || run.step.to_string() == *step) {
            return Err(Problem::not_found(format!("no step \"{step}\" has started")));
        }
    }
    let sequence = Sequence {
        project,
        number,
        jobs: jobs.iter().map(|job| job.id).collect(),
        first_attempt: asked.attempt.or(attempt.as_ref().map(|attempt| attempt.number)),
        step: asked.step.clone(),
        follow,
    };
    let offset = asked.offset.unwrap_or(0);
    let name = format!("{}-{}{}.log", build.project, number, part_of_name(&asked));
    let body = stream::written_by(|writer| async move {
        sequence.write(&web, offset, &writer).await;
    });
    let mut response = raw(&name, body);
    if let Some(attempt) = attempt {
        let header = HeaderName::from_static(ATTEMPT_HEADER);
        response.headers_mut().insert(header, HeaderValue::from(attempt.number));
    }
    Ok(response)
}

fn part_of_name(asked: &LogQuery) -> String {
    let parts = [asked.job.as_deref(), asked.step.as_deref()];
    parts.into_iter().flatten().map(|part| format!("-{part}")).collect()
}

/// `GET /workers/NAME/log`
pub async fn boot_log(
    State(web): State<Arc<Web>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let asked: BootLogQuery = query::parse(&uri)?;
    let name = WorkerName(name);
    if web.store.worker(name.clone()).await?.is_none() {
        return Err(Problem::not_found(format!("there is no worker {name}")));
    }
    let offset = asked.offset.unwrap_or(0);
    let source = Source::Boot(name.clone());
    let log = source.log_key();
    let end = match asked.follow {
        Some(true) => u64::MAX,
        Some(false) | None => web.logs.size(&log).await?.bytes,
    };
    let mut tail = Tail::new(&web, source, offset).await?;
    let body = stream::written_by(|writer| async move {
        while tail.offset() < end {
            match tail.next(&web).await {
                Ok(Piece::Bytes(bytes)) => {
                    if writer.send(bytes).await.is_err() {
                        return;
                    }
                }
                Ok(Piece::Quiet) => {}
                Ok(Piece::End | Piece::Stopped) => return,
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "failed to read a boot log: {error:#}"
                    );
                    return;
                }
            }
        }
    });
    Ok(raw(&format!("{name}-boot.log"), body))
}

/// Bytes that no browser may take for a page (protocol.md section 8, row 15).
fn raw(file_name: &str, body: axum::body::Body) -> Response {
    // Quotes and line ends have no business in a header; nor have names that are not plain.
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    let plain: String =
        file_name.chars().map(|one| if is_plain(one) { one } else { '_' }).collect();
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{plain}\"")),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (headers, body).into_response()
}
