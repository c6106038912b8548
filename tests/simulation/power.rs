//! Machines that are stopped and started again, and what a listing that is behind shows of that.

use busybee::master::domain::event::Event;
use busybee::master::domain::event::LaunchFailure;
use busybee::master::domain::event::MachineState;
use busybee::model::ids::InstanceId;
use busybee::model::ids::LaunchId;
use busybee::model::time::Timestamp;

use crate::cloud::CloudStep;
use crate::cloud::Machine;
use crate::cloud::cloud_id;
use crate::world::Happening;
use crate::world::World;

/// Whether a machine that lives runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    On,
    Stopping,
    Off,
}

impl Machine {
    pub(crate) fn power(&self) -> Power {
        self.powers.last().map_or(Power::On, |(_, power)| *power)
    }

    /// Whether it counts against what a pool may have.
    pub(crate) fn may_run(&self) -> bool {
        self.is_alive && self.power() != Power::Off
    }

    /// How often it was started, as somebody sees it who is behind.
    pub(crate) fn starts(&self, as_of: Timestamp) -> usize {
        let seen = self.powers.iter().filter(|(since, _)| *since <= as_of);
        seen.filter(|(_, power)| *power == Power::On).count()
    }

    /// As somebody sees it who is behind.
    pub(crate) fn state(&self, as_of: Timestamp) -> MachineState {
        if !self.is_alive && self.ended_at <= as_of {
            return MachineState::Ended;
        }
        let seen = self.powers.iter().rev().find(|(since, _)| *since <= as_of);
        match seen.map(|(_, power)| power) {
            Some(Power::Stopping) => MachineState::Stopping,
            Some(Power::Off) => MachineState::Stopped,
            Some(Power::On) | None => MachineState::Running,
        }
    }
}

impl World {
    /// The call itself is at once, and the machine takes its time.
    pub(crate) fn stop(&mut self, instance: InstanceId, launch: LaunchId) {
        if self.fault("stop lost", 100) {
            return;
        }
        if self.fault("stop refused", 40) {
            let sentence = "not allowed".to_owned();
            return self.tell_asker(100, Event::StopFailed { instance, sentence });
        }
        let (now, takes) = (self.now, 500 + self.random(40_000));
        let Some(machine) = self.cloud.machines.get_mut(&launch) else { return };
        if machine.is_alive && machine.power() == Power::On {
            machine.powers.push((now, Power::Stopping));
            self.later(takes, Happening::Cloud(CloudStep::Stops(launch, now)));
        }
    }

    pub(crate) fn stops(&mut self, launch: &LaunchId, since: Timestamp) {
        let now = self.now;
        let Some(machine) = self.cloud.machines.get_mut(launch) else { return };
        if !machine.is_alive || machine.powers.last() != Some(&(since, Power::Stopping)) {
            return;
        }
        machine.powers.push((now, Power::Off));
        let worker = machine.worker.clone();
        *self.counts.entry("machine stopped").or_default() += 1;
        self.host_goes_down(&worker);
    }

    pub(crate) fn start(&mut self, instance: InstanceId, launch: LaunchId) {
        let failed = |sentence: &str, failure| Event::LaunchFailed {
            instance,
            sentence: sentence.to_owned(),
            failure,
        };
        let now = self.now;
        let refused = self.fault("start refused", 100);
        let failures = [
            LaunchFailure::Capacity,
            LaunchFailure::Capacity,
            LaunchFailure::Quota,
            LaunchFailure::Denied,
            LaunchFailure::Other,
        ];
        let failure = failures[self.random(failures.len() as u64) as usize];
        let Some(machine) = self.cloud.machines.get_mut(&launch).filter(|it| it.is_alive) else {
            return self.tell_asker(50, failed("there is none", LaunchFailure::Invalid));
        };
        match machine.power() {
            Power::Off if refused => return self.tell_asker(200, failed("refused", failure)),
            Power::Off => {
                machine.powers.push((now, Power::On));
                let (worker, pool) = (machine.worker.clone(), machine.pool.clone());
                *self.counts.entry("machine started again").or_default() += 1;
                self.laws.machine_started(&self.settings, &self.cloud, &pool);
                let hangs = self.fault("boot hangs", 60);
                self.host_comes_up(&worker, hangs);
            }
            Power::Stopping => {
                return self.tell_asker(50, failed("it is stopping", LaunchFailure::Unsettled));
            }
            Power::On => {}
        }
        if self.fault("start's answer lost", 200) {
            self.tell_asker(200, failed("no answer", LaunchFailure::Unsettled));
        } else {
            let cloud_id = cloud_id(&launch);
            self.tell_asker(200, Event::InstanceAccepted { instance, cloud_id });
        }
    }
}
