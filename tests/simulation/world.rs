//! One history: virtual time, one heap of what is to come, one source of chance, and settings drawn
//! from it. Who acts stands in files of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use busybee::master::domain::candidates::Candidate;
use busybee::master::domain::settings::PoolSettings;
use busybee::master::domain::settings::ProjectSettings;
use busybee::master::domain::settings::ProvisionerKind;
use busybee::master::domain::settings::Settings;
use busybee::master::domain::settings::Stopping;
use busybee::model::ids::ConnectionId;
use busybee::model::ids::WorkerName;
use busybee::model::time::Timestamp;

use crate::budgets;
use crate::clocks::TrueTimes;
use crate::cloud::Cloud;
use crate::cloud::CloudStep;
use crate::cloud::STOPPED_MAX_AGE;
use crate::disk::Disk;
use crate::hosts::Host;
use crate::hosts::HostStep;
use crate::laws::Laws;
use crate::links::LinkId;
use crate::links::Links;
use crate::links::Side;
use crate::logs::Logs;
use crate::master::Master;
use crate::master::MasterStep;
use crate::people::People;
use crate::people::PeopleStep;
use crate::planted::Planted;
use crate::watchers::Watchers;

/// A line of the trace shows the beginning of what happened: whole pipelines drown the rest.
const LINE_CHARS_MAX: usize = 220;

/// In each fourth history agents sign: signatures are a third of the time that one takes.
const KEYS_EVERY: u64 = 4;

/// How often the fleet is looked at by its owner.
pub(crate) const FLEET_LOOK: Duration = Duration::from_secs(60);

/// Something that will happen.
pub(crate) enum Happening {
    /// To this process of the master, if it is the same still.
    Master(u64, MasterStep),
    Arrives(LinkId, Side),
    Noticed(LinkId, Side),
    Unstalls(LinkId),
    Cloud(CloudStep),
    Host(WorkerName, HostStep),
    People(PeopleStep),
    MasterCrashes,
    MasterStarts,
    MasterDiskFills,
    MasterDiskHasRoom,
    ClockSet,
    FleetLook,
}

/// Who waits for an answer of the domain.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Waiter {
    Agent(ConnectionId),
    Person,
}

/// One history.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    luck: u64,
    heap: BTreeMap<(Timestamp, u64), Box<Happening>>,
    n_happenings: u64,
    pub(crate) faults: bool,
    /// Whether agents resume by their keys; or by their passwords, as after a lost answer.
    pub(crate) resumes_by_key: bool,
    /// Whether pools have budgets.
    pub(crate) has_budgets: bool,
    pub(crate) planted: Planted,
    pub(crate) settings: Settings,
    pub(crate) master: Master,
    pub(crate) disk: Disk,
    pub(crate) logs: Logs,
    pub(crate) links: Links,
    pub(crate) cloud: Cloud,
    pub(crate) hosts: BTreeMap<WorkerName, Host>,
    pub(crate) people: People,
    pub(crate) watchers: Watchers,
    pub(crate) laws: Laws,
    pub(crate) true_times: TrueTimes,
    /// Lines of what happened, while somebody wants them.
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) n_events: u64,
}

impl World {
    pub(crate) fn new(seed: u64, planted: Planted, traced: bool) -> World {
        let now = budgets::first_moment(seed);
        let mut world = World {
            now,
            luck: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            heap: BTreeMap::new(),
            n_happenings: 0,
            faults: true,
            resumes_by_key: seed.is_multiple_of(KEYS_EVERY),
            has_budgets: budgets::has_budgets(seed),
            planted,
            settings: Settings::default(),
            master: Master::new(now),
            disk: Disk::default(),
            logs: Logs::default(),
            links: Links::default(),
            cloud: Cloud::default(),
            hosts: BTreeMap::new(),
            people: People::default(),
            watchers: Watchers::default(),
            laws: Laws::default(),
            true_times: TrueTimes::default(),
            trace: traced.then(Vec::new),
            counts: BTreeMap::new(),
            n_events: 0,
        };
        world.settings = world.draw_settings();
        world.start_master();
        world.people_arrive();
        for (happening, longest) in [
            (Happening::MasterCrashes, 1_200_000),
            (Happening::MasterDiskFills, 7_200_000),
            (Happening::ClockSet, 3_600_000),
            (Happening::FleetLook, 1),
        ] {
            let first = 60_000 + world.random(longest);
            world.later(first, happening);
        }
        world
    }

    fn draw_settings(&mut self) -> Settings {
        let jobs_per_instance = [0, 1, 3][self.random(3) as usize];
        let pool = |name: &str, labels: &[&str]| PoolSettings {
            name: name.into(),
            labels: labels.iter().copied().collect(),
            provisioner: ProvisionerKind::Local,
            has_bootstrap: false,
            candidates: Vec::new(),
            stopping: None,
            max_instances: 3,
            seats: 0,
            min_idle: 0,
            jobs_per_instance: 0,
            shared: true,
            idle_timeout: Duration::from_secs(180),
            look_ahead: false,
            boot_timeout: Duration::from_secs(300),
            reconnect_grace: Duration::from_secs(120),
            // Shorter than many steps, so that it is often over.
            lease: Duration::from_secs(240),
            max_lifetime: Duration::from_secs(2 * 3600),
            env: Vec::new(),
            daily_budget: None,
            notify_on_missing: vec!["ops@example.com".to_owned()],
        };
        let shared = self.random(2) == 0;
        let max_stopped = 1 + self.random(3) as u32;
        let max_age = match self.planted {
            Planted::StoppedForgotten => 100 * STOPPED_MAX_AGE,
            _ => STOPPED_MAX_AGE,
        };
        let stops = self.random(3) > 0;
        let stopping = stops.then_some(Stopping { max_stopped, max_age });
        let is_spot = self.random(2) == 0;
        let min_idle = self.random(2) as u32;
        let look_ahead = self.random(3) > 0;
        // As many as it may have instances, or none.
        let seats = self.random(2) as u32 * 3;
        let project = |name: &str| ProjectSettings { name: name.into(), repo: "repo".into() };
        let (daily_budget, of_cloud) = self.draw_budgets();
        Settings {
            daily_budget,
            pools: vec![
                PoolSettings {
                    provisioner: ProvisionerKind::Ec2,
                    daily_budget: of_cloud,
                    candidates: vec![
                        Candidate { is_spot, ..Candidate::from("here") },
                        "there".into(),
                    ],
                    stopping,
                    has_bootstrap: true,
                    seats,
                    jobs_per_instance,
                    shared,
                    look_ahead,
                    ..pool("cloud", &["linux"])
                },
                PoolSettings {
                    max_instances: 2,
                    min_idle,
                    look_ahead,
                    ..pool("big", &["linux", "big"])
                },
                PoolSettings {
                    provisioner: ProvisionerKind::None,
                    has_bootstrap: true,
                    ..pool("own", &["mac"])
                },
            ],
            projects: vec![project("app"), project("lib")],
            url: "https://ci.example".to_owned(),
        }
    }

    /// A number below `n`.
    pub(crate) fn random(&mut self, n: u64) -> u64 {
        self.luck ^= self.luck << 13;
        self.luck ^= self.luck >> 7;
        self.luck ^= self.luck << 17;
        (self.luck >> 11) % n.max(1)
    }

    /// Whether a fault happens now; while faults last.
    pub(crate) fn fault(&mut self, name: &'static str, per_mille: u64) -> bool {
        let happens = self.random(1000) < per_mille && self.faults;
        if happens {
            *self.counts.entry(name).or_default() += 1;
            self.note(|| format!("-- {name}"));
        }
        happens
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let line: String = line().chars().take(LINE_CHARS_MAX).collect();
            trace.push(format!("{} {line}", &self.now.to_string()[11..]));
        }
    }

    pub(crate) fn later(&mut self, delay_ms: u64, happening: Happening) {
        self.at(self.now + Duration::from_millis(delay_ms), happening);
    }

    pub(crate) fn at(&mut self, at: Timestamp, happening: Happening) {
        self.n_happenings += 1;
        self.heap.insert((at, self.n_happenings), Box::new(happening));
    }

    /// Lets everything happen until then.
    pub(crate) fn run_until(&mut self, end: Timestamp) {
        loop {
            let next = self.heap.first_key_value().map(|((at, _), _)| *at);
            let due = self.master_due();
            let at = match (next, due) {
                (Some(next), Some(due)) => next.min(due),
                (Some(at), None) | (None, Some(at)) => at,
                (None, None) => break,
            };
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            if due == Some(at) {
                self.tick();
            } else if let Some((_, happening)) = self.heap.pop_first() {
                self.happen(*happening);
            }
        }
        self.now = end;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Master(life, step) => self.master_step(life, step),
            Happening::Arrives(link, to) => self.arrives(link, to),
            Happening::Noticed(link, side) => self.notices(link, side),
            Happening::Unstalls(link) => self.unstalls(link),
            Happening::Cloud(step) => self.cloud_step(step),
            Happening::Host(name, step) => self.host_step(&name, step),
            Happening::People(step) => self.people_step(step),
            Happening::MasterCrashes => {
                if self.faults {
                    let next = 120_000 + self.random(2_400_000);
                    self.later(next, Happening::MasterCrashes);
                    if self.master.it.is_some() {
                        *self.counts.entry("master crashes").or_default() += 1;
                        self.crash();
                    }
                }
            }
            Happening::MasterStarts => self.start_master(),
            Happening::MasterDiskFills => {
                if self.faults {
                    *self.counts.entry("master's disk full").or_default() += 1;
                    self.note(|| "-- the master's disk is full".to_owned());
                    self.master.disk_is_full = true;
                    let lasts = 1_000 + self.random(300_000);
                    self.later(lasts, Happening::MasterDiskHasRoom);
                }
            }
            Happening::MasterDiskHasRoom => self.master.disk_is_full = false,
            Happening::ClockSet => {
                if self.faults {
                    self.clock_is_set();
                    let next = 120_000 + self.random(1_200_000);
                    self.later(next, Happening::ClockSet);
                }
            }
            Happening::FleetLook => {
                self.look_at_fleet();
                let every = u64::try_from(FLEET_LOOK.as_millis()).unwrap_or(u64::MAX);
                self.later(every, Happening::FleetLook);
            }
        }
    }
}

/// Whose connection it is, for the trace.
pub(crate) fn name_of(worker: &Option<WorkerName>) -> &str {
    worker.as_ref().map_or("nobody", WorkerName::as_str)
}
