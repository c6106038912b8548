//! The fake cloud: launches take a while and may fail, boots may hang, machines may vanish, and a
//! listing is as old as its question.

use std::collections::BTreeMap;
use std::time::Duration;

use busybee::master::domain::decision::ToAgent;
use busybee::master::domain::event::EndCause;
use busybee::master::domain::event::Event;
use busybee::master::domain::event::LaunchFailure;
use busybee::master::domain::event::Machine as Listed;
use busybee::master::domain::event::MachineState;
use busybee::master::domain::settings::Settings;
use busybee::model::ids::CloudId;
use busybee::model::ids::InstanceId;
use busybee::model::ids::LaunchId;
use busybee::model::ids::PoolName;
use busybee::model::ids::WorkerName;
use busybee::model::time::Timestamp;

use crate::hosts::HostStep;
use crate::master::MasterStep;
use crate::planted::Planted;
use crate::power::Power;
use crate::world::FLEET_LOOK;
use crate::world::Happening;
use crate::world::World;

/// How much older than its answer a listing's truth may be.
const LAG_MS_MAX: u64 = 120_000;

/// A machine whose row is over, or which never had one, may live for so long while a master serves: a
/// listing comes each minute, one in ten fails, and so does one in ten of its terminations.
const OWNERLESS_MAX: Duration = Duration::from_secs(20 * 60);

/// The pools' `max_lifetime`.
const LIFETIME: Duration = Duration::from_secs(2 * 3600);

/// How old a machine may be that is kept stopped: the pools' `stopped_max_age`.
pub(crate) const STOPPED_MAX_AGE: Duration = Duration::from_secs(3600);

/// A spot instance is told this long before it is taken, if it is told at all.
const SPOT_NOTICE: Duration = Duration::from_secs(120);

/// How long a machine may outlive that: a master that is down or cannot write, a clock that was set
/// back by an hour, terminations that are lost.
const OVERTIME_MAX: Duration = Duration::from_secs(2 * 3600);

/// A machine, from its launch on; ended ones are listed for ever.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) instance: InstanceId,
    pub(crate) pool: PoolName,
    pub(crate) worker: WorkerName,
    pub(crate) is_alive: bool,
    /// Its address and volumes were given to it.
    is_equipped: bool,
    /// What it was since when, the newest last: what a listing that is behind shows.
    pub(crate) powers: Vec<(Timestamp, Power)>,
    /// For how long it has run, by the minute.
    ran: Duration,
    born_at: Timestamp,
    pub(crate) ended_at: Timestamp,
    /// Why it ended, in the cloud's words.
    reason: Option<String>,
    cause: EndCause,
    /// How long it has lived without an owner, while somebody could have ended it.
    pub(crate) ownerless: Duration,
}

/// A launch that the cloud has not answered.
#[derive(Debug)]
struct Launching {
    instance: InstanceId,
    pool: PoolName,
    worker: WorkerName,
    /// It was told to end while it was under way.
    is_doomed: bool,
    /// Which domain hears what comes of it.
    loads: u64,
}

#[derive(Debug)]
pub(crate) struct Cloud {
    pub(crate) machines: BTreeMap<LaunchId, Machine>,
    launching: BTreeMap<LaunchId, Launching>,
    /// Until then it answers nothing.
    down_until: Timestamp,
}

impl Default for Cloud {
    fn default() -> Cloud {
        let (machines, launching) = (BTreeMap::new(), BTreeMap::new());
        Cloud { machines, launching, down_until: Timestamp(0) }
    }
}

/// What the cloud does by itself.
pub(crate) enum CloudStep {
    LaunchEnds(LaunchId),
    Ends(LaunchId, Option<InstanceId>),
    Vanishes(LaunchId),
    /// The cloud takes it back.
    SpotTaken(LaunchId),
    /// What was told to stop has, if it is still at it since then.
    Stops(LaunchId, Timestamp),
}

pub(crate) fn cloud_id(launch: &LaunchId) -> CloudId {
    CloudId(format!("i-{}", &launch.0[..8]))
}

impl Cloud {
    /// Nobody is given anything to do on a machine that lacks what belongs to it.
    pub(crate) fn check_equipped(&self, settings: &Settings, worker: &WorkerName, what: &ToAgent) {
        if !matches!(what, ToAgent::Bootstrap | ToAgent::Run(_)) {
            return;
        }
        let of_worker = self.machines.values().find(|machine| machine.worker == *worker);
        let Some(machine) = of_worker else { return };
        let pool = settings.pools.iter().find(|pool| pool.name == machine.pool);
        let has_seats = pool.is_some_and(|pool| pool.seats > 0);
        assert!(!has_seats || machine.is_equipped, "{worker} begins before it is equipped");
    }
}

impl World {
    /// Whether the cloud answers nothing just now.
    fn cloud_is_down(&self) -> bool {
        self.faults && self.cloud.down_until > self.now
    }

    pub(crate) fn equip(&mut self, instance: InstanceId, launch: &LaunchId) {
        let takes = 100 + self.random(20_000);
        let (sentence, failure) = if self.fault("equipment late", 300) {
            ("it is not up yet", LaunchFailure::Unsettled)
        } else if self.fault("equipment taken", 50) {
            ("the address is taken", LaunchFailure::Other)
        } else {
            let Some(machine) = self.cloud.machines.get_mut(launch) else { return };
            machine.is_equipped = true;
            return self.tell_asker(takes, Event::InstanceEquipped { instance });
        };
        let sentence = sentence.to_owned();
        self.tell_asker(takes, Event::EquipFailed { instance, sentence, failure });
    }

    pub(crate) fn prepare(&mut self, instance: InstanceId, pool: &PoolName) {
        let takes = 10 + self.random(5_000);
        let event = if self.cloud_is_down() || self.fault("preparation failed", 40) {
            let sentence = "the cloud does not answer".to_owned();
            Event::LaunchFailed { instance, sentence, failure: LaunchFailure::Unsettled }
        } else {
            let (request, what) = (format!("request of {instance}"), "a machine".to_owned());
            let price_per_hour = self.price(pool);
            Event::LaunchPrepared { instance, request, what, price_per_hour }
        };
        self.tell_asker(takes, event);
    }

    pub(crate) fn launch(
        &mut self,
        instance: InstanceId,
        launch: LaunchId,
        pool: PoolName,
        worker: WorkerName,
    ) {
        if self.cloud.machines.contains_key(&launch) {
            // The same launch again starts no second machine.
            let accepted = Event::InstanceAccepted { instance, cloud_id: cloud_id(&launch) };
            return self.answer_master(self.master.loads, accepted);
        }
        let loads = self.master.loads;
        if let Some(launching) = self.cloud.launching.get_mut(&launch) {
            launching.loads = loads;
            return;
        }
        let launching = Launching { instance, pool, worker, is_doomed: false, loads };
        self.cloud.launching.insert(launch.clone(), launching);
        let takes = 200 + self.random(30_000);
        self.later(takes, Happening::Cloud(CloudStep::LaunchEnds(launch)));
    }

    /// Whether a launch would be refused still.
    pub(crate) fn probe(&mut self, pool: PoolName) {
        let failure = match self.random(3) {
            _ if self.cloud_is_down() => Some(LaunchFailure::Unsettled),
            0 => Some(LaunchFailure::Denied),
            _ => None,
        };
        self.tell_master(200, Event::Probed { pool, failure });
    }

    pub(crate) fn terminate(&mut self, instance: Option<InstanceId>, launch: LaunchId) {
        if let Some(launching) = self.cloud.launching.get_mut(&launch) {
            launching.is_doomed = true;
            return;
        }
        let is_lost = self.cloud_is_down() || self.fault("termination lost", 100);
        if self.planted == Planted::TerminationForgotten || is_lost {
            return;
        }
        if let Some(instance) = instance.filter(|_| self.fault("termination refused", 20)) {
            let sentence = "it is protected".to_owned();
            return self.tell_master(200, Event::EndRefused { instance, sentence });
        }
        let takes = 500 + self.random(20_000);
        self.later(takes, Happening::Cloud(CloudStep::Ends(launch, instance)));
    }

    pub(crate) fn list(&mut self, pool: PoolName) {
        let takes = 100 + self.random(40_000);
        if !self.cloud_is_down() && self.fault("cloud down", 1) {
            let lasts = 10 + self.random(50);
            self.cloud.down_until = self.now + Duration::from_secs(60 * lasts);
        }
        if self.cloud_is_down() || self.fault("listing failed", 100) {
            let sentence = "the cloud is down".to_owned();
            return self.tell_master(takes, Event::CloudUnlisted { pool, sentence });
        }
        // What EC2 lists is what was so a while ago.
        let lags = pool.as_str() == "cloud" && self.fault("listing lags", 300);
        let lag = if lags { self.random(LAG_MS_MAX) } else { 0 };
        let as_of = self.now - Duration::from_millis(lag);
        let all = self.cloud.machines.iter();
        let all = all.filter(|(_, machine)| machine.pool == pool && machine.born_at <= as_of);
        let machines = all.map(|(launch, machine)| {
            let state = machine.state(as_of);
            Listed {
                cloud_id: cloud_id(launch),
                launch: launch.clone(),
                state,
                started: Some(machine.starts(as_of).to_string()),
                asked_to_end_at: None,
                reason: machine.reason.clone().filter(|_| state == MachineState::Ended),
                cause: match state {
                    MachineState::Ended => machine.cause,
                    _ => EndCause::Unknown,
                },
            }
        });
        let mut machines: Vec<Listed> = machines.collect();
        if self.random(2) == 0 {
            machines.retain(|machine| machine.state != MachineState::Ended);
        }
        let asked_at = self.master_wall();
        let listed = Event::CloudListed { pool, asked_at, machines };
        let loads = self.master.loads;
        for answer in 0..1 + u64::from(self.fault("listed twice", 40)) {
            let late = takes + answer * self.random(60_000);
            self.later(late, self.master.step(MasterStep::Answered(loads, listed.clone())));
        }
    }

    /// Tells the domain that asked, if it is still the present one.
    fn answer_master(&mut self, loads: u64, event: Event) {
        let step = self.master.step(MasterStep::Answered(loads, event));
        self.later(100, step);
    }

    pub(crate) fn cloud_step(&mut self, step: CloudStep) {
        match step {
            CloudStep::LaunchEnds(launch) => self.launch_ends(launch),
            CloudStep::Ends(launch, instance) => {
                self.machine_ends(&launch, None);
                if let Some(instance) = instance {
                    self.tell_master(50, Event::InstanceEnded { instance, sentence: None });
                }
            }
            CloudStep::Stops(launch, since) => self.stops(&launch, since),
            CloudStep::Vanishes(launch) => {
                let machine = self.cloud.machines.get(&launch);
                let Some(machine) = machine.filter(|m| m.is_alive && self.faults) else { return };
                let instance = machine.instance;
                *self.counts.entry("machine vanishes").or_default() += 1;
                self.note(|| format!("-- the machine of {launch} vanishes"));
                self.machine_ends(&launch, None);
                let causes = [
                    EndCause::Unknown,
                    EndCause::NoRoom,
                    EndCause::Retired,
                    EndCause::CloudFault,
                    EndCause::DiedAtOnce,
                    EndCause::ByHand,
                ];
                let cause = causes[self.random(causes.len() as u64) as usize];
                if let Some(machine) = self.cloud.machines.get_mut(&launch) {
                    machine.cause = cause;
                }
                if self.random(2) == 0 {
                    self.tell_master(500, Event::InstanceEnded { instance, sentence: None });
                }
            }
            CloudStep::SpotTaken(launch) => {
                let machine = self.cloud.machines.get(&launch);
                let Some(machine) = machine.filter(|m| m.is_alive && self.faults) else { return };
                let instance = machine.instance;
                *self.counts.entry("spot taken").or_default() += 1;
                self.note(|| format!("-- the cloud takes the machine of {launch}"));
                let reason = Some("Server.SpotInstanceTermination: no more of these".to_owned());
                self.machine_ends(&launch, reason.clone());
                if let Some(machine) = self.cloud.machines.get_mut(&launch) {
                    machine.cause = EndCause::SpotTaken;
                }
                if self.random(2) == 0 {
                    self.tell_master(500, Event::InstanceEnded { instance, sentence: reason });
                }
            }
        }
    }

    fn launch_ends(&mut self, launch: LaunchId) {
        let Some(asked) = self.cloud.launching.remove(&launch) else { return };
        let Launching { instance, pool, worker, is_doomed, loads } = asked;
        if is_doomed {
            return self.tell_master(50, Event::InstanceEnded { instance, sentence: None });
        }
        if self.fault("launch refused", 80) {
            let failures = [
                LaunchFailure::Capacity,
                LaunchFailure::Capacity,
                LaunchFailure::PlaceFull,
                LaunchFailure::Unsupported,
                LaunchFailure::SpotQuota,
                LaunchFailure::Quota,
                LaunchFailure::Limit,
                LaunchFailure::Denied,
                LaunchFailure::ImageGone,
                LaunchFailure::DiedAtOnce,
                LaunchFailure::Other,
            ];
            let failure = failures[self.random(failures.len() as u64) as usize];
            let sentence = "refused".to_owned();
            let failed = Event::LaunchFailed { instance, sentence, failure };
            return self.answer_master(loads, failed);
        }
        let machine = Machine {
            instance,
            pool: pool.clone(),
            worker: worker.clone(),
            is_alive: true,
            is_equipped: false,
            powers: Vec::new(),
            ran: Duration::ZERO,
            born_at: self.now,
            ended_at: self.now,
            reason: None,
            cause: EndCause::Unknown,
            ownerless: Duration::ZERO,
        };
        self.cloud.machines.insert(launch.clone(), machine);
        self.laws.machine_started(&self.settings, &self.cloud, &pool);
        let claims = pool.as_str() == "cloud" && self.random(2) == 0;
        let claim = if claims { cloud_id(&launch).0 } else { String::new() };
        self.new_host(&worker, &pool, &launch, claim);
        if self.fault("launch's answer lost", 80) {
            let sentence = "no answer".to_owned();
            let failure = LaunchFailure::Unsettled;
            self.answer_master(loads, Event::LaunchFailed { instance, sentence, failure });
        } else {
            let cloud_id = cloud_id(&launch);
            self.answer_master(loads, Event::InstanceAccepted { instance, cloud_id });
        }
        let notified = worker.clone();
        if self.fault("boot hangs", 60) {
            self.note(|| format!("-- {worker} will never call"));
        } else {
            let boot = 5_000 + self.random(60_000);
            self.later(boot, Happening::Host(worker, HostStep::Starts));
        }
        if self.random(1000) < 150 {
            let lives = self.random(1_800_000);
            let ends = match self.random(2) {
                0 => CloudStep::Vanishes(launch),
                _ => {
                    let notice_ms = SPOT_NOTICE.as_millis() as u64;
                    if lives > notice_ms && self.random(2) == 0 {
                        let told = Happening::Host(notified, HostStep::Interrupted(SPOT_NOTICE));
                        self.later(lives - notice_ms, told);
                    }
                    CloudStep::SpotTaken(launch)
                }
            };
            self.later(lives, Happening::Cloud(ends));
        }
    }

    fn machine_ends(&mut self, launch: &LaunchId, reason: Option<String>) {
        let now = self.now;
        let Some(machine) = self.cloud.machines.get_mut(launch) else { return };
        if !std::mem::take(&mut machine.is_alive) {
            return;
        }
        (machine.ended_at, machine.reason) = (now, reason);
        let worker = machine.worker.clone();
        self.host_ends(&worker);
    }

    /// The fleet's owner looks: no machine is without an owner for long, or lives for too long.
    pub(crate) fn look_at_fleet(&mut self) {
        let is_served =
            self.master.it.is_some() && !self.master.disk_is_full && !self.cloud_is_down();
        let now = self.now;
        for (launch, machine) in &mut self.cloud.machines {
            let row = self.disk.instances.get(&machine.instance);
            let owned = row.is_some_and(|row| row.launch == *launch && !row.status.is_final());
            if owned || !machine.is_alive {
                machine.ownerless = Duration::ZERO;
            } else if is_served {
                machine.ownerless += FLEET_LOOK;
            }
            assert!(
                machine.ownerless <= OWNERLESS_MAX,
                "{machine:?} of {launch} has no owner for {:?}",
                machine.ownerless
            );
            if machine.may_run() {
                machine.ran += FLEET_LOOK;
            }
            let is_old = machine.is_alive && machine.ran > LIFETIME + OVERTIME_MAX;
            assert!(!is_old, "{machine:?} of {launch} has run for {:?}", machine.ran);
            let age = now.since(machine.born_at);
            let is_kept = machine.is_alive && machine.power() == Power::Off;
            let is_stale = is_kept && age > STOPPED_MAX_AGE + OVERTIME_MAX;
            assert!(!is_stale, "{machine:?} of {launch} is kept stopped, {age:?} old");
        }
    }
}
