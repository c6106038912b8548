//! What a pipeline means, once its file has been read and its conditions weighed for one change.
//!
//! How it is typed, its line numbers and hints are `master/pipeline_file`'s, which alone makes
//! these; the graph of `needs` has been checked there (every name exists, no cycle).

use std::time::Duration;

use crate::model::ids::JobName;
use crate::model::inputs::GivenInputs;
use crate::model::labels::Labels;
use crate::model::step::StepSpec;

/// The jobs of one build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pipeline {
    /// `name:` of the file.
    pub name: Option<String>,
    /// What it was started with, where somebody started it: every input with its value.
    pub inputs: GivenInputs,
    /// How many builds like it may run at a time; nothing: any number.
    pub concurrency: Option<Concurrency>,
    /// In the order of the file.
    pub jobs: Vec<JobSpec>,
}

/// A group of builds, or of jobs, of which only so many run at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// The group's name. Those of one project that have it stand in one line; a group of builds and one of
    /// jobs are two, whatever they are called.
    pub group: String,
    /// How many run at a time; at least 1. Where limits differ in a group, the lowest of one and of those before
    /// it holds.
    pub limit: u32,
    /// What becomes of one more.
    pub on_new: OnNew,
}

impl Concurrency {
    /// The highest limit there may be: with more, nobody has to wait.
    pub const LIMIT_MAX: u32 = 256;
}

/// What becomes of one that comes while as many of its group run as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNew {
    /// It waits for its turn, in the order of builds.
    Queue,
    /// It takes the place of those before it, which are cancelled.
    Cancel,
    /// It is left out.
    Skip,
}

impl OnNew {
    /// The word for it, in the pipeline file.
    pub fn as_str(self) -> &'static str {
        match self {
            OnNew::Queue => "queue",
            OnNew::Cancel => "cancel",
            OnNew::Skip => "skip",
        }
    }
}

/// One job: the unit that runs on one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    /// Its name, unique in the pipeline.
    pub name: JobName,
    /// The jobs that must have passed (or been skipped on purpose) before it starts.
    pub needs: Vec<JobName>,
    /// What its worker must offer; nothing: the first pool of the master's file.
    pub worker: Option<Labels>,
    /// The pipeline's and the job's variables, the job's last.
    pub env: Vec<(String, String)>,
    /// The names of the project's secrets that its steps get.
    pub secrets: Vec<String>,
    /// Whether the commit is checked out first.
    pub checkout: bool,
    /// `workspace: keep`: a warm workspace is not cleaned.
    pub keep_workspace: bool,
    /// How long all of it may take.
    pub timeout: Duration,
    /// How often it is given out again after an infrastructure failure. Only a started attempt counts.
    pub infra_retries: u32,
    /// How many jobs like it may run at a time; nothing: any number.
    pub concurrency: Option<Concurrency>,
    /// In order.
    pub steps: Vec<StepSpec>,
}

/// What the pipeline file of a commit says about one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned {
    /// It builds this.
    Pipeline(Pipeline),
    /// Its triggers leave this change out; the sentence says which.
    NotTriggered(String),
    /// It is missing or broken: the text is for people, with line, column and hints. Makes a red build.
    Broken(String),
}

/// What starts a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeEvent {
    /// New commits on a watched branch, or a new tag.
    Push,
    /// Somebody asked.
    Manual,
}

impl ChangeEvent {
    /// The word for it, in `event.name`, `BUSYBEE_EVENT`, the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeEvent::Push => "push",
            ChangeEvent::Manual => "manual",
        }
    }
}
