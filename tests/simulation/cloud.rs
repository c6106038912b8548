//! The fake cloud: launches take a while and may fail, boots may hang, machines may vanish, and a
//! listing is as old as its question.

use std::collections::BTreeMap;

use busybee::master::domain::event::Event;
use busybee::master::domain::event::LaunchFailure;
use busybee::master::domain::event::Machine as Listed;
use busybee::master::domain::event::MachineState;
use busybee::model::ids::CloudId;
use busybee::model::ids::InstanceId;
use busybee::model::ids::LaunchId;
use busybee::model::ids::PoolName;
use busybee::model::ids::WorkerName;

use crate::agents::Agent;
use crate::agents::AgentStep;
use crate::world::Happening;
use crate::world::World;

/// A machine, from its launch on; ended ones are listed for ever.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) instance: InstanceId,
    pub(crate) pool: PoolName,
    pub(crate) worker: WorkerName,
    pub(crate) is_alive: bool,
}

/// A launch that the cloud has not answered.
#[derive(Debug)]
struct Launching {
    instance: InstanceId,
    pool: PoolName,
    worker: WorkerName,
    /// It was told to end while it was under way.
    is_doomed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Cloud {
    pub(crate) machines: BTreeMap<LaunchId, Machine>,
    launching: BTreeMap<LaunchId, Launching>,
}

/// What the cloud does by itself.
pub(crate) enum CloudStep {
    LaunchEnds(LaunchId),
    Ends(LaunchId, Option<InstanceId>),
    Vanishes(LaunchId),
}

fn cloud_id(launch: &LaunchId) -> CloudId {
    CloudId(format!("i-{}", &launch.0[..8]))
}

impl World {
    pub(crate) fn prepare(&mut self, instance: InstanceId) {
        let takes = 10 + self.random(5_000);
        let event = if self.fault("preparation failed", 40) {
            let sentence = "the cloud does not answer".to_owned();
            Event::LaunchFailed { instance, sentence, failure: LaunchFailure::Unsettled }
        } else {
            let (request, what) = (format!("request of {instance}"), "a machine".to_owned());
            Event::LaunchPrepared { instance, request, what }
        };
        self.tell_master(takes, event);
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
            return self.tell_master(100, accepted);
        }
        if self.cloud.launching.contains_key(&launch) {
            return;
        }
        let launching = Launching { instance, pool, worker, is_doomed: false };
        self.cloud.launching.insert(launch.clone(), launching);
        let takes = 200 + self.random(30_000);
        self.later(takes, Happening::Cloud(CloudStep::LaunchEnds(launch)));
    }

    pub(crate) fn terminate(&mut self, instance: Option<InstanceId>, launch: LaunchId) {
        if let Some(launching) = self.cloud.launching.get_mut(&launch) {
            launching.is_doomed = true;
            return;
        }
        if self.fault("termination lost", 100) {
            return;
        }
        let takes = 500 + self.random(20_000);
        self.later(takes, Happening::Cloud(CloudStep::Ends(launch, instance)));
    }

    pub(crate) fn list(&mut self, pool: PoolName) {
        let takes = 100 + self.random(40_000);
        if self.fault("listing failed", 100) {
            let sentence = "the cloud is down".to_owned();
            return self.tell_master(takes, Event::CloudUnlisted { pool, sentence });
        }
        let all = self.cloud.machines.iter().filter(|(_, machine)| machine.pool == pool);
        let machines = all.map(|(launch, machine)| Listed {
            cloud_id: cloud_id(launch),
            launch: launch.clone(),
            state: if machine.is_alive { MachineState::Running } else { MachineState::Ended },
            reason: None,
        });
        let mut machines: Vec<Listed> = machines.collect();
        if self.random(2) == 0 {
            machines.retain(|machine| machine.state == MachineState::Running);
        }
        let asked_at = self.now;
        self.tell_master(takes, Event::CloudListed { pool, asked_at, machines });
    }

    pub(crate) fn cloud_step(&mut self, step: CloudStep) {
        match step {
            CloudStep::LaunchEnds(launch) => self.launch_ends(launch),
            CloudStep::Ends(launch, instance) => {
                self.machine_ends(&launch);
                if let Some(instance) = instance {
                    self.tell_master(50, Event::InstanceEnded { instance, sentence: None });
                }
            }
            CloudStep::Vanishes(launch) => {
                let machine = self.cloud.machines.get(&launch);
                let Some(machine) = machine.filter(|m| m.is_alive && self.faults) else { return };
                let instance = machine.instance;
                *self.counts.entry("machine vanishes").or_default() += 1;
                self.note(|| format!("-- the machine of {launch} vanishes"));
                self.machine_ends(&launch);
                if self.random(2) == 0 {
                    self.tell_master(500, Event::InstanceEnded { instance, sentence: None });
                }
            }
        }
    }

    fn launch_ends(&mut self, launch: LaunchId) {
        let Some(asked) = self.cloud.launching.remove(&launch) else { return };
        let Launching { instance, pool, worker, is_doomed } = asked;
        if is_doomed {
            return self.tell_master(50, Event::InstanceEnded { instance, sentence: None });
        }
        if self.fault("launch refused", 80) {
            let failures = [
                LaunchFailure::Capacity,
                LaunchFailure::Capacity,
                LaunchFailure::Unsupported,
                LaunchFailure::Quota,
                LaunchFailure::Denied,
                LaunchFailure::Other,
            ];
            let failure = failures[self.random(failures.len() as u64) as usize];
            let sentence = "refused".to_owned();
            let failed = Event::LaunchFailed { instance, sentence, failure };
            return self.tell_master(50, failed);
        }
        let machine =
            Machine { instance, pool: pool.clone(), worker: worker.clone(), is_alive: true };
        self.cloud.machines.insert(launch.clone(), machine);
        self.laws.machine_started(&self.settings, &self.cloud, &pool);
        self.agents.insert(worker.clone(), Agent::new(&worker, &pool, &launch, self.now.0));
        if self.fault("launch's answer lost", 80) {
            let sentence = "no answer".to_owned();
            let failure = LaunchFailure::Unsettled;
            self.tell_master(50, Event::LaunchFailed { instance, sentence, failure });
        } else {
            let cloud_id = cloud_id(&launch);
            self.tell_master(50, Event::InstanceAccepted { instance, cloud_id });
        }
        if self.fault("boot hangs", 60) {
            self.note(|| format!("-- {worker} will never call"));
        } else {
            let boot = 5_000 + self.random(60_000);
            self.later(boot, Happening::Agent(worker, AgentStep::Calls(1)));
        }
        if self.random(1000) < 150 {
            let lives = self.random(1_800_000);
            self.later(lives, Happening::Cloud(CloudStep::Vanishes(launch)));
        }
    }

    fn machine_ends(&mut self, launch: &LaunchId) {
        let Some(machine) = self.cloud.machines.get_mut(launch) else { return };
        if !std::mem::take(&mut machine.is_alive) {
            return;
        }
        let worker = machine.worker.clone();
        self.hang_up(&worker);
        self.agents.remove(&worker);
    }
}
