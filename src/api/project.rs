//! Projects.

use serde::Deserialize;
use serde::Serialize;

/// The projects of the master's file, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectList {
    /// All of them.
    pub projects: Vec<Project>,
}

/// A repository the master knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Its repository, without a password that its URL may carry.
    pub repo: String,
    /// What its jobs have cost today (UTC), estimated: dollars, exact; nothing: not known, or nothing.
    pub cost_today: Option<String>,
    /// The same for this month.
    pub cost_this_month: Option<String>,
    /// Whether jobs ran on instances of unknown price this month as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cost_in_part: bool,
    /// Its newest build, without the jobs' steps; nothing: it has none.
    pub last_build: Option<crate::api::build::Build>,
}
