//! The stretches in which an instance ran, and what of them one pays for.

use std::time::Duration;

use crate::master::domain::entities::Instance;
use crate::master::domain::entities::InstanceRun;
use crate::master::domain::settings::ProvisionerKind;
use crate::model::status::InstanceStatus;
use crate::model::time::Timestamp;

impl Instance {
    /// How many seconds of it one pays for, up to a moment, which may be long over: each stretch in which it ran, in whole seconds
    /// begun, and never less than its cloud bills for a start. The only place that says so.
    pub fn billed_secs(&self, provisioner: ProvisionerKind, until: Timestamp) -> u64 {
        let least = provisioner.billed_secs_min();
        let billed = self.runs.iter().filter_map(|run| run.ran(until));
        billed.map(|ran| secs_begun(ran).max(least)).fold(0, u64::saturating_add)
    }

    /// For how long it has run until now, all stretches together.
    pub(super) fn ran(&self, now: Timestamp) -> Duration {
        self.runs.iter().filter_map(|run| run.ran(now)).sum()
    }

    /// The same without its present stretch.
    pub(super) fn ran_before(&self) -> Duration {
        let before = self.runs.split_last().map_or(&[][..], |(_, before)| before);
        let ran = |run: &InstanceRun| run.ended_at.and_then(|ended| run.ran(ended));
        before.iter().filter_map(ran).sum()
    }

    /// When its present stretch was asked for: its launch, or its last start.
    pub(super) fn asked_at(&self) -> Timestamp {
        self.runs.last().map_or(self.requested_at, |run| run.asked_at)
    }

    /// Whether it was stopped at least once, and asked to start again.
    pub(super) fn is_started_again(&self) -> bool {
        self.runs.len() > 1
    }

    /// Whether its agent has not called since it was launched or last started. One that was started again has its
    /// bootstrap behind it: its worker is ready as soon as it calls.
    pub(super) fn is_silent(&self) -> bool {
        if !self.is_started_again() {
            return self.contact_at.is_none();
        }
        let is_up = matches!(self.status, InstanceStatus::Pending | InstanceStatus::Running);
        is_up && self.runs.last().is_some_and(|run| run.ready_at.is_none())
    }

    /// It is up, at this moment at the latest. That may be before it was known to be accepted: the answer to its
    /// launch was lost.
    pub(super) fn run_begins(&mut self, at: Timestamp) {
        if let Some(run) = self.runs.last_mut().filter(|run| run.ended_at.is_none()) {
            let at = at.max(run.asked_at);
            run.started_at = Some(run.started_at.map_or(at, |known| known.min(at)));
        }
        self.running_at = self.runs.first().and_then(|run| run.started_at);
    }

    /// Its worker is ready.
    pub(super) fn run_is_ready(&mut self, now: Timestamp) {
        if let Some(run) = self.runs.last_mut().filter(|run| run.ended_at.is_none()) {
            run.ready_at = run.ready_at.or(Some(now));
        }
    }

    /// It does not run any more.
    pub(super) fn run_ends(&mut self, now: Timestamp) {
        self.run_ended(now, None);
    }

    /// The same, where it may be known since when: by another clock, which is believed within what we saw.
    pub(super) fn run_ended(&mut self, now: Timestamp, since: Option<Timestamp>) {
        if let Some(run) = self.runs.last_mut() {
            let earliest = run.started_at.unwrap_or(run.asked_at);
            let at = since.map_or(now, |at| at.max(earliest).min(now));
            run.ended_at = run.ended_at.or(Some(at));
        }
    }

    /// Which start of the machine a listing shows.
    pub(super) fn run_is_called(&mut self, start: &str) {
        if let Some(run) = self.runs.last_mut() {
            run.start = Some(start.to_owned());
        }
    }

    /// What the start before its present one was called.
    pub(super) fn start_before(&self) -> Option<&str> {
        self.runs.iter().rev().nth(1)?.start.as_deref()
    }
}

impl InstanceRun {
    /// One that was just asked for.
    pub(super) fn asked(now: Timestamp) -> InstanceRun {
        InstanceRun { asked_at: now, started_at: None, ready_at: None, ended_at: None, start: None }
    }

    /// For how long it had run at this moment; nothing: it had not begun to.
    fn ran(&self, until: Timestamp) -> Option<Duration> {
        let started = self.started_at.filter(|started| *started <= until)?;
        Some(self.ended_at.map_or(until, |ended| ended.min(until)).since(started))
    }
}

fn secs_begun(time: Duration) -> u64 {
    u64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::rig::Rig;

    fn run(started: Option<u64>, ended: Option<u64>) -> InstanceRun {
        let at = |secs: u64| Timestamp(secs * 1000);
        InstanceRun {
            asked_at: Timestamp(0),
            started_at: started.map(at),
            ready_at: None,
            ended_at: ended.map(at),
            start: None,
        }
    }

    #[test]
    fn an_end_is_as_early_as_its_provisioner_says_but_not_before_the_start_or_after_we_saw_it() {
        let launched = Rig::launched_row();
        let check = |since: Option<u64>, expected: u64| {
            let runs = vec![run(Some(10), None)];
            let mut row = Instance { runs, ..launched.clone() };
            row.run_ended(Timestamp(30_000), since.map(|secs| Timestamp(secs * 1000)));
            assert_eq!(row.runs[0].ended_at, Some(Timestamp(expected * 1000)), "{since:?}");
        };
        check(None, 30);
        check(Some(25), 25);
        check(Some(5), 10);
        check(Some(31), 30);
    }

    #[test]
    fn a_run_begins_when_the_machine_says_but_not_before_it_was_asked_for() {
        let launched = Rig::launched_row();
        let at = |secs: u64| Timestamp(secs * 1000);
        let check = |said: u64, expected: u64| {
            let asked = InstanceRun { asked_at: at(8), ..run(Some(20), None) };
            let (runs, accepted_at) = (vec![asked], Some(at(12)));
            let mut row = Instance { runs, accepted_at, ..launched.clone() };
            row.run_begins(at(said));
            let known = [row.runs[0].started_at, row.running_at, row.accepted_at];
            assert_eq!(known, [Some(at(expected)), Some(at(expected)), accepted_at], "{said}");
        };
        check(15, 15);
        check(25, 20);
        // The answer to its launch was lost.
        check(10, 10);
        check(5, 8);
    }

    #[test]
    fn each_start_is_billed_by_the_second_and_for_a_minute_at_least() {
        let row = Rig::launched_row();
        let check = |runs: Vec<InstanceRun>, kind: ProvisionerKind, expected: u64| {
            let row = Instance { runs, ..row.clone() };
            assert_eq!(row.billed_secs(kind, Timestamp(1_000_500)), expected, "{:?}", row.runs);
        };
        check(vec![run(None, None)], ProvisionerKind::Ec2, 0);
        check(vec![run(None, Some(50))], ProvisionerKind::Ec2, 0);
        check(vec![run(Some(900), None)], ProvisionerKind::Ec2, 101);
        check(vec![run(Some(10), Some(11))], ProvisionerKind::Ec2, 60);
        check(vec![run(Some(10), Some(11))], ProvisionerKind::Local, 1);
        let twice = vec![run(Some(10), Some(20)), run(Some(100), Some(170)), run(None, None)];
        check(twice.clone(), ProvisionerKind::Ec2, 60 + 70);
        let row = Instance { runs: twice, ..row };
        let at = |secs: u64| row.billed_secs(ProvisionerKind::Ec2, Timestamp(secs * 1000));
        assert_eq!([at(5), at(12), at(50), at(99), at(165)], [0, 60, 60, 60, 60 + 65]);
    }
}
