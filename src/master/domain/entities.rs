//! The things the domain owns, as they are remembered: one struct for a row of each table.
//!
//! A `Record` carries one whole; the store writes it over the one before. What lives only in
//! memory (connections, heartbeats) stands beside these in the machines that own it.

use std::sync::Arc;

use crate::master::domain::pipeline::ChangeEvent;
use crate::master::domain::pipeline::Concurrency;
use crate::master::domain::pipeline::JobSpec;
use crate::model::attempt::AttemptRef;
use crate::model::ids::AttemptId;
use crate::model::ids::BuildId;
use crate::model::ids::BuildNumber;
use crate::model::ids::ChangeId;
use crate::model::ids::CloudId;
use crate::model::ids::Commit;
use crate::model::ids::Fence;
use crate::model::ids::InstanceId;
use crate::model::ids::JobId;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;
use crate::model::ids::WorkerName;
use crate::model::inputs::GivenInputs;
use crate::model::money::Money;
use crate::model::status::BuildStatus;
use crate::model::status::InstanceStatus;
use crate::model::status::JobStatus;
use crate::model::status::WorkerFate;
use crate::model::status::WorkerStatus;
use crate::model::step::StepOutcome;
use crate::model::time::Timestamp;

/// A push that was seen and has not become a build yet. Forgotten once it has, or was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its identity.
    pub id: ChangeId,
    /// Whose repository.
    pub project: ProjectName,
    /// Which ref moved.
    pub ref_name: RefName,
    /// Where it moved to.
    pub commit: Commit,
    /// When it was seen.
    pub seen_at: Timestamp,
}

/// One execution of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Its identity.
    pub id: BuildId,
    /// Whose build.
    pub project: ProjectName,
    /// What people call it.
    pub number: BuildNumber,
    /// Where it stands.
    pub status: BuildStatus,
    /// Why it is red without a job being so (a broken pipeline file); the text is for people.
    pub reason: Option<String>,
    /// What started it.
    pub event: ChangeEvent,
    /// The ref it was started for.
    pub ref_name: RefName,
    /// What it builds.
    pub commit: Commit,
    /// The commit's subject line.
    pub subject: String,
    /// The commit's author, as git prints it.
    pub author: String,
    /// `name:` of the pipeline file.
    pub pipeline_name: Option<String>,
    /// What it was started with, where somebody started it and its pipeline takes inputs.
    pub inputs: GivenInputs,
    /// How many builds like it may run at a time; nothing: any number.
    pub concurrency: Option<Concurrency>,
    /// Whether its turn has come in its concurrency group, if it has one: until then its jobs wait.
    pub has_turn: bool,
    /// When it came to be.
    pub created_at: Timestamp,
    /// When its first job started.
    pub started_at: Option<Timestamp>,
    /// When its last job ended.
    pub finished_at: Option<Timestamp>,
}

/// One job of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its identity.
    pub id: JobId,
    /// Of which build.
    pub build: BuildId,
    /// What it does. Never changes after the job was made.
    pub spec: Arc<JobSpec>,
    /// Where it stands.
    pub status: JobStatus,
    /// Why it waits, or why it ended so; a sentence for people.
    pub reason: Option<String>,
    /// How many attempts have started.
    pub attempts: u32,
    /// How many of those ended as an infrastructure failure since somebody last asked for the job.
    pub infra_failures: u32,
    /// How many attempts were given out and never began, since somebody last asked for the job.
    pub unstarted: u32,
    /// It has lost an attempt to the spot market: the next one is to run where that cannot happen.
    pub avoids_spot: bool,
    /// The fence of the newest attempt.
    pub fence: Fence,
    /// The newest attempt; the logs that people see are its.
    pub attempt: Option<AttemptId>,
    /// Who has it, or had it last.
    pub worker: Option<WorkerName>,
    /// Since when it could run: the scheduler's order.
    pub queued_at: Option<Timestamp>,
    /// When its newest attempt started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// One try of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its identity and fence.
    pub id: AttemptRef,
    /// Of which job.
    pub job: JobId,
    /// Counted from 1 within the job.
    pub number: u32,
    /// Who was given it.
    pub worker: WorkerName,
    /// Where it stands.
    pub state: AttemptState,
    /// When it was given out.
    pub assigned_at: Timestamp,
    /// When the agent took it.
    pub started_at: Option<Timestamp>,
    /// When it ended, by the master's clock.
    pub finished_at: Option<Timestamp>,
    /// Set once somebody wants it ended: when to stop waiting for the agent to do so.
    pub cancelling: bool,
}

/// Where an attempt stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptState {
    /// Given out; the agent has not said that it has it.
    Assigned,
    /// The agent has it.
    Started,
    /// Every step that had to pass did.
    Passed,
    /// A step failed.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It could not be carried out; the sentence says why.
    Infra(String),
}

/// One step of one attempt, from when it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRun {
    /// Of which attempt.
    pub attempt: AttemptId,
    /// 0 is the checkout; the steps of the file follow.
    pub step: u32,
    /// What people see.
    pub name: String,
    /// How it ended; nothing: it runs.
    pub outcome: Option<StepOutcome>,
    /// When it started, by the worker's clock.
    pub started_at: Timestamp,
    /// How long it took, by the worker's monotonic clock.
    pub duration_ms: Option<u64>,
    /// How many bytes its log holds once complete.
    pub log_bytes: Option<u64>,
    /// Whether the log stopped short of that.
    pub log_incomplete: bool,
}

/// A named agent, and what binds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its name, `BB_NAME`.
    pub name: WorkerName,
    /// Of which pool.
    pub pool: PoolName,
    /// The launch its password is derived from.
    pub launch: LaunchId,
    /// The machine it runs on; nothing: a machine of one's own.
    pub instance: Option<InstanceId>,
    /// Where it stands.
    pub status: WorkerStatus,
    /// Why it waits or ended; a sentence for people.
    pub reason: Option<String>,
    /// Whose agent may speak for it.
    pub enrolment: Enrolment,
    /// The machine's boot id at its last connection; a new one means a reboot.
    pub boot_id: Option<String>,
    /// How its bootstrap script stands.
    pub bootstrapped: bool,
    /// The only project it serves, once it has served one and its pool is not shared.
    pub project: Option<ProjectName>,
    /// How many attempts it was given.
    pub jobs_given: u32,
    /// What it is at.
    pub attempt: Option<AttemptRef>,
    /// What is to become of it.
    pub fate: WorkerFate,
    /// When the cloud takes its machine away, once that is known.
    pub taken_at: Option<Timestamp>,
    /// The last that its agent had to say of the machine (disk, memory, spot), and when.
    pub notice: Option<(Timestamp, String)>,
    /// When it came to be.
    pub created_at: Timestamp,
    /// Since when it is idle.
    pub idle_since: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// Whose agent may speak for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrolment {
    /// Nobody has used its password; after this moment nobody may (nothing: no limit).
    Unused {
        /// When the password dies unused.
        expires_at: Option<Timestamp>,
    },
    /// The agent that holds this Ed25519 key (32 bytes), on this instance.
    Bound {
        /// The public key.
        public_key: Vec<u8>,
        /// What the agent said its instance is; empty for local and own machines.
        instance_claim: String,
        /// The highest epoch seen.
        epoch: u64,
    },
    /// Two keys came with a valid proof: nobody may any more.
    Alarmed,
}

/// A row of the ledger: one launch, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its identity.
    pub id: InstanceId,
    /// The launch: what the provisioner's tag or mark carries.
    pub launch: LaunchId,
    /// Of which pool.
    pub pool: PoolName,
    /// The worker it was started for.
    pub worker: WorkerName,
    /// Where it stands.
    pub status: InstanceStatus,
    /// Which of the pool's candidates it is.
    pub candidate: u32,
    /// Whose address and volumes it has, where its pool has any: no two instances have one seat.
    pub seat: Option<u32>,
    /// What was asked for, for people: type, place, image.
    pub what: Option<String>,
    /// What an hour of it costs, as it was when it was asked for; nothing: not known.
    pub price_per_hour: Option<Money>,
    /// The whole request, until it is known what came of it: a try whose outcome is unknown is made
    /// again with the same bytes. With a seat: until all that belongs to it is there.
    pub request: Option<String>,
    /// What the provisioner calls it, once it has said so.
    pub cloud_id: Option<CloudId>,
    /// Why it was started; a sentence.
    pub why_started: String,
    /// Why it was ended; a sentence.
    pub why_ended: Option<String>,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When it was first known that the provisioner had accepted; where the answer was lost, the machine may have come
    /// up before.
    pub accepted_at: Option<Timestamp>,
    /// When it came up: when it says that it did, or else was first seen up.
    pub running_at: Option<Timestamp>,
    /// When its agent first called.
    pub contact_at: Option<Timestamp>,
    /// When its worker became ready.
    pub ready_at: Option<Timestamp>,
    /// When we decided to end it.
    pub ending_at: Option<Timestamp>,
    /// When it was gone.
    pub ended_at: Option<Timestamp>,
    /// Its launch and each of its later starts, in order: what one pays for.
    pub runs: Vec<InstanceRun>,
}

/// A stretch of an instance's life in which it ran: from its launch, or from a start after a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRun {
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// When the machine came up: when it says that it did, or else was first seen up.
    pub started_at: Option<Timestamp>,
    /// When its worker was ready for jobs.
    pub ready_at: Option<Timestamp>,
    /// When it was asked to end or to stop, if its provisioner says so, or else was first seen not to run any more;
    /// of one that never ran: when that was given up.
    pub ended_at: Option<Timestamp>,
    /// What its provisioner calls this start; nothing: no listing has shown it yet.
    pub start: Option<String>,
}

/// What is remembered of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// Which pool.
    pub name: PoolName,
    /// Why it launches nothing; nothing: it does. A sentence for people.
    pub paused: Option<String>,
    /// What lets it launch again, while it is paused.
    pub resumes: Resumes,
    /// How many launches in a row ended before their worker was ready.
    pub failures: u32,
}

/// What lets a paused pool launch again. Somebody who asks for it always does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resumes {
    /// Nothing else.
    #[default]
    WhenAsked,
    /// The permission that was missing.
    WhenPermitted,
    /// A complete listing of its machines.
    WhenListed,
    /// Nothing else, and until then its machines are neither started nor ended: what is remembered
    /// of them may be old.
    WhenConfirmed,
}

/// What a project's jobs have cost on one day (UTC): that on which their attempts ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectDay {
    /// Whose jobs.
    pub project: ProjectName,
    /// Counted from 1970-01-01.
    pub day: u64,
    /// As far as is known.
    pub cost: Money,
    /// Whether some ran on instances whose price is not known.
    pub in_part: bool,
}
