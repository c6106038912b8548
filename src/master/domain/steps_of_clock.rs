//! Whether the time of day has stepped. Leases, graces and timeouts are counted with it, and none of them
//! may be over, or never be over, because somebody has set the clock.

use std::time::Duration;

use crate::master::domain::decision::Record;
use crate::master::domain::entities::Enrolment;
use crate::master::domain::snapshot::Snapshot;
use crate::model::time::Timestamp;

/// The time of day and a monotonic clock may disagree by this between two readings: time servers move a
/// clock by half a millisecond in a second, and a reading of both takes none.
const STEP_MIN: Duration = Duration::from_secs(10);

/// The last reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepsOfClock {
    now: Timestamp,
    monotonic: Duration,
}

impl StepsOfClock {
    /// A first reading.
    pub fn new(now: Timestamp, monotonic: Duration) -> StepsOfClock {
        StepsOfClock { now, monotonic }
    }

    /// Another one: by how much the time of day has stepped since the last, if it has. A machine that
    /// slept looks the same: its monotonic clock did not count that.
    pub fn step(&mut self, now: Timestamp, monotonic: Duration) -> Option<ClockStep> {
        let expected = self.now + monotonic.saturating_sub(self.monotonic);
        *self = StepsOfClock { now, monotonic };
        let has_stepped = now.since(expected).max(expected.since(now)) > STEP_MIN;
        has_stepped
            .then(|| ClockStep { ms: now.0.cast_signed().wrapping_sub(expected.0.cast_signed()) })
    }
}

/// By how much the time of day has stepped: what was noted by the old one is that much off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    ms: i64,
}

impl ClockStep {
    fn carry(self, moment: &mut Timestamp) {
        *moment = Timestamp(moment.0.saturating_add_signed(self.ms));
    }

    fn carry_all<const N: usize>(self, moments: [&mut Option<Timestamp>; N]) {
        moments.into_iter().flatten().for_each(|moment| self.carry(moment));
    }

    /// Moves what is counted from (the births of workers, the moments of machines, what is queued and what
    /// runs) to the new time of day, and gives the rows to write: boots and lifetimes are as long as they
    /// were, and so is what is billed, what a job costs and what is learned of it.
    pub fn carry_over(self, snapshot: &mut Snapshot) -> Vec<Record> {
        for worker in &mut snapshot.workers {
            self.carry(&mut worker.created_at);
            self.carry_all([&mut worker.idle_since, &mut worker.taken_at]);
            if let Enrolment::Unused { expires_at } = &mut worker.enrolment {
                self.carry_all([expires_at]);
            }
        }
        for row in &mut snapshot.instances {
            self.carry(&mut row.requested_at);
            self.carry_all([
                &mut row.accepted_at,
                &mut row.running_at,
                &mut row.contact_at,
                &mut row.ready_at,
                &mut row.ending_at,
            ]);
            for run in &mut row.runs {
                self.carry(&mut run.asked_at);
                self.carry_all([&mut run.started_at, &mut run.ready_at, &mut run.ended_at]);
            }
        }
        for attempt in &mut snapshot.attempts {
            self.carry(&mut attempt.assigned_at);
            self.carry_all([&mut attempt.started_at]);
        }
        // Those that are over have their times still: nothing is counted from them.
        let open = snapshot.jobs.iter_mut().filter(|job| !job.status.is_final());
        let jobs = open.map(|job| {
            self.carry_all([&mut job.queued_at, &mut job.started_at]);
            Record::Job(job.clone())
        });
        let mut carried: Vec<Record> = jobs.collect();
        carried.extend(snapshot.attempts.iter().cloned().map(Record::Attempt));
        carried.extend(snapshot.workers.iter().cloned().map(Record::Worker));
        carried.extend(snapshot.instances.iter().cloned().map(Record::Instance));
        carried
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::event::Proof;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::master::domain::settings::ProvisionerKind;
    use crate::model::attempt::AttemptOutcome;
    use crate::model::money::Money;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn has_stepped(clock: &mut StepsOfClock, now: Timestamp, monotonic: u64) -> Option<i64> {
        clock.step(now, s(monotonic)).map(|step| step.ms)
    }

    #[test]
    fn a_clock_that_is_set_has_stepped_once_and_one_that_is_slewed_has_not() {
        let start = Timestamp(1_000_000_000);
        let mut clock = StepsOfClock::new(start, s(50));
        assert_eq!(has_stepped(&mut clock, start + s(3600), 50 + 3590), None);
        let forward = has_stepped(&mut clock, start + s(7300), 50 + 3650);
        assert_eq!(forward, Some(3_640_000));
        assert_eq!(has_stepped(&mut clock, start + s(7310), 50 + 3660), None);
        let back = has_stepped(&mut clock, start + s(7000), 50 + 3670);
        assert_eq!(back, Some(-320_000));
    }

    /// What was committed is read again after the clock was set, as the event loop does it.
    fn set_by(rig: &Rig, pool: PoolSettings, hours: i64) -> Rig {
        let step = ClockStep { ms: hours * 3_600_000 };
        let mut snapshot = at_work(rig);
        assert!(!step.carry_over(&mut snapshot).is_empty());
        let mut now = rig.now;
        step.carry(&mut now);
        Rig::load_at(vec![pool], snapshot, now)
    }

    /// What a store would give back, with what its machines are at: the newest of each.
    fn at_work(rig: &Rig) -> Snapshot {
        let mut snapshot = rig.launched();
        for record in rig.written.iter().rev() {
            match record {
                Record::Build(row) if snapshot.builds.iter().all(|newer| newer.id != row.id) => {
                    snapshot.builds.push(row.clone());
                }
                Record::Job(row) if snapshot.jobs.iter().all(|newer| newer.id != row.id) => {
                    snapshot.jobs.push(row.clone());
                }
                Record::Attempt(row)
                    if snapshot.attempts.iter().all(|newer| newer.id != row.id) =>
                {
                    snapshot.attempts.push(row.clone());
                }
                _ => {}
            }
        }
        snapshot
    }

    /// A pool that keeps a worker.
    fn kept() -> PoolSettings {
        PoolSettings { min_idle: 1, ..rig::pool("linux") }
    }

    #[test]
    fn a_machine_has_its_boot_time_whichever_way_the_clock_is_set() {
        for hours in [-20, 20] {
            let mut rig = Rig::new(vec![kept()]);
            let (instance, _, _) = rig.launches()[0].clone();
            rig.accept(instance);
            rig.wait(500);
            let mut later = set_by(&rig, kept(), hours);
            assert!(!rig::ends(&later.wait(99), instance), "its 600 s are not over ({hours} h)");
            assert!(rig::ends(&later.wait(2), instance), "and now they are ({hours} h)");
        }
    }

    #[test]
    fn a_machine_has_its_lifetime_whichever_way_the_clock_is_set() {
        for hours in [-20, 20] {
            let mut rig = Rig::new(vec![kept()]);
            let (instance, worker, _) = rig.arrive();
            rig.wait(60);
            let mut later = set_by(&rig, kept(), hours);
            let connection = later.connect(&worker, rig::hello(Proof::Key), &[]);
            let beats = [(&worker, connection)];
            let done = later.wait_beating(12 * 3600 - 70, &beats);
            assert!(!rig::ends(&done, instance), "its 12 h are not over ({hours} h)");
            let done = later.wait_beating(20, &beats);
            assert!(rig::ends(&done, instance), "and now they are ({hours} h)");
        }
    }

    #[test]
    fn a_job_costs_and_takes_what_it_did_whichever_way_the_clock_is_set() {
        let (provisioner, look_ahead) = (ProvisionerKind::Ec2, true);
        let pool = PoolSettings { provisioner, look_ahead, ..rig::pool("linux") };
        for hours in [-20, 20] {
            let mut rig = Rig::new(vec![pool.clone()]);
            rig.price = Some(Money(3_600_000));
            rig.build("app", vec![rig::job("test", &[])]);
            let (_, worker, connection) = rig.arrive();
            let attempt = rig.given();
            rig.start(&worker, attempt);
            rig.wait_beating(100, &[(&worker, connection)]);
            let mut later = set_by(&rig, pool.clone(), hours);
            later.connect(&worker, rig::hello(Proof::Key), &[(attempt, false)]);
            later.finish(&worker, attempt, AttemptOutcome::Passed);
            let cost = later.written.iter().find_map(|record| match record {
                Record::ProjectDay(day) => Some(day.cost),
                _ => None,
            });
            assert_eq!(cost, Some(Money(100_000)), "100 s at $3.60 an hour ({hours} h)");
            let took = later.written.iter().find_map(|record| match record {
                Record::JobTime(time) => Some(time.took_ms.mean),
                _ => None,
            });
            assert_eq!(took, Some(100_000), "and that is what is learned ({hours} h)");
        }
    }
}
