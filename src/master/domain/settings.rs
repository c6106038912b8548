//! What the domain must know of the master's file. `master/config.rs` makes it.

use std::time::Duration;

use crate::master::domain::candidates::Candidate;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::labels::Labels;
use crate::model::money::Money;

/// The whole of it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// In the order of the file; the first serves jobs that ask for no labels.
    pub pools: Vec<PoolSettings>,
    /// In the order of the file.
    pub projects: Vec<ProjectSettings>,
    /// What people use in a browser, without a slash at its end; for `BUSYBEE_URL`.
    pub url: String,
    /// What all pools may spend in a day (UTC); nothing: no limit.
    pub daily_budget: Option<Money>,
}

/// A project the master knows.
#[derive(Clone, Debug)]
pub struct ProjectSettings {
    /// Its name.
    pub name: ProjectName,
    /// Its repository, as git takes it.
    pub repo: String,
}

/// From what workers are made.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Its name.
    pub name: PoolName,
    /// What its workers offer.
    pub labels: Labels,
    /// How its machines come to be.
    pub provisioner: ProvisionerKind,
    /// Whether its workers run a bootstrap script before they are ready.
    pub has_bootstrap: bool,
    /// The ways to ask for a machine, the most preferred first. Empty: one, that has no name.
    pub candidates: Vec<Candidate>,
    /// How machines without a job are kept; nothing: they are ended.
    pub stopping: Option<Stopping>,
    /// Never more machines than this are asked for at one time.
    pub max_instances: u32,
    /// So many instances can have what is there before them: an address, volumes; 0: none is wanted.
    pub seats: u32,
    /// This many are kept ready without work.
    pub min_idle: u32,
    /// A worker ends after this many jobs; 0: no limit.
    pub jobs_per_instance: u32,
    /// Whether one worker may serve several projects.
    pub shared: bool,
    /// A worker without a job ends after this at the latest; of several, most end sooner.
    pub idle_timeout: Duration,
    /// Whether machines are started for jobs that will wait.
    pub look_ahead: bool,
    /// An agent that has not become ready by then never will.
    pub boot_timeout: Duration,
    /// A lost agent's instance is ended after this.
    pub reconnect_grace: Duration,
    /// A running step outlives its master for this long.
    pub lease: Duration,
    /// No machine lives longer than this.
    pub max_lifetime: Duration,
    /// Variables for every step on its workers.
    pub env: Vec<(String, String)>,
    /// What it may spend in a day (UTC); nothing: no limit.
    pub daily_budget: Option<Money>,
    /// Who is told by mail of a machine that was started and never became a worker.
    pub notify_on_missing: Vec<String>,
}

impl PoolSettings {
    /// Whether a candidate is lent, and may be taken back.
    pub fn is_spot(&self, candidate: u32) -> bool {
        self.candidates.get(candidate as usize).is_some_and(|candidate| candidate.is_spot)
    }

    /// How old a machine may get: for so long it may run in all, and before its last start it may be stopped
    /// until it is of the age at which none is kept.
    pub fn longest_life(&self) -> Duration {
        let kept = self.stopping.map_or(Duration::ZERO, |stopping| stopping.max_age);
        self.max_lifetime.saturating_add(kept)
    }
}

/// How machines are kept that have no job: without running, with their disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// Never more than this are kept.
    pub max_stopped: u32,
    /// None is kept that was launched longer ago than this.
    pub max_age: Duration,
}

/// How a pool's machines come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProvisionerKind {
    /// Instances of Amazon's EC2.
    Ec2,
    /// Child processes of the master.
    Local,
    /// Machines of one's own: `busybee worker add`.
    None,
}

impl ProvisionerKind {
    /// Whether an instance that a complete listing leaves out is certainly gone.
    ///
    /// A cloud's list is only eventually consistent; the process table is not.
    pub fn absence_is_proof(self) -> bool {
        match self {
            ProvisionerKind::Local => true,
            ProvisionerKind::Ec2 | ProvisionerKind::None => false,
        }
    }

    /// Seconds that one pays for at each start of a machine, at least (EC2: Amazon Linux, Ubuntu, RHEL and
    /// whatever else is billed by the second).
    pub fn billed_secs_min(self) -> u64 {
        match self {
            ProvisionerKind::Ec2 => 60,
            ProvisionerKind::Local | ProvisionerKind::None => 0,
        }
    }
}
