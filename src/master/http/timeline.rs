//! The life of an instance as stretches of time, each with its word: what the pictures draw and the API
//! tells. Pure.

use crate::master::domain::entities::AttemptState;
use crate::master::domain::entities::Instance;
use crate::master::store::work::Work;
use crate::model::time::Timestamp;

/// What an instance is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch<'w> {
    /// It was asked for, and the provisioner has not taken the request.
    Asked,
    /// It was accepted, and is not up.
    Starts,
    /// It is up, and its agent has not called.
    Boots,
    /// Its agent runs the bootstrap script.
    Prepares,
    /// It is ready, without a job.
    Idles,
    /// It has a job.
    Works(&'w Work),
    /// So many jobs, and the time between them.
    Many(usize),
    /// It is stopped, and kept.
    Stopped,
    /// It was asked to start again, and its worker is not ready.
    StartsAgain,
    /// It was told to end.
    Ends,
}

/// A stretch of an instance's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<'w> {
    /// What it was at.
    pub stretch: Stretch<'w>,
    /// Since when.
    pub from: Timestamp,
    /// Until when, or until now.
    pub until: Timestamp,
    /// Whether it goes on.
    pub is_open: bool,
}

impl Stretch<'_> {
    /// For people.
    pub fn word(&self) -> String {
        match self {
            Stretch::Asked => "asked for".to_owned(),
            Stretch::Starts => "starts".to_owned(),
            Stretch::Boots => "boots".to_owned(),
            Stretch::Prepares => "prepares".to_owned(),
            Stretch::Idles => "idle".to_owned(),
            Stretch::Works(work) => {
                let retry = match work.attempt {
                    0 | 1 => String::new(),
                    attempt => format!(", attempt {attempt}"),
                };
                let job = work.job.as_ref().map(|job| format!(" {job}")).unwrap_or_default();
                format!("{} #{}{job}{retry}", work.project, work.number)
            }
            Stretch::Many(jobs) => format!("{jobs} jobs"),
            Stretch::Stopped => "stopped".to_owned(),
            Stretch::StartsAgain => "starts again".to_owned(),
            Stretch::Ends => "ends".to_owned(),
        }
    }

    /// The class that draws it.
    pub fn class(&self) -> &'static str {
        match self {
            Stretch::Asked => "asked",
            Stretch::Starts => "starts",
            Stretch::Boots => "boots",
            Stretch::Prepares => "prepares",
            Stretch::Idles => "idles",
            Stretch::Works(work) => match work.state {
                AttemptState::Failed | AttemptState::Infra(_) => "works bad",
                AttemptState::Assigned
                | AttemptState::Started
                | AttemptState::Passed
                | AttemptState::Cancelled => "works",
            },
            Stretch::Many(_) => "works",
            Stretch::Stopped => "stopped",
            Stretch::StartsAgain => "boots",
            Stretch::Ends => "ends",
        }
    }
}

/// When an instance's life was over: a launch that failed has no machine whose end could be seen.
pub fn end(instance: &Instance) -> Option<Timestamp> {
    let known = [instance.ending_at, instance.accepted_at].into_iter().flatten().next();
    let is_over = instance.status.is_final();
    instance.ended_at.or_else(|| is_over.then_some(known.unwrap_or(instance.requested_at)))
}

/// The stretches of an instance's life, in order and without a gap.
pub fn spans<'w>(instance: &Instance, work: &'w [Work], now: Timestamp) -> Vec<Span<'w>> {
    let over = end(instance);
    let last = over.unwrap_or(now).max(instance.requested_at);
    // An agent may call before a listing has shown its machine up.
    let up_at = match (instance.running_at, instance.contact_at) {
        (Some(running), Some(contact)) => Some(running.min(contact)),
        (running, _) => running,
    };
    let turns = [
        (Some(instance.requested_at), Stretch::Asked),
        (instance.accepted_at, Stretch::Starts),
        (up_at, Stretch::Boots),
        (instance.contact_at, Stretch::Prepares),
        (instance.ready_at, Stretch::Idles),
        (instance.ending_at, Stretch::Ends),
    ];
    let mut turns: Vec<(Timestamp, Stretch<'w>)> =
        turns.into_iter().filter_map(|(at, stretch)| Some((at?, stretch))).collect();
    // Moments of other clocks, and ones that were set: no stretch is shorter than nothing.
    let mut latest = instance.requested_at;
    for (at, _) in &mut turns {
        latest = latest.max(*at).min(last);
        *at = latest;
    }
    let mut spans = Vec::new();
    for (index, (from, stretch)) in turns.iter().enumerate() {
        let next = turns.get(index + 1).map(|(at, _)| *at);
        let until = next.unwrap_or(last);
        let is_open = next.is_none() && over.is_none();
        match stretch {
            Stretch::Idles => ready(*from, until, is_open, work, &mut spans),
            _ if *from == until && !is_open => {}
            stretch => spans.push(Span { stretch: *stretch, from: *from, until, is_open }),
        }
    }
    rests(instance, last).into_iter().fold(spans, lay_over)
}

/// The stretches in which it did not run though it was kept, and in which it came back.
fn rests(instance: &Instance, last: Timestamp) -> Vec<Span<'static>> {
    let span = |stretch, from, until: Option<Timestamp>| Span {
        stretch,
        from,
        until: until.unwrap_or(last),
        is_open: until.is_none(),
    };
    let mut rests = Vec::new();
    for (index, run) in instance.runs.iter().enumerate() {
        if index > 0 {
            let back = run.ready_at.or(run.ended_at).or(instance.ending_at);
            rests.push(span(Stretch::StartsAgain, run.asked_at, back));
        }
        if let Some(stopped) = run.ended_at {
            let next = instance.runs.get(index + 1).map(|next| next.asked_at);
            rests.push(span(Stretch::Stopped, stopped, next.or(instance.ending_at)));
        }
    }
    rests
}

/// What looked idle was another stretch.
fn lay_over<'w>(spans: Vec<Span<'w>>, over: Span<'w>) -> Vec<Span<'w>> {
    let parts = spans.into_iter().flat_map(|span| {
        let (from, until) = (over.from.max(span.from), over.until.min(span.until));
        let is_open = over.is_open && span.is_open;
        if span.stretch != Stretch::Idles || (from >= until && !is_open) {
            return vec![span];
        }
        let before = Span { until: from, is_open: false, ..span };
        let after = Span { from: until, is_open: span.is_open && !is_open, ..span };
        let ends = [before, Span { from, until, is_open, ..over }, after];
        ends.into_iter().filter(|part| part.from < part.until || part.is_open).collect()
    });
    parts.collect()
}

/// The time in which it was ready: its jobs, and what lies between them.
fn ready<'w>(
    from: Timestamp,
    until: Timestamp,
    is_open: bool,
    work: &'w [Work],
    spans: &mut Vec<Span<'w>>,
) {
    let mut at = from;
    for one in work {
        if one.until.is_some_and(|until| until <= at) {
            continue;
        }
        let (begins, ends) = (one.from.max(at), one.until.unwrap_or(until).min(until));
        if begins >= until {
            break;
        }
        if begins > at {
            spans.push(Span { stretch: Stretch::Idles, from: at, until: begins, is_open: false });
        }
        let goes_on = one.until.is_none() && is_open;
        at = ends.max(begins);
        spans.push(Span {
            stretch: Stretch::Works(one),
            from: begins,
            until: at,
            is_open: goes_on,
        });
    }
    if at < until || (is_open && work.last().is_none_or(|one| one.until.is_some())) {
        spans.push(Span { stretch: Stretch::Idles, from: at, until, is_open });
    }
}
