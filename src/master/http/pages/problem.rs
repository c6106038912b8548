//! Refusals as pages: a sentence and a way back. Who must log in is sent there.

use askama::Template;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::response::Redirect;
use axum::response::Response;

use crate::api::ErrorKind;
use crate::master::http::Web;
use crate::master::http::auth;
use crate::master::http::auth::Caller;
use crate::master::http::error::Problem;
use crate::master::http::links;
use crate::master::http::pages;
use crate::master::http::pages::Frame;

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    frame: Frame,
    title: &'static str,
    sentence: String,
}

#[derive(Template)]
#[template(path = "again.html")]
struct AgainPage {
    href: String,
}

/// Makes a page of a problem.
pub fn dress(web: &Web, parts: &Parts, problem: Problem, status: StatusCode) -> Response {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    if problem.kind == ErrorKind::Unauthorized && parts.method == Method::GET {
        return ask_for_login(parts, path);
    }
    let nobody = Caller { may_read: false, may_change: false, by_cookie: false };
    let caller = auth::identify(&web.config, parts).unwrap_or(nobody);
    let title = match problem.kind {
        ErrorKind::NotFound => "Not found",
        ErrorKind::Invalid => "That cannot be",
        ErrorKind::Conflict => "Not now",
        ErrorKind::Unauthorized => "Log in first",
        ErrorKind::Forbidden => "Not from there",
        ErrorKind::Unavailable => "Not available",
        ErrorKind::Internal | ErrorKind::Unknown => "Something broke",
    };
    let template =
        ProblemPage { frame: Frame::bare("", caller), title, sentence: problem.sentence };
    let page = pages::page(&template).unwrap_or_else(Problem::into_response);
    let mut response = (status, page).into_response();
    *response.status_mut() = status;
    response
}

/// To the login page, with the way back. Who comes from a link elsewhere may well be logged in:
/// browsers leave a strict cookie at home then, and bring it when our own page asks once more.
fn ask_for_login(parts: &Parts, path: &str) -> Response {
    let is = |name: &str, value: &str| parts.headers.get(name).is_some_and(|given| given == value);
    if is("sec-fetch-site", "cross-site") && is("sec-fetch-mode", "navigate") {
        let template = AgainPage { href: links::local_path(path).to_owned() };
        return pages::page(&template).unwrap_or_else(Problem::into_response);
    }
    Redirect::to(&format!("/login?next={}", links::encode(path))).into_response()
}
