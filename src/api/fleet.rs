//! Workers, pools and the ledger of instances.

use serde::Deserialize;
use serde::Serialize;

/// The workers that are alive, by name; then, where asked for, the last hundred that went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerList {
    /// The workers.
    pub workers: Vec<Worker>,
}

/// Which workers. As a query string.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerQuery {
    /// `true`: also those that are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
}

/// A named agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// Of which pool.
    pub pool: String,
    /// `starting bootstrapping idle busy draining lost gone`.
    pub status: String,
    /// Why it waits or ended.
    pub reason: Option<String>,
    /// The ledger's row; nothing: a machine of one's own.
    pub instance: Option<u64>,
    /// The only project it serves, once it has served one.
    pub project: Option<String>,
    /// How many attempts it was given.
    pub jobs_given: u32,
    /// When it came to be.
    pub created_at: String,
    /// Since when it is idle.
    pub idle_since: Option<String>,
    /// When it ends at the latest if nothing comes (sooner, where several idle); only while it is idle
    /// and above its pool's `min_idle`.
    pub idle_until: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// The ledger's row with its moments; only where one worker is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Instance>,
    /// The last that its agent had to say of the machine: disk, memory, spot.
    #[serde(default)]
    pub notice: Option<String>,
}

/// A machine of one's own, to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddWorker {
    /// Its name: `[a-z0-9][a-z0-9-]{0,62}`.
    pub name: String,
    /// To which pool; its provisioner must be `none`.
    pub pool: String,
}

/// A worker that was added, with what its agent must be told.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerAdded {
    /// Its name.
    pub name: String,
    /// Of which pool.
    pub pool: String,
    /// The lines `BB_…=…` for its environment, the password among them. Shown once.
    pub environment: Vec<String>,
}

impl std::fmt::Debug for WorkerAdded {
    /// Leaves the password out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WorkerAdded({} in {})", self.name, self.pool)
    }
}

/// The pools of the master's file, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolList {
    /// All of them.
    pub pools: Vec<Pool>,
}

/// Settings from which workers are made, and how that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// What its workers offer.
    pub labels: Vec<String>,
    /// `local`, `none`, later `ec2`.
    pub provisioner: String,
    /// Whether it launches nothing.
    pub paused: bool,
    /// Why it is paused.
    pub reason: Option<String>,
    /// How many launches in a row ended before their worker was ready.
    pub failures: u32,
    /// Workers that are not gone.
    pub workers: u32,
    /// Those of them that are idle.
    pub idle: u32,
    /// Those of them whose machine is stopped, and is started again when it is needed.
    #[serde(default)]
    pub stopped: u32,
    /// Never more than this.
    pub max_instances: u32,
    /// This many are kept ready without work.
    pub min_idle: u32,
    /// What it may spend in a day (UTC): dollars, exact; nothing: no limit.
    pub daily_budget: Option<String>,
    /// What it has spent today (UTC), estimated: dollars, exact; nothing: nothing that is known.
    pub spent_today: Option<String>,
    /// Whether instances of unknown price have run today as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spent_in_part: bool,
    /// The budget, its own or that of all, that keeps it from launching, in words.
    pub budget_hold: Option<String>,
    /// How long its machines take from the decision to start one to a ready worker, in milliseconds; nothing
    /// where none was seen, or no pool looks ahead.
    pub boot_ms: Option<u64>,
    /// What came of looking ahead; nothing where it does not.
    pub look_ahead: Option<LookAhead>,
}

/// What came of machines that were started for jobs which did not wait yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookAhead {
    /// Those that served.
    pub hits: u64,
    /// Those that ended without a job.
    pub misses: u64,
    /// Those of which that is not known yet.
    pub open: u32,
}

/// A page of the ledger, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceList {
    /// The rows.
    pub instances: Vec<Instance>,
    /// `before` of the next page; nothing: this is the last.
    pub next: Option<u64>,
}

/// Which instances. As a query string.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceQuery {
    /// `true`: also those that have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// Only those before this: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// How many at most, 1 to 100; 50 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A row of the ledger: one launch, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its number in the ledger.
    pub id: u64,
    /// Of which pool.
    pub pool: String,
    /// The worker it was started for.
    pub worker: String,
    /// `requested pending running stopping stopped terminating terminated failed`.
    pub status: String,
    /// What the provisioner calls it.
    pub cloud_id: Option<String>,
    /// What was asked for: type, place, image.
    pub what: Option<String>,
    /// Why it was started.
    pub why_started: String,
    /// Why it was ended.
    pub why_ended: Option<String>,
    /// When it was asked for.
    pub requested_at: String,
    /// When it was first known that the provisioner had accepted; where the answer was lost, the machine may have come
    /// up before.
    pub accepted_at: Option<String>,
    /// When it came up: when it says that it did, or else was first seen up.
    pub running_at: Option<String>,
    /// When its agent first called.
    pub contact_at: Option<String>,
    /// When its worker became ready.
    pub ready_at: Option<String>,
    /// When we decided to end it.
    pub ending_at: Option<String>,
    /// When it was gone.
    pub ended_at: Option<String>,
    /// How many seconds of it one pays for until now: whole seconds begun, of all its starts, each of them
    /// for as long at least as its cloud bills.
    pub seconds: u64,
    /// Dollars for an hour of it, exact, as it was when it was asked for; nothing: not known.
    pub price_per_hour: Option<String>,
    /// What it has cost so far, estimated: dollars, exact; nothing: not known.
    pub cost: Option<String>,
    /// Its launch, and each start after it was stopped.
    #[serde(default)]
    pub runs: Vec<InstanceRun>,
    /// Its jobs, oldest first; of very many the newest.
    #[serde(default)]
    pub jobs: Vec<InstanceJob>,
}

/// A stretch in which an instance ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRun {
    /// When it was asked for.
    pub asked_at: String,
    /// When the machine came up: when it says that it did, or else was first seen up.
    pub started_at: Option<String>,
    /// When its worker was ready.
    pub ready_at: Option<String>,
    /// When it was asked to end or to stop, if its provisioner says so, or else was first seen not to run any more.
    pub ended_at: Option<String>,
}

/// An attempt that ran on an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceJob {
    /// Whose build.
    pub project: String,
    /// Which.
    pub number: u64,
    /// Which of its jobs.
    pub job: String,
    /// Counted from 1 within the job.
    pub attempt: u32,
    /// `assigned started passed failed cancelled infra`.
    pub state: String,
    /// When the worker was given it.
    pub from: String,
    /// When it ended; nothing: it goes on.
    pub until: Option<String>,
}
