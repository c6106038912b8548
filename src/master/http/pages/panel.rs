//! The dark box with a log in it: on a build's page and on a worker's.

use crate::master::http::Web;
use crate::master::http::error::Problem;
use crate::master::http::links;
use crate::master::http::log_tail::Source;
use crate::master::http::log_window;
use crate::master::http::log_window::LINES_MAX;
use crate::master::http::log_window::LogLine;
use crate::master::http::words;

/// What the box shows.
pub struct Panel {
    /// Which log it is, for the script: another key is another log.
    pub key: String,
    /// `test › unit`.
    pub title: String,
    /// How the step ended, where it did not pass.
    pub reason: Option<String>,
    /// How much there is.
    pub size: String,
    /// The whole log as bytes.
    pub raw_href: String,
    /// Where the lines go on as they come; nothing: no more will.
    pub stream_href: Option<String>,
    /// Lines before these.
    pub earlier: Option<More>,
    /// Lines after these.
    pub later: Option<More>,
    /// What a line's address begins with: `job:step:`.
    pub prefix: String,
    /// The lines.
    pub lines: Vec<LogLine>,
    /// A sentence below them.
    pub quiet: Option<String>,
}

/// A link to other lines.
pub struct More {
    /// Where.
    pub href: String,
    /// How many.
    pub text: String,
}

/// What a page knows of the log it shows.
pub struct Wanted {
    /// Whose log.
    pub source: Source,
    /// `test › unit`.
    pub title: String,
    /// How the step ended, where it did not pass.
    pub reason: Option<String>,
    /// What a line's address begins with.
    pub prefix: String,
    /// This page with this log, query begun: `…?job=test&step=1`, or ending in `?`.
    pub href: String,
    /// The whole log as bytes.
    pub raw_href: String,
    /// The stream of lines, its query begun like `href`'s.
    pub stream_href: String,
    /// From which line on; nothing: the last ones.
    pub from: Option<u64>,
    /// Whether the log stops short of what the step wrote.
    pub is_incomplete: bool,
}

/// Reads what the box shows.
///
/// # Errors
/// Store or log cannot be read.
pub async fn read(web: &Web, wanted: Wanted) -> Result<Panel, Problem> {
    // Asked first: what is over by now has all its bytes when they are read.
    let is_over = wanted.source.is_over(web).await?;
    let name = wanted.source.log_key();
    let address_bytes = 2 * wanted.prefix.len();
    let window = log_window::read(&web.logs, &name, wanted.from, address_bytes).await?;
    let stream_href = match window.end {
        Some(end) if !is_over => Some(format!("{}&at={}", wanted.stream_href, end.to_code())),
        Some(_) | None => None,
    };
    let first = window.lines.first().map_or(1, |line| line.number);
    let last = window.lines.last().map_or(0, |line| line.number);
    Ok(Panel {
        key: wanted.prefix.clone(),
        quiet: quiet(&wanted, window.lines.is_empty(), is_over),
        title: wanted.title,
        reason: wanted.reason,
        size: size(window.last_line, window.bytes),
        raw_href: wanted.raw_href,
        stream_href,
        earlier: earlier(&wanted.href, first),
        later: later(&wanted.href, last, window.last_line),
        prefix: wanted.prefix,
        lines: window.lines,
    })
}

fn size(lines: u64, bytes: u64) -> String {
    match lines {
        0 => String::new(),
        1 => format!("1 line, {}", words::size(bytes)),
        lines => format!("{lines} lines, {}", words::size(bytes)),
    }
}

fn quiet(wanted: &Wanted, is_empty: bool, is_over: bool) -> Option<String> {
    if wanted.is_incomplete {
        return Some("The log is incomplete: the worker was gone before all of it arrived.".into());
    }
    match (is_empty, is_over) {
        (true, true) => Some("It printed nothing.".into()),
        (true, false) => Some("Nothing printed yet.".into()),
        (false, _) => None,
    }
}

fn earlier(href: &str, first: u64) -> Option<More> {
    if first <= 1 {
        return None;
    }
    let from = first.saturating_sub(LINES_MAX).max(1);
    let text = format!("{} earlier lines", first - 1);
    Some(More { href: format!("{href}&from={from}"), text })
}

fn later(href: &str, last: u64, last_line: u64) -> Option<More> {
    let count = last_line.checked_sub(last).filter(|count| *count > 0)?;
    Some(More { href: format!("{href}&from={}", last + 1), text: format!("{count} later lines") })
}

/// What a line's address begins with.
pub fn prefix(job: &str, step: u32) -> String {
    format!("{}:{step}:", links::encode(job))
}
