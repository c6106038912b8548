//! Everything that can happen to a master: a closed set.

use std::time::Duration;

use crate::master::domain::decision::ReplyId;
use crate::master::domain::entities::Build;
use crate::master::domain::entities::Job;
use crate::master::domain::pipeline::Planned;
use crate::model::attempt::AttemptOutcome;
use crate::model::attempt::AttemptRef;
use crate::model::ids::BuildNumber;
use crate::model::ids::ChangeId;
use crate::model::ids::CloudId;
use crate::model::ids::Commit;
use crate::model::ids::ConnectionId;
use crate::model::ids::InstanceId;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;
use crate::model::ids::WorkerName;
use crate::model::inputs::GivenInputs;
use crate::model::money::Money;
use crate::model::step::StepOutcome;
use crate::model::time::Timestamp;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A timeout came, or the master just started.
    Tick,
    /// The master's disk takes no more: nothing new begins until it does.
    DiskFull(
        /// How it stands, for people.
        String,
    ),
    /// It has room again.
    DiskHasRoom,
    /// A repository was asked, and these are all of its watched refs.
    RefsListed {
        /// Which project.
        project: ProjectName,
        /// Every branch and tag the project watches, and where it stands.
        refs: Vec<(RefName, Commit)>,
    },
    /// A change's commit and pipeline file were read.
    ChangeResolved(ChangeId, Resolved),
    /// They could not be.
    ChangeUnresolved {
        /// Which change.
        change: ChangeId,
        /// Why, for people.
        sentence: String,
        /// Whether trying again can help (the repository is down) or not (no such ref).
        worth_retrying: bool,
    },
    /// Somebody asked for something.
    Asked(ReplyId, Request),
    /// The answer to `Action::LoadBuild`; nothing: there is no such build.
    BuildLoaded {
        /// Whose build.
        project: ProjectName,
        /// Which.
        number: BuildNumber,
        /// What the store has.
        found: Option<Box<LoadedBuild>>,
    },
    /// A provisioner took a launch.
    InstanceAccepted {
        /// Which.
        instance: InstanceId,
        /// What it calls the machine.
        cloud_id: CloudId,
    },
    /// What a launch will ask for is settled; nothing was asked yet.
    LaunchPrepared {
        /// Which.
        instance: InstanceId,
        /// The whole request, as the provisioner wants it back.
        request: String,
        /// What it asks for, for people.
        what: String,
        /// What an hour of it costs, as far as is known.
        price_per_hour: Option<Money>,
    },
    /// A launch, or its preparation, did not work.
    LaunchFailed {
        /// Which.
        instance: InstanceId,
        /// Why, in the provisioner's own words where it has any.
        sentence: String,
        /// What follows from it.
        failure: LaunchFailure,
    },
    /// All that belongs to a machine is there.
    InstanceEquipped {
        /// Which.
        instance: InstanceId,
    },
    /// It is not, or not yet.
    EquipFailed {
        /// Which.
        instance: InstanceId,
        /// Why, in the provisioner's own words where it has any.
        sentence: String,
        /// What follows from it; `Unsettled`: it is asked for again.
        failure: LaunchFailure,
    },
    /// A machine cannot be stopped; whether it will at all is not worth another try.
    StopFailed {
        /// Which.
        instance: InstanceId,
        /// Why, in the provisioner's own words.
        sentence: String,
    },
    /// A provisioner has seen a machine end.
    InstanceEnded {
        /// Which.
        instance: InstanceId,
        /// Why, where it says so.
        sentence: Option<String>,
    },
    /// What exists in a pool, completely.
    CloudListed {
        /// Which pool.
        pool: PoolName,
        /// When the listing was asked for: what was launched later may be missing.
        asked_at: Timestamp,
        /// All machines that carry our mark.
        machines: Vec<Machine>,
    },
    /// Launches of which no machine has come, and one still may.
    RequestsOpen {
        /// Of which pool.
        pool: PoolName,
        /// Which.
        launches: Vec<LaunchId>,
    },
    /// A listing failed; nothing is known.
    CloudUnlisted {
        /// Which pool.
        pool: PoolName,
        /// Why.
        sentence: String,
    },
    /// A provisioner will not end a machine: a person protects it, or took a permission away.
    EndRefused {
        /// Which.
        instance: InstanceId,
        /// Why, in the provisioner's own words.
        sentence: String,
    },
    /// The answer to `Action::Probe`.
    Probed {
        /// Which pool.
        pool: PoolName,
        /// Why a launch would still be refused; nothing: it would not.
        refusal: Option<String>,
    },
    /// Something came over the agent channel.
    Agent(AgentEvent),
}

/// A machine as a provisioner lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// What the provisioner calls it.
    pub cloud_id: CloudId,
    /// The launch it is marked with.
    pub launch: LaunchId,
    /// Where it stands; ended ones may be listed for a while.
    pub state: MachineState,
    /// When it was last started, in the provisioner's words: other words mean another start.
    pub started: Option<String>,
    /// When somebody last asked it to stop or to end, if the provisioner says so: by its clock, in whole seconds.
    pub asked_to_end_at: Option<Timestamp>,
    /// Why it is so, in the provisioner's words, where it is not as it should be.
    pub reason: Option<String>,
    /// Who or what ended it, where it has ended.
    pub cause: EndCause,
}

/// Who or what ended a machine that we had not asked to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndCause {
    /// Nobody knows, or it has not ended.
    #[default]
    Unknown,
    /// It was accepted, and then there was no room for it.
    NoRoom,
    /// The cloud took it back: it was lent.
    SpotTaken,
    /// The cloud retired what it ran on.
    Retired,
    /// Something of the cloud's failed.
    CloudFault,
    /// The account may not have what it is made of.
    Limit,
    /// It cannot live as it was asked for: its disk's snapshot or key is not to be had.
    DiedAtOnce,
    /// It shut itself down.
    Itself,
    /// Somebody ended it, by hand or with another program.
    ByHand,
}

/// Where a machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineState {
    /// It was accepted and is not up yet.
    Starting,
    /// It is up, or in a state that we do not know.
    Running,
    /// It is being ended.
    Ending,
    /// It is being stopped.
    Stopping,
    /// It is kept without running.
    Stopped,
    /// It is gone.
    Ended,
}

/// What follows from a launch that did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchFailure {
    /// There is no room for this candidate just now: another, and this one later.
    Capacity,
    /// Its whole place is full: a candidate of another.
    PlaceFull,
    /// This candidate does not exist there: another, and this one tomorrow.
    Unsupported,
    /// There is no such place: another, and a person should look.
    NoSuchPlace,
    /// The account may not have more that is lent: for a while only what is its own.
    SpotQuota,
    /// The account may not have more of it: another kind once, then wait.
    Quota,
    /// The account may not have more of what a machine is made of: wait, longer each time.
    Limit,
    /// We may not do it: a person must look, and it is asked now and then whether we may.
    Denied,
    /// The request is wrong: a person must look.
    Invalid,
    /// The image is gone since its name was looked up: look it up again, once.
    ImageGone,
    /// It was accepted and has ended at once, and will again: a person must look, after two of them.
    DiedAtOnce,
    /// Nobody knows whether it was carried out: the same again, later.
    Unsettled,
    /// There is no machine, for another reason.
    Other,
}

/// What a change turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The full ref.
    pub ref_name: RefName,
    /// The commit.
    pub commit: Commit,
    /// Its subject line.
    pub subject: String,
    /// Its author, as git prints it: `Ada <ada@example.com>`.
    pub author: String,
    /// What its pipeline file says.
    pub planned: Planned,
}

/// A finished build, to be taken up again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedBuild {
    /// The build.
    pub build: Build,
    /// Its jobs, in order.
    pub jobs: Vec<Job>,
}

/// What people ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Start a build. Answered once the ref is resolved and the build made.
    StartBuild {
        /// Of which project.
        project: ProjectName,
        /// Branch, tag, ref or commit; nothing: the remote's HEAD.
        reference: Option<String>,
        /// What its pipeline is to be given.
        inputs: GivenInputs,
    },
    /// End a build's jobs.
    CancelBuild(ProjectName, BuildNumber),
    /// Run a finished build's jobs again.
    RetryBuild {
        /// Whose build.
        project: ProjectName,
        /// Which.
        number: BuildNumber,
        /// Only those that did not pass, and those that need them.
        failed_only: bool,
    },
    /// Let a pool launch nothing.
    PausePool(PoolName),
    /// Let it launch again.
    ResumePool(PoolName),
    /// Let a worker finish its job and take no other.
    DrainWorker(WorkerName),
    /// End a worker, and its job as an infrastructure failure.
    StopWorker(WorkerName),
    /// Add a machine of one's own to a pool.
    AddWorker(WorkerName, PoolName),
}

/// What comes from agents. The channel has checked proofs; who speaks is the connection's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentEvent {
    /// An agent greets, with a valid proof. Answered: Welcome, CallAgain or Refused.
    Hello {
        /// Whom to answer.
        reply: ReplyId,
        /// Who it is.
        worker: WorkerName,
        /// On which connection.
        connection: ConnectionId,
        /// What it proved, and what it says of itself.
        hello: AgentHello,
    },
    /// What an agent has, told once after each greeting.
    Inventory {
        /// Who.
        worker: WorkerName,
        /// On which connection.
        connection: ConnectionId,
        /// Whether its bootstrap script has passed already.
        bootstrapped: bool,
        /// The attempts whose files it holds.
        attempts: Vec<InventoryItem>,
        /// For how long its machine has been up; zero: it does not say.
        up: Duration,
    },
    /// An agent's regular word. Changes memory, not disk.
    Heartbeat {
        /// Who.
        worker: WorkerName,
        /// On which connection.
        connection: ConnectionId,
    },
    /// The bootstrap script ended.
    BootstrapFinished {
        /// Who.
        worker: WorkerName,
        /// On which connection.
        connection: ConnectionId,
        /// How: a pass makes the worker ready.
        outcome: StepOutcome,
        /// The last lines it printed, for the reason of the waiting job.
        tail: String,
    },
    /// An attempt is in the agent's hands.
    AttemptAccepted(WorkerName, AttemptRef),
    /// The agent will not take it.
    AttemptRejected {
        /// Who.
        worker: WorkerName,
        /// Which.
        attempt: AttemptRef,
        /// Why.
        sentence: String,
    },
    /// A step started.
    StepStarted {
        /// Who.
        worker: WorkerName,
        /// Of which attempt.
        attempt: AttemptRef,
        /// Which.
        step: u32,
        /// When, by the worker's clock.
        started_at: Timestamp,
    },
    /// A step ended, and its log is here (or never will be whole).
    StepFinished {
        /// Who.
        worker: WorkerName,
        /// Of which attempt.
        attempt: AttemptRef,
        /// What is known of it.
        result: StepResult,
    },
    /// An attempt ended, after all its steps.
    AttemptFinished {
        /// Who.
        worker: WorkerName,
        /// Which.
        attempt: AttemptRef,
        /// How.
        outcome: AttemptOutcome,
    },
    /// A connection ended.
    Disconnected {
        /// Who.
        worker: WorkerName,
        /// Which connection: an older one's end means nothing.
        connection: ConnectionId,
    },
    /// An agent has something to say of its machine (disk, memory).
    Noticed {
        /// Who.
        worker: WorkerName,
        /// On which connection.
        connection: ConnectionId,
        /// What; for people.
        sentence: String,
    },
    /// An agent has heard that the cloud takes its machine away.
    Interrupted {
        /// Who.
        worker: WorkerName,
        /// On which connection.
        connection: ConnectionId,
        /// How long the machine is there at least.
        ends_in: Duration,
        /// What the cloud says; for people.
        sentence: String,
    },
    /// An agent says that it ends for good (told so, or its timer came).
    Leaving {
        /// Who.
        worker: WorkerName,
        /// Why.
        sentence: String,
    },
}

/// What a greeting agent proved, and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentHello {
    /// Whether it proved the launch's password (first contact) or its key (resume).
    pub proof: Proof,
    /// Its Ed25519 key.
    pub public_key: Vec<u8>,
    /// Grows with each start of the agent's process.
    pub epoch: u64,
    /// What it says its instance is; empty for local and own machines.
    pub instance_claim: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// The agent's version, for people.
    pub version: String,
}

/// How an agent proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It holds the password of the worker's launch.
    Password,
    /// It signed with the key it names.
    Key,
}

/// An attempt whose files an agent holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InventoryItem {
    /// Which.
    pub attempt: AttemptRef,
    /// Whether it has ended (its result follows) or still runs.
    pub finished: bool,
}

/// What is known of an ended step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepResult {
    /// Which; 0 is the checkout.
    pub step: u32,
    /// How it ended.
    pub outcome: StepOutcome,
    /// When it started, by the worker's clock.
    pub started_at: Timestamp,
    /// How long it took, by the worker's monotonic clock.
    pub duration_ms: u64,
    /// How many bytes it wrote to its log.
    pub log_bytes: u64,
    /// Whether the log here stops short of that.
    pub log_incomplete: bool,
}
