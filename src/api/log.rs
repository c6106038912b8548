//! How to ask for a log. The answer is its raw bytes: no prefix, no header line, nothing decoded.
//!
//! With `job` and `step` it is one step's log; with `job` alone the logs of its steps one after
//! the other; with neither those of all jobs, in the order of the file. Each is the job's newest
//! attempt, unless `attempt` names one: then that one's and those of all later ones. The answer's
//! header [`ATTEMPT_HEADER`] says with which attempt it begins (with `job` only).
//!
//! `follow=true` keeps the answer open until the step, the job or the build is over. To go on after
//! a cut, ask again with `attempt` from the header and `offset` grown by the bytes received.

use serde::Deserialize;
use serde::Serialize;

/// Names the attempt, counted from 1 within the job, that the bytes begin with.
pub const ATTEMPT_HEADER: &str = "busybee-attempt";

/// Which log of a build, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// Which job; nothing: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Which step, by its number (0 is the checkout) or its name; nothing: all of them. Needs `job`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// With which attempt to begin, counted from 1. Needs `job`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// How many bytes to leave out at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// `true`: go on until it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
}

/// From where of a worker's boot log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootLogQuery {
    /// How many bytes to leave out at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// `true`: go on until the bootstrap script has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
}
