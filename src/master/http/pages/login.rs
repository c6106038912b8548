//! Logging in: the token, once, in a form; then a cookie that no script can read.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::response::Redirect;
use axum::response::Response;
use serde::Deserialize;

use crate::master::caller::Scheme;
use crate::master::http::Web;
use crate::master::http::auth;
use crate::master::http::auth::Caller;
use crate::master::http::error::Problem;
use crate::master::http::links;
use crate::master::http::pages;
use crate::master::http::pages::Frame;
use crate::master::http::query;
use crate::runtime::clock;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: Frame,
    next: String,
    wrong: bool,
}

/// Where to go after a login.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Next {
    #[serde(default)]
    next: String,
}

/// What the form sends.
#[derive(Deserialize)]
pub struct Login {
    token: String,
    #[serde(default)]
    next: String,
}

/// `GET /login`
pub async fn form(uri: Uri) -> Result<Response, Problem> {
    let next: Next = query::parse(&uri)?;
    pages::page(&login_page(&next.next, false))
}

/// `POST /login`
pub async fn submit(
    State(web): State<Arc<Web>>,
    parts: Parts,
    form: Result<Form<Login>, FormRejection>,
) -> Result<Response, Problem> {
    let login = query::form(form)?;
    auth::check_origin(&parts, false)?;
    if !auth::token_matches(&web.config.token_hash, login.token.trim()) {
        let page = pages::page(&login_page(&login.next, true))?;
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    }
    let cookie = auth::login_cookie(&web.config, clock::now(), is_secure(&parts));
    let next = Redirect::to(links::local_path(&login.next));
    Ok(([(header::SET_COOKIE, cookie)], next).into_response())
}

/// `POST /logout`
pub async fn leave(State(web): State<Arc<Web>>, parts: Parts) -> Result<Response, Problem> {
    auth::check_origin(&parts, true)?;
    let cookie = auth::logout_cookie(&web.config, is_secure(&parts));
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response())
}

fn login_page(next: &str, wrong: bool) -> LoginPage {
    let nobody = Caller { may_read: false, may_change: false, by_cookie: false };
    LoginPage {
        frame: Frame::bare("login", nobody),
        next: links::local_path(next).to_owned(),
        wrong,
    }
}

/// Whether the cookie may be bound to TLS: it came over ours, or over that of a proxy before us,
/// which the browser names. Plain HTTP is answered on loopback only.
fn is_secure(parts: &Parts) -> bool {
    let origin = parts.headers.get(header::ORIGIN);
    let origin_is_https = origin.is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    origin_is_https || parts.extensions.get() == Some(&Scheme::Https)
}
