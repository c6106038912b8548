//! Pages: each file reads what one page needs and fills its template in `templates/`.
//!
//! A page is whole without script. `static/live.js` reads it again when something has changed and
//! takes over the parts marked `data-live`; it needs nothing but the same page.

use askama::Template;
use axum::response::Html;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::api::ErrorKind;
use crate::master::http::Web;
use crate::master::http::assets::Assets;
use crate::master::http::auth::Caller;
use crate::master::http::error::Problem;
use crate::master::http::words;
use crate::model::time::Timestamp;
use crate::runtime::clock;

pub mod build;
pub mod build_row;
pub mod change;
pub mod home;
pub mod instances;
pub mod login;
pub mod panel;
pub mod picture;
pub mod problem;
pub mod project;
pub mod workers;

/// What the frame around every page must know.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Where style, script and bee lie.
    pub assets: Assets,
    /// Which entry of the navigation is lit.
    pub section: &'static str,
    /// The event stream that says when to read the page again; empty: it does not change.
    pub events: String,
    /// What keeps the whole master from new work: it stands above every page.
    pub trouble: Option<String>,
    /// Whether buttons are shown.
    pub may_change: bool,
    /// Whether there is a login to leave.
    pub by_cookie: bool,
    /// The master's clock, by which durations tick.
    pub now: Timestamp,
    /// The program's version.
    pub version: &'static str,
}

impl Frame {
    /// The frame of a page in a section, for this caller.
    pub fn new(section: &'static str, caller: Caller, web: &Web) -> Frame {
        Frame { trouble: web.logs.disk_room().trouble(), ..Frame::bare(section, caller) }
    }

    /// The frame of a page for whoever comes: it tells nothing of the master.
    pub fn bare(section: &'static str, caller: Caller) -> Frame {
        Frame {
            trouble: None,
            assets: Assets::addresses(),
            section,
            events: String::new(),
            may_change: caller.may_change,
            by_cookie: caller.by_cookie,
            now: clock::now(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// The same, read again whenever this event stream says so.
    pub fn watching(self, events: impl Into<String>) -> Frame {
        Frame { events: events.into(), ..self }
    }
}

/// A filled template as a response.
fn page(template: &impl Template) -> Result<Response, Problem> {
    match template.render() {
        Ok(html) => Ok(Html(html).into_response()),
        Err(error) => {
            tracing::error!(%error, "failed to fill a page's template: {error}");
            Err(Problem::new(ErrorKind::Internal, "the master failed to make this page"))
        }
    }
}

/// A moment: for programs, whole, and as its age.
#[derive(Clone, Debug)]
pub struct Moment {
    /// RFC 3339.
    pub machine: String,
    /// For the tooltip.
    pub full: String,
    /// `3 min ago`.
    pub age: String,
}

impl Moment {
    /// How this moment reads now.
    pub fn new(at: Timestamp, now: Timestamp) -> Moment {
        Moment { machine: at.to_string(), full: words::moment(at), age: words::age(now, at) }
    }
}

/// How long something took, or has been going on.
#[derive(Clone, Debug, Default)]
pub struct Took {
    /// In words; empty: it has not begun.
    pub text: String,
    /// Milliseconds since 1970 at which it began, while it goes on: the script lets it tick.
    pub since: Option<u64>,
}

impl Took {
    /// Between two moments, or until now.
    pub fn between(from: Option<Timestamp>, until: Option<Timestamp>, now: Timestamp) -> Took {
        match (from, until) {
            (None, _) => Took::default(),
            (Some(from), Some(until)) => {
                Took { text: words::duration(until.since(from)), since: None }
            }
            (Some(from), None) => {
                Took { text: words::duration(now.since(from)), since: Some(from.0) }
            }
        }
    }
}

/// Something's name and its page.
#[derive(Clone, Debug)]
pub struct Link {
    /// What to show.
    pub name: String,
    /// Where it leads.
    pub href: String,
}
