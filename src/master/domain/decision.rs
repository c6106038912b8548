//! What the domain answers: what to remember, what to do, and what to tell whoever asked.

use crate::master::domain::budget::Scope;
use crate::master::domain::entities::Attempt;
use crate::master::domain::entities::Build;
use crate::master::domain::entities::Change;
use crate::master::domain::entities::Instance;
use crate::master::domain::entities::Job;
use crate::master::domain::entities::PoolState;
use crate::master::domain::entities::ProjectDay;
use crate::master::domain::entities::StepRun;
use crate::master::domain::entities::Worker;
use crate::master::domain::forecast::JobTime;
use crate::master::domain::forecast::PoolForecast;
use crate::master::domain::mail::Recipients;
use crate::model::attempt::AttemptRef;
use crate::model::attempt::AttemptSpec;
use crate::model::ids::BuildNumber;
use crate::model::ids::ChangeId;
use crate::model::ids::CloudId;
use crate::model::ids::Commit;
use crate::model::ids::ConnectionId;
use crate::model::ids::InstanceId;
use crate::model::ids::JobName;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;
use crate::model::ids::WorkerName;
use crate::model::inputs::GivenInputs;
use crate::model::time::Timestamp;

/// The answer to one event. `remember` is committed before anything of `perform` is done.
#[derive(Debug, Default)]
pub struct Decision {
    /// Rows to write, all in one transaction.
    pub remember: Vec<Record>,
    /// What to do then, in order. Each is idempotent: a crash may repeat or drop it.
    pub perform: Vec<Action>,
    /// Whom to answer then.
    pub answers: Vec<(ReplyId, Answer)>,
}

/// A row to write over the one of the same identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Where a ref of a project was last seen; nothing: it is gone.
    Ref(ProjectName, RefName, Option<Commit>),
    /// From now on, what moves in this project starts builds.
    Baseline(ProjectName),
    /// A change waits to become a build.
    Change(Change),
    /// A change has become one, or was left out.
    ChangeDone(ChangeId),
    /// A build.
    Build(Build),
    /// A job.
    Job(Job),
    /// An attempt.
    Attempt(Attempt),
    /// A step.
    Step(StepRun),
    /// A worker.
    Worker(Worker),
    /// A row of the ledger.
    Instance(Instance),
    /// A pool.
    Pool(PoolState),
    /// What a project's jobs have cost on one day.
    ProjectDay(ProjectDay),
    /// Somebody was told, on this day (counted from 1970-01-01), that a budget is spent.
    BudgetTold(Scope, u64),
    /// What was learned of a pool.
    PoolForecast(PoolForecast),
    /// How long a job of a project takes.
    JobTime(JobTime),
    /// It was not seen for long, and made room for another.
    JobTimeForgotten(ProjectName, JobName),
}

/// Something for an adapter to do. What comes of it returns as an `Event`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Find out what a change is: its commit, subject, author and what its pipeline file says.
    /// Answered by `ChangeResolved` or `ChangeUnresolved`.
    ResolveChange(Unresolved),
    /// Read a finished build and its jobs from the store; answered by `BuildLoaded`.
    LoadBuild {
        /// Whose build.
        project: ProjectName,
        /// Which.
        number: BuildNumber,
    },
    /// Settle what a launch will ask for; answered by `LaunchPrepared` or `LaunchFailed`.
    Prepare {
        /// The ledger's row.
        instance: InstanceId,
        /// The launch, also the idempotency token.
        launch: LaunchId,
        /// From which pool's settings.
        pool: PoolName,
        /// Under which name its agent calls.
        worker: WorkerName,
        /// Which of the pool's candidates.
        candidate: u32,
        /// Whose address and volumes it gets, where its pool has any.
        seat: Option<u32>,
        /// When nobody can want the machine any more.
        expires_at: Timestamp,
    },
    /// Start a machine by a request that is remembered; answered by `InstanceAccepted` or
    /// `LaunchFailed`.
    Launch {
        /// The ledger's row.
        instance: InstanceId,
        /// The launch, also the idempotency token.
        launch: LaunchId,
        /// From which pool's settings.
        pool: PoolName,
        /// Under which name its agent calls.
        worker: WorkerName,
        /// What `LaunchPrepared` brought.
        request: String,
    },
    /// See to it that what was there before a machine, and stays when it is gone, belongs to it;
    /// answered by `InstanceEquipped` or `EquipFailed`.
    Equip {
        /// The ledger's row.
        instance: InstanceId,
        /// The launch.
        launch: LaunchId,
        /// Of which pool.
        pool: PoolName,
        /// What the provisioner calls it.
        cloud_id: CloudId,
        /// What `LaunchPrepared` brought.
        request: String,
    },
    /// Stop a machine, and keep its disk. Answered by a listing that shows it so, or by `StopFailed`.
    Stop {
        /// The ledger's row.
        instance: InstanceId,
        /// The launch.
        launch: LaunchId,
        /// Of which pool.
        pool: PoolName,
        /// What the provisioner calls it.
        cloud_id: CloudId,
    },
    /// Start a machine that was stopped; answered by `InstanceAccepted` or `LaunchFailed`.
    Start {
        /// The ledger's row.
        instance: InstanceId,
        /// The launch.
        launch: LaunchId,
        /// Of which pool.
        pool: PoolName,
        /// What the provisioner calls it.
        cloud_id: CloudId,
    },
    /// End a machine, whether or not we know what the provisioner calls it.
    /// Answered by `InstanceEnded`, or by a listing that shows it so.
    Terminate {
        /// The ledger's row; nothing: a machine that is ours by its mark, but in no row.
        instance: Option<InstanceId>,
        /// The launch.
        launch: LaunchId,
        /// Of which pool.
        pool: PoolName,
        /// What the provisioner calls it, where known.
        cloud_id: Option<CloudId>,
        /// The worker into whose boot log the machine's console goes first: nothing else was ever
        /// heard of it.
        console_for: Option<WorkerName>,
        /// How much time it is given.
        urgency: Urgency,
    },
    /// Ask, without launching anything, whether a pool may launch again; answered by `Probed`.
    Probe {
        /// Which pool.
        pool: PoolName,
        /// A launch that never is.
        launch: LaunchId,
        /// A worker that never is.
        worker: WorkerName,
        /// When nobody could want its machine any more.
        expires_at: Timestamp,
    },
    /// Keep the console of a machine that ended before its agent called.
    KeepConsole {
        /// The launch.
        launch: LaunchId,
        /// Of which pool.
        pool: PoolName,
        /// What the provisioner calls it.
        cloud_id: CloudId,
        /// In whose boot log.
        worker: WorkerName,
    },
    /// Ask the provisioner of a pool what exists; answered by `CloudListed`.
    ListInstances(PoolName),
    /// Tell an agent something, on the connection where it now is.
    Tell {
        /// Which worker.
        worker: WorkerName,
        /// On which connection: a message for an older one is dropped.
        connection: ConnectionId,
        /// What to tell it.
        message: ToAgent,
    },
    /// Close an agent's connection after a farewell.
    Disconnect {
        /// Which connection.
        connection: ConnectionId,
        /// Why; for the agent's log.
        sentence: String,
    },
    /// Something a person must look at.
    Alarm(String),
    /// Tell somebody by mail, if there is a mail server.
    Mail {
        /// Whom.
        to: Recipients,
        /// One line.
        subject: String,
        /// The rest.
        text: String,
    },
}

/// How much time a machine is given to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    /// It may shut down in order.
    #[default]
    Orderly,
    /// Nothing on it is trusted: its power is cut.
    AtOnce,
    /// It was asked long ago and has not ended: it is made to.
    Forced,
}

/// A change about which only this much is known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// Its identity.
    pub change: ChangeId,
    /// Whose repository.
    pub project: ProjectName,
    /// What was asked for.
    pub wanted: Wanted,
}

/// What a change asks to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This commit, which a ref was seen at.
    Push {
        /// The ref.
        ref_name: RefName,
        /// The commit.
        commit: Commit,
    },
    /// A branch, tag, full ref or commit as somebody typed it; nothing: the remote's HEAD.
    Manual {
        /// Which.
        reference: Option<String>,
        /// What its pipeline is to be given.
        inputs: GivenInputs,
    },
}

/// What the master's domain tells an agent. Welcome, acks of logs and heartbeats are the channel's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToAgent {
    /// Run the pool's bootstrap script (the adapter knows its URL and hash).
    Bootstrap,
    /// Carry out an attempt (again, after a reconnect: it is idempotent).
    Run(Box<AttemptSpec>),
    /// End an attempt.
    Cancel(AttemptRef),
    /// Forget an attempt and all its files: it is stale, or its result is here.
    Forget(AttemptRef),
    /// Take no further attempt.
    Drain,
    /// End for good; the machine goes away.
    Shutdown {
        /// Why; for the agent's log.
        sentence: String,
    },
}

/// Whom to answer, chosen by who sent the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId(pub u64);

/// What whoever asked is told, after the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is so now.
    Done,
    /// A build was started.
    BuildStarted(ProjectName, BuildNumber),
    /// A worker was added: its password is derived from this launch.
    WorkerAdded(WorkerName, LaunchId),
    /// An agent's greeting was accepted.
    Welcome(Welcome),
    /// An agent should call again soon: its launch is not committed yet.
    CallAgain(String),
    /// It is not so, and will not be.
    Refused(Refusal),
}

/// What an accepted agent must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The pool's lease: how long a running attempt outlives silence.
    pub lease: std::time::Duration,
}

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of what kind: for exit codes and HTTP statuses.
    pub kind: RefusalKind,
    /// What, why, and what to do; for people.
    pub sentence: String,
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// There is no such thing.
    NotFound,
    /// It cannot be done as things stand.
    Conflict,
    /// What was asked for is wrong in itself.
    Invalid,
    /// Something outside did not answer.
    Unavailable,
}
