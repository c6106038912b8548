//! Builds, their jobs and steps.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

/// One execution of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Whose build.
    pub project: String,
    /// Its number within the project.
    pub number: u64,
    /// `queued running passed failed cancelled infra`.
    pub status: String,
    /// Why it is red without a job being so: the text of a broken pipeline file.
    pub reason: Option<String>,
    /// The full ref: `refs/heads/main`.
    #[serde(rename = "ref")]
    pub ref_name: String,
    /// The short branch; nothing for a tag or a bare commit.
    pub branch: Option<String>,
    /// The full commit.
    pub commit: String,
    /// The commit's subject.
    pub subject: String,
    /// The commit's author, as git prints it.
    pub author: String,
    /// `push` or `manual`.
    pub event: String,
    /// `name:` of the pipeline file.
    pub pipeline: Option<String>,
    /// What it was started with, where somebody started it and its pipeline takes inputs.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// Its concurrency group, if it is in one.
    #[serde(default)]
    pub group: Option<String>,
    /// When it came to be.
    pub created_at: String,
    /// When its first job started.
    pub started_at: Option<String>,
    /// When its last job ended.
    pub finished_at: Option<String>,
    /// What its jobs have cost so far, estimated: dollars, exact; nothing: not known, or nothing. Absent in
    /// lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
    /// Whether some of them ran on instances of unknown price as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cost_in_part: bool,
    /// In the order of the file.
    pub jobs: Vec<Job>,
    /// Its page.
    pub url: String,
}

/// One job of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// `waiting queued running passed failed cancelled infra skipped`.
    pub status: String,
    /// Who has it, or had it last.
    pub worker: Option<String>,
    /// How many attempts have started.
    pub attempts: u32,
    /// Why it waits, or why it ended so.
    pub reason: Option<String>,
    /// The jobs it needs.
    pub needs: Vec<String>,
    /// Its concurrency group, if it is in one of its own.
    #[serde(default)]
    pub group: Option<String>,
    /// Since when it could run.
    pub queued_at: Option<String>,
    /// When its newest attempt started.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// What its attempts have cost so far, estimated: dollars, exact; nothing: not known, or nothing. Absent
    /// in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
    /// Whether some of them ran on instances of unknown price as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cost_in_part: bool,
    /// The steps of its newest attempt that have started; absent in lists of builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<Step>>,
}

/// One step of a job's newest attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// 0 is the checkout; the steps of the file follow.
    pub step: u32,
    /// What people see.
    pub name: String,
    /// `running passed failed cancelled infra skipped`.
    pub status: String,
    /// How it ended, in words, where it did not pass: `exit code 2`, `signal 11`, `out of time`.
    pub reason: Option<String>,
    /// Its exit code, where it ended by itself.
    pub exit_code: Option<i32>,
    /// When it started, by the worker's clock.
    pub started_at: String,
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// How many bytes its log holds once complete.
    pub log_bytes: Option<u64>,
    /// Whether the log here stops short of that.
    pub log_incomplete: bool,
}

/// A page of builds, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildList {
    /// The builds, without the jobs' steps.
    pub builds: Vec<Build>,
    /// `before` of the next page; nothing: this is the last.
    pub next: Option<u64>,
}

/// Which builds. As a query string.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildQuery {
    /// Only those of this branch (short name). Only within a project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Only those before this: the `next` of the page before, which means nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// How many at most, 1 to 100; 20 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// What to build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartBuild {
    /// A branch, tag, full ref or commit; nothing: the remote's HEAD.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Values for the pipeline's inputs, by name: `{"dry_run": "true"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
}

/// What to run again of a finished build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryBuild {
    /// Only the jobs that did not pass, and those that need them.
    #[serde(default)]
    pub failed_only: bool,
}

/// What a build is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRef {
    /// Whose build.
    pub project: String,
    /// Which.
    pub number: u64,
    /// Its page.
    pub url: String,
}
