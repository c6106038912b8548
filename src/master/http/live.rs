//! Event streams: what has changed ("read again"), and the lines of a log as they come.
//!
//! Events are written by hand (`id`, `event`, `data`, an empty line): three lines of text need no
//! library, and the body is the same one that logs have.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Path;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Uri;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;

use crate::api::event;
use crate::api::event::BuildChanged;
use crate::master::http::Web;
use crate::master::http::ansi::Renderer;
use crate::master::http::error::Problem;
use crate::master::http::log_choice;
use crate::master::http::log_tail::Piece;
use crate::master::http::log_tail::QUIET_AFTER;
use crate::master::http::log_tail::Source;
use crate::master::http::log_tail::Tail;
use crate::master::http::log_window::Position;
use crate::master::http::query;
use crate::master::http::stream;
use crate::master::http::stream::ReaderGone;
use crate::master::http::stream::Writer;
use crate::master::notices::Notice;
use crate::model::ids::BuildNumber;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;

/// Keeps proxies and readers patient; a comment, which browsers ignore.
const STILL_HERE: &str = ":\n\n";

/// `GET /api/v1/events`
pub async fn all_events(State(web): State<Arc<Web>>) -> Response {
    // Watched from before the answer goes out, so that nothing falls between.
    let mut notices = web.notices.watch();
    let mut stopping = web.stopping.clone();
    event_stream(|writer| async move {
        let _reader_gone: Result<(), ReaderGone> = async {
            writer.send(named(event::FLEET, "{}")).await?;
            loop {
                let notice = tokio::select! {
                    notice = tokio::time::timeout(QUIET_AFTER, notices.recv()) => notice,
                    Ok(()) = stopping.changed() => return Ok(()),
                };
                match notice {
                    Err(_quiet) => writer.send(STILL_HERE).await?,
                    Ok(Ok(Notice::Fleet)) => writer.send(named(event::FLEET, "{}")).await?,
                    Ok(Ok(Notice::Build { project, number, status })) => {
                        let changed = BuildChanged {
                            project: Some(project.to_string()),
                            number: Some(number.0),
                            status: Some(status.to_string()),
                        };
                        writer.send(named(event::BUILD, &json(&changed))).await?;
                    }
                    Ok(Err(RecvError::Lagged(_))) => {
                        let any = BuildChanged { project: None, number: None, status: None };
                        writer.send(named(event::BUILD, &json(&any))).await?;
                        writer.send(named(event::FLEET, "{}")).await?;
                    }
                    Ok(Err(RecvError::Closed)) => return Ok(()),
                }
            }
        }
        .await;
    })
}

/// `GET /api/v1/projects/PROJECT/builds/N/events`
pub async fn build_events(
    State(web): State<Arc<Web>>,
    Path((project, number)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (project, number) = (ProjectName(project), query::build_number(&number)?);
    log_choice::build(&web, &project, number).await?;
    Ok(event_stream(|writer| async move {
        // An error has been logged where it was made a Problem; the reader will call again.
        let _ended = write_build_events(&web, &project, number, &writer).await;
    }))
}

/// One event at once and one for each change, until the build is over.
async fn write_build_events(
    web: &Web,
    project: &ProjectName,
    number: BuildNumber,
    writer: &Writer,
) -> Result<(), Stopped> {
    let mut notices = web.notices.watch();
    let mut stopping = web.stopping.clone();
    loop {
        let build = log_choice::build(web, project, number).await?;
        let changed = BuildChanged {
            project: Some(project.to_string()),
            number: Some(number.0),
            status: Some(build.status.to_string()),
        };
        writer.send(named(event::BUILD, &json(&changed))).await?;
        if build.status.is_final() {
            // Browsers would connect again and again without it.
            writer.send(named("end", "{}")).await?;
            return Ok(());
        }
        loop {
            let notice = tokio::select! {
                notice = tokio::time::timeout(QUIET_AFTER, notices.recv()) => notice,
                Ok(()) = stopping.changed() => return Ok(()),
            };
            match notice {
                Err(_quiet) => writer.send(STILL_HERE).await?,
                Ok(Ok(Notice::Build { project: other, number: its_number, .. }))
                    if other == *project && its_number == number =>
                {
                    break;
                }
                Ok(Ok(Notice::Build { .. } | Notice::Fleet)) => {}
                Ok(Err(RecvError::Lagged(_))) => break,
                Ok(Err(RecvError::Closed)) => return Ok(()),
            }
        }
    }
}

/// Which step's lines a page wants, and from where.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinesQuery {
    job: String,
    step: u32,
    attempt: u32,
    at: String,
}

/// From where a page wants a boot log's lines.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BootLinesQuery {
    at: String,
}

/// `GET /projects/PROJECT/builds/N/lines`
pub async fn step_lines(
    State(web): State<Arc<Web>>,
    Path((project, number)): Path<(String, String)>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let asked: LinesQuery = query::parse(&uri)?;
    let (project, number) = (ProjectName(project), query::build_number(&number)?);
    let build = log_choice::build(&web, &project, number).await?;
    let job = log_choice::job(&web, &build, &asked.job).await?;
    let attempt = log_choice::attempt(&web, &job, Some(asked.attempt)).await?;
    let attempt = attempt.ok_or_else(|| Problem::not_found("the job has not started yet"))?;
    let source = Source::Step {
        project,
        number,
        job: job.id,
        attempt: attempt.id.attempt,
        step: asked.step,
    };
    let position = position(&headers, &asked.at)?;
    Ok(lines(web, source, position))
}

/// `GET /workers/NAME/lines`
pub async fn boot_lines(
    State(web): State<Arc<Web>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let asked: BootLinesQuery = query::parse(&uri)?;
    let position = position(&headers, &asked.at)?;
    Ok(lines(web, Source::Boot(WorkerName(name)), position))
}

/// What a browser saw last, when it calls again, counts more than where the page began.
fn position(headers: &HeaderMap, at: &str) -> Result<Position, Problem> {
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let code = last.filter(|code| !code.is_empty()).unwrap_or(at);
    Position::from_code(code)
        .ok_or_else(|| Problem::invalid(format!("\"{code}\" is no position in a log")))
}

fn lines(web: Arc<Web>, source: Source, position: Position) -> Response {
    event_stream(|writer| async move {
        let _ended = write_lines(&web, source, position, &writer).await;
    })
}

async fn write_lines(
    web: &Web,
    source: Source,
    mut position: Position,
    writer: &Writer,
) -> Result<(), Stopped> {
    let mut tail = Tail::new(web, source, position.offset).await?;
    let mut renderer = Renderer::new(position.style);
    loop {
        match tail.next(web).await? {
            Piece::Bytes(bytes) => {
                let lines = render(&bytes, &mut position, &mut renderer, tail.offset());
                if !lines.is_empty() {
                    let data = json(&lines);
                    let event =
                        format!("id: {}\nevent: lines\ndata: {data}\n\n", position.to_code());
                    writer.send(event).await?;
                }
            }
            Piece::Quiet => writer.send(STILL_HERE).await?,
            // Without an "end": the browser calls again, and goes on from the last id.
            Piece::Stopped => return Ok(()),
            Piece::End => {
                writer.send(named("end", "{}")).await?;
                return Ok(());
            }
        }
    }
}

/// The lines that a piece ends or grows. `end`: where in the log the piece ends.
fn render(
    bytes: &[u8],
    position: &mut Position,
    renderer: &mut Renderer,
    end: u64,
) -> Vec<(u64, String)> {
    let mut lines = Vec::new();
    let was_cut = renderer.is_cut();
    let mut rest = bytes;
    while let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
        renderer.feed(&rest[..length]);
        lines.push((position.line, renderer.end_line()));
        rest = &rest[length + 1..];
        position.line += 1;
        position.offset = end - rest.len() as u64;
        position.style = renderer.style();
    }
    renderer.feed(rest);
    // What is beyond a long line's cut is not worth an event for each piece of it.
    let only_grows_beyond_the_cut = was_cut && lines.is_empty();
    if !rest.is_empty() && !only_grows_beyond_the_cut {
        lines.push((position.line, renderer.html()));
    }
    lines
}

/// Why a stream's task ended early; nothing more to do in either case.
struct Stopped;

impl From<ReaderGone> for Stopped {
    fn from(ReaderGone: ReaderGone) -> Stopped {
        Stopped
    }
}

impl From<Problem> for Stopped {
    fn from(_: Problem) -> Stopped {
        Stopped
    }
}

impl From<anyhow::Error> for Stopped {
    fn from(error: anyhow::Error) -> Stopped {
        tracing::warn!(error = format!("{error:#}"), "failed to go on with a stream: {error:#}");
        Stopped
    }
}

fn event_stream<F, T>(task: F) -> Response
where
    F: FnOnce(Arc<Writer>) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let body: Body = stream::written_by(task);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx would hold events back.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}

/// JSON has no line ends, so one `data` line holds it.
fn named(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("names, numbers and text become JSON")
}
