//! The pipeline file as it is typed. These types decode it, and the JSON Schema is made of them.
//!
//! What is specified but not built is listed at the end; it is refused, never ignored.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::master::pipeline_file::need::Need;
use crate::runtime::config_file::decode::Later;
use crate::runtime::config_file::duration::Span;
use crate::runtime::config_file::globs::Pattern;
use crate::runtime::config_file::placed::At;
use crate::runtime::config_file::placed::CommandText;
use crate::runtime::config_file::placed::Entries;
use crate::runtime::config_file::placed::ScalarText;
use crate::runtime::config_file::words::Label;
use crate::runtime::config_file::words::Title;

/// The pipeline file of a repository: what Busybee builds, and when.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PipelineFile {
    /// The version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: At<u32>,
    /// What people call the pipeline.
    pub name: Option<Title>,
    /// What starts a build. Without it: every push to a watched branch or tag. `busybee build
    /// start` always does.
    pub triggers: Option<Triggers>,
    /// Variables for every step. Their values may hold CEL expressions: `${{ event.branch }}`,
    /// `${{ event.inputs.dry_run }}`.
    pub env: Option<Entries<At<ScalarText>>>,
    /// How many builds of a group run at a time. A build whose turn has not come starts no job.
    pub concurrency: Option<ConcurrencyFile>,
    /// What holds for jobs that do not say otherwise.
    pub defaults: Option<Defaults>,
    /// The jobs, by name.
    #[schemars(extend("minProperties" = 1, "propertyNames" = { "pattern": "^[a-z0-9_-]{1,64}$" }))]
    pub jobs: At<Entries<JobFile>>,
}

/// What starts a build: what is not named here does not, but a start by hand always does.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Triggers {
    /// New commits on a branch, or a new tag.
    pub push: Option<PushTrigger>,
    /// Starts by hand, which are always possible: what they may be given.
    pub manual: Option<ManualTrigger>,
}

/// What a start by hand may be given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ManualTrigger {
    /// What whoever starts a build chooses with `busybee build start PROJECT --input NAME=VALUE`,
    /// by name. Conditions and variables see it as `event.inputs.NAME`.
    #[schemars(extend(
        "maxProperties" = 32, "propertyNames" = { "pattern": "^[a-z][a-z0-9_]{0,63}$" }
    ))]
    pub inputs: Option<Entries<InputFile>>,
}

/// An input: what whoever starts a build by hand chooses.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InputFile {
    /// What it may be. Without it: `string`.
    #[serde(rename = "type")]
    pub kind: Option<At<InputType>>,
    /// Its value where nobody says otherwise. Without it, a start by hand must; builds that nobody
    /// started by hand see `false`, or an empty text.
    pub default: Option<At<ScalarText>>,
    /// What it is for.
    pub description: Option<String>,
    /// What a `choice` is of.
    #[schemars(length(min = 1, max = 64))]
    pub options: Option<At<Vec<At<ScalarText>>>>,
}

/// What an input may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum InputType {
    /// `true` or `false`.
    Boolean,
    /// A text of up to 1 KiB.
    String,
    /// One of `options`.
    Choice,
}

/// Which pushes start a build. Neither key: all that the project watches.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PushTrigger {
    /// Patterns for branches; with `tags` alone, no branch.
    pub branches: Option<Vec<Pattern>>,
    /// Patterns for tags; with `branches` alone, no tag.
    pub tags: Option<Vec<Pattern>>,
}

/// A group of builds, or of jobs, of which only so many run at a time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConcurrencyFile {
    /// The group's name: what has the same in this project is in one group. It may hold CEL
    /// expressions: `${{ pipeline.name }}-${{ event.ref }}`. Groups of builds and of jobs are two.
    pub group: At<ScalarText>,
    /// How many of it run at a time. Without it: 1.
    #[schemars(range(min = 1, max = 256))]
    pub limit: Option<At<u32>>,
    /// What becomes of one more. Without it: `queue`.
    pub on_new: Option<OnNewWord>,
}

/// What becomes of one that comes while as many of its group run as may.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnNewWord {
    /// It waits for its turn; builds that came earlier go first.
    Queue,
    /// It takes the place of those before it, which are cancelled.
    Cancel,
    /// It is left out: a build is cancelled, a job is skipped.
    Skip,
}

/// What holds for jobs that do not say otherwise.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Defaults {
    /// Labels that a worker must offer; without it: the first pool.
    pub worker: Option<Vec<Label>>,
    /// How long a job may take: `30m`. Without it: one hour.
    pub timeout: Option<At<Span>>,
    /// How often a job is given out again.
    pub retry: Option<Retry>,
}

/// How often a job is given out again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    /// After a lost worker or another failure of the infrastructure. Without it: twice.
    #[schemars(range(max = 10))]
    pub infra: Option<At<u32>>,
}

/// A job: what runs on one worker.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobFile {
    /// Jobs that must have passed before this one starts.
    pub needs: Option<Vec<At<Need>>>,
    /// Labels that its worker must offer.
    pub worker: Option<Vec<Label>>,
    /// How long all of it may take.
    pub timeout: Option<At<Span>>,
    /// Whether the commit is checked out first. Without it: yes.
    pub checkout: Option<bool>,
    /// `keep`: what an earlier build left in a warm workspace stays.
    pub workspace: Option<Workspace>,
    /// Variables for its steps.
    pub env: Option<Entries<At<ScalarText>>>,
    /// Secrets of the project that its steps get as variables; the master's file names them under
    /// `secret_files`. What the steps print of them is hidden.
    #[schemars(length(max = 32))]
    pub secrets: Option<Vec<At<String>>>,
    /// How often it is given out again.
    pub retry: Option<Retry>,
    /// How many jobs of a group run at a time. A job whose turn has not come has no worker.
    pub concurrency: Option<ConcurrencyFile>,
    /// What it does, in order.
    #[schemars(length(min = 1))]
    pub steps: At<Vec<StepFile>>,
}

/// What becomes of a warm workspace before the checkout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Workspace {
    /// Files that are not git's are removed.
    Clean,
    /// Everything stays.
    Keep,
}

/// A step: one script.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepFile {
    /// The script, given to the shell as it stands.
    pub run: At<CommandText>,
    /// What people call it. Without it: the first line of the script.
    pub name: Option<Title>,
    /// Variables for this step.
    pub env: Option<Entries<At<ScalarText>>>,
    /// How long it may take. Without it: as long as the job may.
    pub timeout: Option<At<Span>>,
    /// Who reads the script: `sh -e`, or `bash -eo pipefail`.
    pub shell: Option<ShellWord>,
    /// After what it runs, as a CEL expression: `failure()`, `event.branch == "main"`,
    /// `!event.inputs.dry_run`. Without it: after success.
    pub when: Option<At<String>>,
}

/// Who reads a script.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ShellWord {
    /// `sh -e`
    Sh,
    /// `bash -eo pipefail`
    Bash,
}

/// What is specified, but not built yet.
pub(super) const LATER: Later = &[
    ("PipelineFile", &["secrets", "matrix", "services", "cache"]),
    ("Triggers", &["pull_request", "schedule"]),
    ("PushTrigger", &["paths", "paths_ignore"]),
    ("Defaults", &["services", "cache", "secrets", "fail_fast"]),
    ("Retry", &["attempts", "exit_codes"]),
    (
        "JobFile",
        &["matrix", "services", "cache", "artifacts", "outputs", "reports", "when", "fail_fast"],
    ),
    ("StepFile", &["use", "retry"]),
];
