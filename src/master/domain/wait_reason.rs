//! Why a job waits: the scheduler's own reason as a type, and the one place that puts it into words.
//!
//! A sentence tells moments, and of which day, not how long something has been or will be: it is written
//! down once and must not go stale, overnight neither.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::master::domain::budget::BudgetHold;
use crate::master::domain::doing;
use crate::master::domain::doing::Doing;
use crate::model::ids::BuildNumber;
use crate::model::ids::JobName;
use crate::model::ids::PoolName;
use crate::model::ids::WorkerName;
use crate::model::labels::Labels;
use crate::model::time::Timestamp;

/// Names that a sentence lists at most.
const NAMES_MAX: usize = 4;

/// Why a job waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// Jobs that it needs have not passed yet.
    Needs(Vec<JobName>),
    /// Others of its concurrency group come first.
    Turn {
        /// The group's name.
        group: String,
        /// How many of it run at a time: the lowest limit of it and of those before it.
        limit: u32,
        /// The one that it follows in line, or the last of those that run; whether the group is of builds or of jobs, it says as well.
        before: Place,
    },
    /// The master's file names no pool.
    NoPool,
    /// No pool offers what it asks for.
    NoPoolOffers(Labels),
    /// A worker was given it, and has not begun.
    Given {
        /// Which.
        worker: WorkerName,
        /// When.
        at: Timestamp,
    },
    /// It was given to workers that never began it, and now waits for this.
    NeverBegun {
        /// How often.
        times: u64,
        /// What it waits for now.
        now: Box<WaitReason>,
    },
    /// The first pool that could run it starts nothing, and another does what it can.
    Instead {
        /// The first.
        of: PoolName,
        /// What it waits for in the other.
        now: Box<WaitReason>,
    },
    /// The master's disk is full: how it stands.
    DiskFull(String),
    /// Somebody paused the pool, or it paused itself.
    Paused {
        /// Which.
        pool: PoolName,
        /// Who or what did it, and why.
        why: String,
    },
    /// The budget of a day is spent.
    Budget(BudgetHold),
    /// The pool launches nothing for a while.
    Held {
        /// Which.
        pool: PoolName,
        /// Why.
        hold: LaunchHold,
        /// What failed, in the provisioner's own words.
        why: Option<String>,
        /// When it is tried again.
        again: Timestamp,
    },
    /// Machines are on their way.
    Launching {
        /// To which pool.
        pool: PoolName,
        /// How many.
        count: usize,
        /// The one that was asked for first.
        first: Arriving,
        /// How long the pool's last ones took from then until they were ready.
        usually: Option<Duration>,
        /// What keeps the pool from launching more; or why the last launch failed.
        besides: Option<Box<Besides>>,
    },
    /// No more machines are launched for it, and none of those that there are is free for it.
    Full {
        /// Which.
        pool: PoolName,
        /// What the machines are at that may run.
        machines: BTreeMap<Doing, usize>,
        /// How many there may be.
        max: u32,
        /// Since when the longest of its jobs runs.
        longest: Option<Timestamp>,
    },
    /// A pool of machines of one's own, and none is free.
    NoneFree {
        /// Which.
        pool: PoolName,
        /// Workers at a job.
        busy: usize,
        /// Workers that are not connected, or not ready.
        away: usize,
        /// Why the last that came was of no use.
        why: Option<String>,
    },
}

/// A build, or one of its jobs, among others of its project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which build.
    pub build: BuildNumber,
    /// Which job; nothing: all of the build.
    pub job: Option<JobName>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.job {
            Some(job) => write!(f, "{job} of build {}", self.build),
            None => write!(f, "build {}", self.build),
        }
    }
}

/// What keeps a pool from launching for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchHold {
    /// There is no room for any of these.
    NoRoom(Vec<String>),
    /// The account may not have more.
    Quota,
    /// The last launch failed.
    Failure,
    /// Agents that have lost their connection are given time to call again.
    Agents,
}

/// A machine that is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arriving {
    /// Its candidate, by its name.
    pub what: Option<String>,
    /// When it was asked for.
    pub since: Timestamp,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a machine has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It was asked for.
    Asked,
    /// The provisioner has taken the request.
    Boots,
    /// Its agent runs the bootstrap script.
    Prepares,
}

/// What there is to say beside machines that are on their way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Besides {
    /// No more can be launched.
    Hold(WaitReason),
    /// There may be no more machines than there are.
    Full {
        /// How many there are.
        machines: usize,
        /// How many there may be.
        max: u32,
    },
    /// Why the last launch failed.
    Failed(String),
}

impl WaitReason {
    /// The same without what changes all the time and is told along with other news only.
    pub fn gist(&self) -> WaitReason {
        let mut gist = self.clone();
        match &mut gist {
            WaitReason::Full { longest, machines, .. } => {
                *longest = None;
                if !doing::all_work(machines) {
                    machines.clear();
                }
            }
            WaitReason::Launching { usually, .. } => *usually = None,
            WaitReason::NeverBegun { now, .. } | WaitReason::Instead { now, .. } => {
                **now = now.gist();
            }
            WaitReason::Needs(_)
            | WaitReason::Turn { .. }
            | WaitReason::NoPool
            | WaitReason::NoPoolOffers(_)
            | WaitReason::Given { .. }
            | WaitReason::DiskFull(_)
            | WaitReason::Paused { .. }
            | WaitReason::Budget(_)
            | WaitReason::Held { .. }
            | WaitReason::NoneFree { .. } => {}
        }
        gist
    }

    /// In words.
    pub fn sentence(&self) -> String {
        match self {
            WaitReason::Needs(jobs) => {
                let names: Vec<String> = jobs.iter().map(ToString::to_string).collect();
                let have = if names.len() == 1 { "has" } else { "have" };
                format!("needs {}, which {have} not passed yet", listed(&names))
            }
            WaitReason::Turn { group, limit, before } => {
                let noun = if before.job.is_some() { "job" } else { "build" };
                let limit = plural(*limit as usize, noun);
                format!("{before} comes first: group \"{group}\" runs {limit} at a time")
            }
            WaitReason::NoPool => "the master's file has no pool".to_owned(),
            WaitReason::NoPoolOffers(labels) => format!("no pool offers the labels {labels}"),
            WaitReason::Given { worker, at } => {
                format!("given to {worker} at {}, which has not begun it yet", moment(at))
            }
            WaitReason::NeverBegun { times, now } => {
                let times = if *times == 1 { "once".to_owned() } else { format!("{times} times") };
                format!("given out {times} and never begun; now: {}", now.sentence())
            }
            WaitReason::Instead { of, now } => {
                format!("pool \"{of}\" could start nothing for it; {}", now.sentence())
            }
            WaitReason::DiskFull(why) => why.clone(),
            WaitReason::Paused { pool, why } => format!("pool \"{pool}\" is paused: {why}"),
            WaitReason::Budget(hold) => hold.sentence(),
            WaitReason::Held { pool, hold, why, again } => {
                held(pool, hold, why.as_deref(), &moment(again))
            }
            WaitReason::Launching { pool, count, first, usually, besides } => {
                let usually = usually.map(|time| format!("; usually ready after {}", about(time)));
                let besides = besides.as_deref().map(|besides| match besides {
                    Besides::Hold(hold) => format!("; no more now: {}", hold.sentence()),
                    Besides::Full { machines, max } => {
                        format!("; no more now: {machines} of {max} machines")
                    }
                    Besides::Failed(why) => format!("; the last launch failed: {why}"),
                });
                format!(
                    "starting {} in pool \"{pool}\": {}{}{}",
                    plural(*count, "worker"),
                    arriving(first, *count, &moment(&first.since)),
                    usually.unwrap_or_default(),
                    besides.unwrap_or_default(),
                )
            }
            WaitReason::Full { pool, machines, max, longest } => {
                let longest = longest.as_ref();
                let longest = longest
                    .map(|at| format!("; the longest of its jobs runs since {}", moment(at)));
                format!("{}{}", doing::full(pool, machines, *max), longest.unwrap_or_default())
            }
            WaitReason::NoneFree { pool, busy, away, why } => {
                let why = why.as_deref().map(|why| format!("; the last that came failed: {why}"));
                let why = why.unwrap_or_default();
                let how = match (busy, away) {
                    (0, 0) => return format!("pool \"{pool}\" has no worker yet{why}"),
                    (busy, 0) => format!("{busy} busy"),
                    (0, away) => format!("{away} not connected"),
                    (busy, away) => format!("{busy} busy, {away} not connected"),
                };
                format!("no worker of pool \"{pool}\" is free ({how}){why}")
            }
        }
    }
}

fn held(pool: &PoolName, hold: &LaunchHold, why: Option<&str>, again: &str) -> String {
    let because = why.map(|why| format!(": {why}")).unwrap_or_default();
    match hold {
        LaunchHold::NoRoom(candidates) => {
            let which = match candidates.is_empty() {
                true => "a machine".to_owned(),
                false => listed(candidates),
            };
            format!(
                "there is no room for {which} (pool \"{pool}\"){because}; tried again at {again}"
            )
        }
        LaunchHold::Quota => {
            format!(
                "pool \"{pool}\" may have no more machines just now{because}; tried again at {again}"
            )
        }
        LaunchHold::Failure => {
            format!("the last launch of pool \"{pool}\" failed{because}; tried again at {again}")
        }
        LaunchHold::Agents => format!(
            "a worker of pool \"{pool}\" is not connected and may call again; another is started at {again}"
        ),
    }
}

fn arriving(first: &Arriving, count: usize, since: &str) -> String {
    let what = match (&first.what, count) {
        (Some(what), _) => what.as_str(),
        (None, 1) => "it",
        (None, _) => "the first",
    };
    match first.stage {
        Stage::Asked => format!("{what} was asked for at {since}"),
        Stage::Boots => format!("{what}, asked for at {since}, boots"),
        Stage::Prepares => format!("{what}, asked for at {since}, runs its bootstrap script"),
    }
}

/// `2026-01-31 14:03:10 UTC`.
fn moment(at: &Timestamp) -> String {
    let text = at.to_string();
    let (date, time) = (text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default());
    format!("{date} {time} UTC")
}

/// Roughly how long.
fn about(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{} s", seconds.max(1)),
        seconds => format!("{} min", (seconds + 30) / 60),
    }
}

/// `a`, `a and b`, `a, b and 3 more`.
fn listed(names: &[String]) -> String {
    let shown = if names.len() > NAMES_MAX { NAMES_MAX - 1 } else { names.len().saturating_sub(1) };
    let (shown, rest) = names.split_at_checked(shown).unwrap_or((names, &[]));
    let last = match rest {
        [] => return shown.join(", "),
        [last] => last.clone(),
        rest => format!("{} more", rest.len()),
    };
    if shown.is_empty() { last } else { format!("{} and {last}", shown.join(", ")) }
}

/// `1 job`, `2 jobs`.
pub(super) fn plural(count: usize, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests;
