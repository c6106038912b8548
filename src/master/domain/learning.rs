//! What is learned from what runs, for looking ahead: how long jobs and machines take.

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Record;
use crate::master::domain::forecast;
use crate::master::domain::forecast::JOB_TIMES_MAX;
use crate::master::domain::forecast::JobTime;
use crate::model::ids::InstanceId;
use crate::model::ids::JobId;
use crate::model::status::JobStatus;

impl Coordinator {
    /// A job came to its end by itself.
    pub(super) fn learn_duration(&mut self, job: JobId, status: JobStatus) {
        let passed = match status {
            JobStatus::Passed => true,
            JobStatus::Failed => false,
            _ => return,
        };
        if !self.look_ahead.is_wanted {
            return;
        }
        let Some(job) = self.jobs.get(&job) else { return };
        let Some(build) = self.builds.get(&job.build) else { return };
        let Some(started_at) = job.started_at else { return };
        let (now, key) = (self.now, (build.project.clone(), job.spec.name.clone()));
        if !self.look_ahead.times.contains_key(&key) {
            self.forget_a_duration();
        }
        let fresh = || JobTime::new(key.0.clone(), key.1.clone());
        let time = self.look_ahead.times.entry(key.clone()).or_insert_with(fresh);
        time.see(now.since(started_at), passed, now);
        let time = time.clone();
        self.remember(Record::JobTime(time));
    }

    /// Makes room for one more.
    fn forget_a_duration(&mut self) {
        if self.look_ahead.times.len() < JOB_TIMES_MAX {
            return;
        }
        let oldest = self.look_ahead.times.iter().min_by_key(|(_, time)| time.seen_at);
        if let Some((key, _)) = oldest {
            let key = key.clone();
            self.look_ahead.times.remove(&key);
            self.remember(Record::JobTimeForgotten(key.0, key.1));
        }
    }

    /// A machine has become a ready worker: for the first time, or after a start.
    pub(super) fn learn_boot(&mut self, id: InstanceId) {
        let Some(row) = self.instances.get(&id).map(|live| &live.instance) else { return };
        if row.is_started_again() {
            return self.look_ahead.learn_start(&row.pool, self.now.since(row.asked_at()));
        }
        let took = self.now.since(row.requested_at);
        if let Some(pool) = self.pools.get_mut(&row.pool) {
            pool.note_boot(took);
        }
        if !self.look_ahead.is_wanted {
            return;
        }
        let pool = self.look_ahead.pool(&row.pool);
        pool.boot_ms = pool.boot_ms.with(forecast::ms(took));
        let pool = pool.clone();
        self.remember(Record::PoolForecast(pool));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::event::Proof;
    use crate::master::domain::forecast::Estimate;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::model::attempt::AttemptOutcome;
    use crate::model::ids::JobName;
    use crate::model::time::Timestamp;

    fn pool() -> PoolSettings {
        PoolSettings { look_ahead: true, ..rig::pool("linux") }
    }

    #[test]
    fn how_long_jobs_and_machines_take_is_learned_from_what_runs() {
        let mut rig = Rig::new(vec![pool()]);
        rig.build("app", vec![rig::job("build", &[])]);
        rig.wait(30);
        let row = rig.launched().instances.first().expect("a machine was asked for").clone();
        let worker = row.worker;
        rig.accept(row.id);
        let connection = rig.connect(&worker, rig::hello(Proof::Password), &[]);
        let attempt = rig.given();
        rig.start(&worker, attempt);
        rig.wait_beating(100, &[(&worker, connection)]);
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        let boots = rig.written.iter().filter_map(|record| match record {
            Record::PoolForecast(pool) => Some(pool.boot_ms),
            _ => None,
        });
        assert_eq!(boots.collect::<Vec<_>>(), [Estimate { mean: 30_000, seen: 1 }]);
        let times = rig.written.iter().filter_map(|record| match record {
            Record::JobTime(time) => Some(time.took_ms.mean),
            _ => None,
        });
        assert_eq!(times.collect::<Vec<_>>(), [100_000]);
    }

    #[test]
    fn what_is_kept_of_jobs_is_bounded() {
        let mut rig = Rig::new(vec![pool()]);
        for number in 0..JOB_TIMES_MAX as u64 {
            let job = JobName(format!("job-{number}"));
            let mut time = JobTime::new("app".into(), job.clone());
            time.seen_at = Timestamp(number + 1);
            rig.it.look_ahead.times.insert(("app".into(), job), time);
        }
        rig.build("app", vec![rig::job("new", &[])]);
        let (_, worker, _) = rig.arrive();
        let attempt = rig.given();
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        let forgotten = rig.written.iter().find_map(|record| match record {
            Record::JobTimeForgotten(_, job) => Some(job.clone()),
            _ => None,
        });
        assert_eq!(forgotten, Some("job-0".into()), "which was not seen for longest");
        assert_eq!(rig.it.look_ahead.times.len(), JOB_TIMES_MAX);
    }
}
