//! Every URL on one page, with who may call it, and what is done to every answer.
//!
//! | who | what |
//! |---|---|
//! | anybody who names the right host | the road, `healthz`, the schema, static files, the login page |
//! | readers: a token, a login, the Unix socket, or this machine to a master that listens only there | every other GET |
//! | changers: a token, a login or the Unix socket, from this very origin | every POST but the login's |
//! | hooks: from this machine, or with a token | `POST /hooks/git/PROJECT` |

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;

use crate::api::ErrorKind;
use crate::master::http::Web;
use crate::master::http::api;
use crate::master::http::assets;
use crate::master::http::auth;
use crate::master::http::error::Problem;
use crate::master::http::hooks;
use crate::master::http::live;
use crate::master::http::pages;
use crate::master::http::road;

/// A request's body, at most. Forms and JSON here are a few hundred bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Scripts, styles and pictures of this master's own, and nothing else.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

/// The whole adapter, to be served by whoever accepts connections.
pub fn router(web: Arc<Web>) -> Router {
    let guarded = pages_router()
        .nest(crate::api::PREFIX, api_router())
        .route_layer(middleware::from_fn_with_state(Arc::clone(&web), guard));
    open_router()
        .merge(guarded)
        .fallback(no_such_page)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&web), receive))
        .with_state(web)
}

/// For anybody who names the right host; each says itself what else it wants.
fn open_router() -> Router<Arc<Web>> {
    Router::new()
        .route("/runurl", get(road::file))
        .route("/bootstrap/{name}", get(road::file))
        .route("/agent/{hash}", get(road::file))
        .route("/healthz", get(road::healthz))
        .route("/schema/pipeline.v1.json", get(road::pipeline_schema))
        .route("/hooks/git/{project}", post(hooks::git))
        .route("/static/{hash}/{name}", get(assets::serve))
        .route("/favicon.ico", get(assets::favicon))
        .route("/login", get(pages::login::form).post(pages::login::submit))
        .route("/logout", post(pages::login::leave))
}

/// For people: GET shows, POST changes.
fn pages_router() -> Router<Arc<Web>> {
    Router::new()
        .route("/", get(pages::home::show))
        .route("/projects/{project}", get(pages::project::show))
        .route("/projects/{project}/builds", post(pages::change::start_build))
        .route("/projects/{project}/builds/{number}", get(pages::build::show))
        .route("/projects/{project}/builds/{number}/lines", get(live::step_lines))
        .route("/projects/{project}/builds/{number}/cancel", post(pages::change::cancel_build))
        .route("/projects/{project}/builds/{number}/retry", post(pages::change::retry_build))
        .route("/workers", get(pages::workers::list))
        .route("/workers/{name}", get(pages::workers::show))
        .route("/workers/{name}/lines", get(live::boot_lines))
        .route("/workers/{name}/drain", post(pages::change::drain_worker))
        .route("/workers/{name}/stop", post(pages::change::stop_worker))
        .route("/pools/{name}/pause", post(pages::change::pause_pool))
        .route("/pools/{name}/resume", post(pages::change::resume_pool))
        .route("/instances", get(pages::instances::list))
        .route("/instances/{id}", get(pages::instances::show))
}

/// For scripts and the command line: `src/api` has the JSON.
fn api_router() -> Router<Arc<Web>> {
    Router::new()
        .route("/projects", get(api::projects::list))
        .route("/builds", get(api::builds::list_all))
        .route("/projects/{project}/builds", get(api::builds::list).post(api::builds::start))
        .route("/projects/{project}/builds/{number}", get(api::builds::show))
        .route("/projects/{project}/builds/{number}/cancel", post(api::builds::cancel))
        .route("/projects/{project}/builds/{number}/retry", post(api::builds::retry))
        .route("/projects/{project}/builds/{number}/log", get(api::logs::build_log))
        .route("/projects/{project}/builds/{number}/events", get(live::build_events))
        .route("/events", get(live::all_events))
        .route("/workers", get(api::fleet::workers).post(api::fleet::add_worker))
        .route("/workers/{name}", get(api::fleet::worker))
        .route("/workers/{name}/log", get(api::logs::boot_log))
        .route("/workers/{name}/drain", post(api::fleet::drain))
        .route("/workers/{name}/stop", post(api::fleet::stop))
        .route("/pools", get(api::fleet::pools))
        .route("/pools/{name}/pause", post(api::fleet::pause))
        .route("/pools/{name}/resume", post(api::fleet::resume))
        .route("/instances", get(api::fleet::instances))
        .route("/instances/{id}", get(api::fleet::instance))
}

async fn no_such_page() -> Problem {
    Problem::not_found("there is nothing at this address")
}

async fn no_such_method(method: Method) -> Response {
    let problem = Problem::invalid(format!("{method} makes no sense at this address"));
    let mut response = problem.into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

/// Stands before every page and every call of the API.
async fn guard(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let is_reading = matches!(parts.method, Method::GET | Method::HEAD);
    let admitted = auth::identify(&web.config, &parts).and_then(|caller| {
        if is_reading {
            return if caller.may_read { Ok(caller) } else { Err(token_needed("this")) };
        }
        auth::check_origin(&parts, caller.by_cookie)?;
        if caller.may_change { Ok(caller) } else { Err(token_needed("a change")) }
    });
    match admitted {
        Ok(caller) => {
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(problem) => problem.into_response(),
    }
}

fn token_needed(what: &str) -> Problem {
    let sentence = format!(
        "{what} needs the token (the file `token` of the master's data_dir), in \
         `Authorization: Bearer …` or by logging in"
    );
    Problem::new(ErrorKind::Unauthorized, sentence)
}

/// Stands around everything: refuses strange hosts, makes pages of problems, sets the headers.
async fn receive(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let response = match auth::check_host(&web.config, &parts) {
        Ok(()) => next.run(Request::from_parts(parts.clone(), body)).await,
        Err(problem) => problem.into_response(),
    };
    let response = match response.extensions().get::<Problem>() {
        Some(problem) if is_page(parts.uri.path()) => {
            pages::problem::dress(&web, &parts, problem.clone(), response.status())
        }
        Some(_) | None => response,
    };
    with_headers(response)
}

/// Whether people look at this address; scripts want JSON.
fn is_page(path: &str) -> bool {
    let for_scripts = ["/api/", "/hooks/", "/static/", "/bootstrap/", "/agent/", "/schema/"];
    !for_scripts.iter().any(|prefix| path.starts_with(prefix)) && path != "/runurl"
}

fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    // A raw log has set stricter ones already.
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(CONTENT_SECURITY_POLICY);
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not "no-referrer": with that, browsers send `Origin: null` with our own forms.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
