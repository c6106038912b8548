//! The workers' machines: what lies on their disks, a clock of their own, the agent's process and the
//! supervisors beside it; how they boot, reboot and go away.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use busybee::agent::domain::agent::Event;
use busybee::agent::domain::attempts::Found;
use busybee::model::attempt::AttemptRef;
use busybee::model::attempt::AttemptSpec;
use busybee::model::ids::LaunchId;
use busybee::model::ids::PoolName;
use busybee::model::ids::ProjectName;
use busybee::model::ids::WorkerName;
use busybee::model::secret::Secret;
use busybee::model::step::StepOutcome;
use busybee::model::time::Timestamp;
use busybee::wire::handshake;
use busybee::wire::handshake::SigningKey;
use busybee::wire::message::FromAgent;

use crate::agents::Process;
use crate::cloud::CloudStep;
use crate::master::PASSWORDS;
use crate::supervisors::Supervisor;
use crate::world::Happening;
use crate::world::World;

/// How much faster or slower than ours a worker's clock may be, in parts of a thousand.
const DRIFT_PER_MILLE: u64 = 5;

/// What lies on a worker's disk of one attempt.
#[derive(Debug)]
pub(crate) struct Dir {
    pub(crate) spec: AttemptSpec,
    pub(crate) lease: Duration,
    pub(crate) cancelled: bool,
    pub(crate) steps: BTreeMap<u32, StepFiles>,
    pub(crate) result: Option<FromAgent>,
    pub(crate) unclean: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct StepFiles {
    pub(crate) started: Option<FromAgent>,
    pub(crate) result: Option<FromAgent>,
    pub(crate) log: Vec<u8>,
}

/// A worker's machine.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) pool: PoolName,
    pub(crate) launch: LaunchId,
    /// What it says its instance is.
    pub(crate) claim: String,
    pub(crate) key: SigningKey,
    pub(crate) pinned: Option<Vec<u8>>,
    pub(crate) password: Secret<String>,
    pub(crate) is_bootstrapped: bool,
    pub(crate) epoch: u64,
    pub(crate) boot: u64,
    booted_at: Timestamp,
    clock_at_boot: Duration,
    /// How its clock runs: this many of its milliseconds are a second of ours.
    pace: u64,
    pub(crate) dirs: BTreeMap<AttemptRef, Dir>,
    pub(crate) process: Option<Process>,
    pub(crate) supervisors: BTreeMap<AttemptRef, Supervisor>,
    pub(crate) offline_until: Timestamp,
    pub(crate) disk_is_full: bool,
    /// It was told to end, and has.
    pub(crate) is_off: bool,
    /// Its machine is stopped: nothing happens on it.
    pub(crate) is_down: bool,
    pub(crate) projects: BTreeSet<ProjectName>,
}

/// What happens on a worker's machine.
#[derive(Debug)]
pub(crate) enum HostStep {
    /// The agent's process begins.
    Starts,
    /// The process of this epoch calls.
    Calls(u64),
    Wakes(u64),
    /// The process looks at its attempts' files.
    Looks(u64),
    BootstrapEnds(u64, StepOutcome),
    Prints(AttemptRef, u32),
    StepEnds(AttemptRef, u32, StepOutcome),
    Supervises(AttemptRef),
    DiskHasRoom,
    /// The cloud says that it takes the machine away.
    Interrupted(Duration),
}

impl Host {
    pub(crate) fn monotonic(&self, now: Timestamp) -> Duration {
        let passed_ms = now.since(self.booted_at).as_millis() as u64;
        self.clock_at_boot + Duration::from_millis(passed_ms * self.pace / 1000)
    }

    /// When its clock will show this.
    pub(crate) fn when(&self, monotonic: Duration) -> Timestamp {
        let left = monotonic.saturating_sub(self.clock_at_boot).as_millis() as u64;
        self.booted_at + Duration::from_millis(left * 1000 / self.pace + 1)
    }

    pub(crate) fn found(&self) -> Vec<Found> {
        let found = |(attempt, dir): (&AttemptRef, &Dir)| Found {
            attempt: *attempt,
            steps: u32::try_from(dir.spec.steps.len()).expect("few steps") + 1,
            has_begun: dir.result.is_some()
                || self.supervisors.contains_key(attempt)
                || !dir.steps.is_empty(),
            is_over: dir.result.is_some(),
        };
        self.dirs.iter().map(found).collect()
    }
}

impl World {
    pub(crate) fn new_host(
        &mut self,
        name: &WorkerName,
        pool: &PoolName,
        launch: &LaunchId,
        claim: String,
    ) {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.random(u64::MAX).to_be_bytes());
        let clock_at_boot = Duration::from_millis(1_000 + self.random(100_000_000));
        let pace = 1000 - DRIFT_PER_MILLE + self.random(2 * DRIFT_PER_MILLE + 1);
        let host = Host {
            pool: pool.clone(),
            launch: launch.clone(),
            claim,
            key: SigningKey::from_seed(&Secret::new(seed)),
            pinned: None,
            password: handshake::bootstrap_password(&PASSWORDS, launch, 0),
            is_bootstrapped: false,
            epoch: 0,
            boot: 1,
            booted_at: self.now,
            clock_at_boot,
            pace,
            dirs: BTreeMap::new(),
            process: None,
            supervisors: BTreeMap::new(),
            offline_until: self.now,
            disk_is_full: false,
            is_off: false,
            is_down: false,
            projects: BTreeSet::new(),
        };
        self.hosts.insert(name.clone(), host);
    }

    pub(crate) fn host_step(&mut self, name: &WorkerName, step: HostStep) {
        let Some(host) = self.hosts.get_mut(name).filter(|host| !host.is_off && !host.is_down)
        else {
            return;
        };
        let present = host.process.as_ref().map(|_| host.epoch);
        match step {
            HostStep::Starts => self.process_starts(name),
            HostStep::Calls(epoch) if present == Some(epoch) => self.calls(name),
            HostStep::Wakes(epoch) if present == Some(epoch) => self.wakes(name),
            HostStep::Looks(epoch) if present == Some(epoch) => self.looks(name),
            HostStep::BootstrapEnds(epoch, outcome) if present == Some(epoch) => {
                self.bootstrap_ends(name, outcome);
            }
            HostStep::Calls(_)
            | HostStep::Wakes(_)
            | HostStep::Looks(_)
            | HostStep::BootstrapEnds(..) => {}
            HostStep::Prints(attempt, step) => self.prints(name, attempt, step),
            HostStep::StepEnds(attempt, step, outcome) => {
                self.step_ends(name, attempt, step, outcome);
            }
            HostStep::Supervises(attempt) => self.supervises(name, attempt),
            HostStep::DiskHasRoom => host.disk_is_full = false,
            HostStep::Interrupted(ends_in) => {
                let at = host.monotonic(self.now) + ends_in;
                if present.is_some() && self.faults {
                    *self.counts.entry("spot notice").or_default() += 1;
                    let sentence = "taken back".to_owned();
                    self.decides(name, Event::Interrupted { at, sentence });
                }
            }
        }
    }

    /// Whatever may befall a worker, each time its agent beats.
    pub(crate) fn host_happens(&mut self, name: &WorkerName) {
        if self.fault("agent killed", 8) {
            self.process_dies(name, true);
            self.process_comes_back(name);
        } else if self.fault("machine reboots", 5) {
            self.reboots(name);
        } else if self.fault("supervisor killed", 4) {
            self.supervisors_die(name);
            self.plan_to_look(name);
        } else if self.fault("thief calls", 1) {
            self.thief_calls(name);
        } else if self.fault("worker's disk full", 5)
            && let Some(host) = self.hosts.get_mut(name)
        {
            host.disk_is_full = true;
            let lasts = 5_000 + self.random(120_000);
            self.later(lasts, Happening::Host(name.clone(), HostStep::DiskHasRoom));
            self.disk_fails_steps(name);
        } else if self.fault("network gone", 6) {
            let lasts = 60_000 + self.random(3_600_000);
            let Some(host) = self.hosts.get_mut(name) else { return };
            host.offline_until = self.now + Duration::from_millis(lasts);
            self.hangs_up(name, false);
        }
    }

    fn process_comes_back(&mut self, name: &WorkerName) {
        let again = 500 + self.random(30_000);
        self.later(again, Happening::Host(name.clone(), HostStep::Starts));
    }

    fn reboots(&mut self, name: &WorkerName) {
        self.process_dies(name, false);
        self.supervisors_die(name);
        let down = 5_000 + self.random(60_000);
        let keeps_files = self.random(2) == 0;
        let Some(host) = self.hosts.get_mut(name) else { return };
        host.boot += 1;
        // Nothing runs until then, so nobody reads the clock before it.
        host.booted_at = self.now + Duration::from_millis(down);
        host.clock_at_boot = Duration::from_millis(3_000);
        if !keeps_files {
            host.dirs.clear();
        }
        self.later(down, Happening::Host(name.clone(), HostStep::Starts));
    }

    /// The machine is stopped: its disk is kept.
    pub(crate) fn host_goes_down(&mut self, name: &WorkerName) {
        self.process_dies(name, self.n_events.is_multiple_of(2));
        self.supervisors_die(name);
        if let Some(host) = self.hosts.get_mut(name) {
            host.is_down = true;
        }
    }

    /// It boots again.
    pub(crate) fn host_comes_up(&mut self, name: &WorkerName, hangs: bool) {
        let takes = 5_000 + self.random(60_000);
        let Some(host) = self.hosts.get_mut(name) else { return };
        host.is_down = false;
        host.boot += 1;
        host.booted_at = self.now + Duration::from_millis(takes);
        host.clock_at_boot = Duration::from_millis(3_000);
        if !hangs {
            self.later(takes, Happening::Host(name.clone(), HostStep::Starts));
        }
    }

    /// The machine ends. Nobody hangs up.
    pub(crate) fn host_ends(&mut self, name: &WorkerName) {
        self.process_dies(name, false);
        self.hosts.remove(name);
    }

    /// The agent has ended for good, and its machine does the rest, where it is one of a cloud.
    pub(crate) fn host_is_off(&mut self, name: &WorkerName) {
        self.supervisors_die(name);
        let takes = 2_000 + self.random(20_000);
        let Some(host) = self.hosts.get_mut(name) else { return };
        host.is_off = true;
        host.dirs.clear();
        let launch = host.launch.clone();
        self.later(takes, Happening::Cloud(CloudStep::Ends(launch, None)));
    }
}
