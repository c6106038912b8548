//! Which queued job goes to which idle worker, what its pool should start, and why the rest waits.

use crate::master::domain::autoscaler;
use crate::master::domain::autoscaler::PoolCounts;
use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::timers::Timer;
use crate::master::domain::wait_reason::LaunchHold;
use crate::master::domain::wait_reason::plural;
use crate::model::ids::JobId;
use crate::model::ids::PoolName;
use crate::model::ids::WorkerName;
use crate::model::status::InstanceStatus;

/// Events after which pools are looked at again, at most: each round assigns or ends something.
const ROUNDS_MAX: usize = 64;

impl Coordinator {
    /// Lets those run whose turn has come; then assigns, starts and explains, in every pool in which something
    /// has changed.
    pub(super) fn settle(&mut self) {
        self.look_at_turns();
        let mut has_looked = false;
        for _ in 0..ROUNDS_MAX {
            let Some(name) = self.unsettled.pop_first() else { break };
            self.assign_in(&name);
            self.take_over(&name);
            self.scale(&name);
            self.offer(&name);
            self.plan_idle_end(&name);
            self.explain_queue(&name);
            has_looked = true;
        }
        if has_looked {
            self.plan_budgets();
        }
    }

    /// What runs goes on, and what waits goes on waiting.
    pub(super) fn disk_is_full(&mut self, sentence: Option<String>) {
        self.disk_full = sentence;
        self.unsettled.extend(self.pools.keys().cloned());
    }

    /// Gives the oldest jobs to idle workers that may have them.
    fn assign_in(&mut self, name: &PoolName) {
        if self.disk_full.is_some() {
            return;
        }
        // A pair is looked for as often as there are idle workers; mostly the first job fits.
        while let Some((job, worker)) = self.next_pair(name) {
            if let Some(pool) = self.pools.get_mut(name) {
                pool.idle.unset(&worker);
            }
            self.assign(job, &worker);
        }
    }

    /// The oldest job that some idle worker may have, and that worker.
    fn next_pair(&self, name: &PoolName) -> Option<(JobId, WorkerName)> {
        let pool = self.pools.get(name).filter(|pool| pool.idle.len() > 0)?;
        pool.queue.iter().find_map(|(_, id)| {
            let job = self.jobs.get(id)?;
            let build = self.builds.get(&job.build)?;
            let fits = |name: &WorkerName| self.may_have(pool, job, name);
            Some((*id, pool.idle_worker_for(&build.project, fits)?))
        })
    }

    /// Starts machines for what waits, and makes room where only others' workers idle.
    fn scale(&mut self, name: &PoolName) {
        let Some(pool) = self.pools.get(name) else { return };
        if !pool.launches() || pool.state.paused.is_some() || self.disk_full.is_some() {
            return;
        }
        if self.budget_hold(name).is_some() || self.timers.is_set(&Timer::Launch(name.clone())) {
            return;
        }
        let counts = self.counts(name);
        let for_jobs = counts.queued.saturating_sub(counts.free + counts.coming);
        for index in 0..autoscaler::launches(counts) {
            if self.start_a_stopped(name, index < for_jobs) {
                continue;
            }
            if self.next_candidate(name).is_none() {
                // All of them were refused lately.
                let Some(pool) = self.pools.get_mut(name) else { return };
                let again = pool.cool_until().unwrap_or(self.now);
                pool.hold = Some(LaunchHold::NoRoom(pool.candidate_names()));
                return self.timers.set(Timer::Launch(name.clone()), again);
            }
            let why = if counts.queued > counts.free + counts.coming {
                format!("{} waiting for pool \"{name}\"", plural(counts.queued, "job"))
            } else {
                format!("pool \"{name}\" keeps {} ready", plural(counts.min_idle, "worker"))
            };
            self.launch(name, why);
        }
        let is_full = counts.alive >= counts.max_instances;
        if is_full && counts.queued > counts.free + counts.coming && counts.idle > counts.free {
            // What is ending already makes room as well.
            let ours = self.instances.values().filter(|live| &live.instance.pool == name);
            let is_ending = |status: InstanceStatus| {
                matches!(status, InstanceStatus::Stopping | InstanceStatus::Terminating)
            };
            let ending = ours.filter(|live| is_ending(live.instance.status)).count();
            if counts.queued > counts.free + counts.coming + ending {
                self.end_longest_idle(name);
            }
        }
        self.look_ahead_in(name);
    }

    /// Ends the idle worker that idles longest: it is bound to another project, and the pool is full.
    fn end_longest_idle(&mut self, name: &PoolName) {
        if let Some(worker) = self.pools.get(name).and_then(|pool| pool.idle.longest()) {
            let why = "idle, bound to another project, and its place was needed";
            self.retire(&worker, why);
        }
    }

    pub(super) fn counts(&self, name: &PoolName) -> PoolCounts {
        let Some(pool) = self.pools.get(name) else { return PoolCounts::default() };
        let coming = pool.coming.len() - self.n_coming_in_vain(name);
        let useless = self.n_useless_on_spot(name, pool.n_free() + coming);
        PoolCounts {
            queued: pool.homed.len(),
            free: pool.n_free().saturating_sub(useless.saturating_sub(coming)),
            idle: pool.n_idle(),
            coming: coming.saturating_sub(useless),
            alive: pool.alive as usize,
            max_instances: pool.settings.max_instances as usize,
            min_idle: pool.settings.min_idle as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::master::domain::decision::Action;
    use crate::master::domain::decision::Answer;
    use crate::master::domain::event::Event;
    use crate::master::domain::event::Request;
    use crate::master::domain::pipeline::JobSpec;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::model::attempt::AttemptOutcome;
    use crate::model::status::JobStatus;

    #[test]
    fn a_job_whose_labels_no_pool_offers_waits_and_says_so() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        let worker = Some(["arm64"].into_iter().collect());
        rig.build("app", vec![JobSpec { worker, ..rig::job("test", &[]) }]);
        assert_eq!(rig.status("test"), JobStatus::Queued);
        assert_eq!(rig.reason("test"), "no pool offers the labels arm64");
        assert!(rig.launches().is_empty());
    }

    #[test]
    fn a_paused_pool_launches_nothing_and_its_jobs_say_why() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.ask(Request::PausePool("linux".into()));
        rig.build("app", vec![rig::job("test", &[])]);
        assert!(rig.launches().is_empty());
        assert!(rig.reason("test").contains("is paused: somebody paused it"));
    }

    #[test]
    fn while_the_masters_disk_is_full_what_runs_goes_on_and_nothing_new_begins() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("runs", &[]), rig::job("waits", &[])]);
        let (_, worker, connection) = rig.arrive();
        let attempt = rig.given();
        rig.start(&worker, attempt);
        rig.say(Event::DiskFull("the disk is full".to_owned()));
        assert_eq!(rig.reason("waits"), "the disk is full");
        let answer = rig.ask(rig::start("app".into(), Default::default()));
        assert!(
            matches!(&answer, Some(Answer::Refused(why)) if why.sentence == "the disk is full")
        );

        // It may have ended long ago: its log has no room to come, and its result waits behind it.
        let hours = rig.wait_beating(3 * 3600, &[(&worker, connection)]);
        assert!(!hours.iter().any(|action| matches!(action, Action::Prepare { .. })));
        assert_eq!(rig.status("runs"), JobStatus::Running);
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        assert_eq!(rig.status("runs"), JobStatus::Passed);
        assert_eq!(rig.status("waits"), JobStatus::Queued);

        rig.say(Event::DiskHasRoom);
        rig.given();
    }

    #[test]
    fn a_worker_serves_one_project_unless_its_pool_is_shared() {
        for (shared, n_launches) in [(true, 0), (false, 1)] {
            let mut rig = Rig::new(vec![PoolSettings { shared, ..rig::pool("linux") }]);
            rig.build("app", vec![rig::job("test", &[])]);
            let (_, worker, _) = rig.arrive();
            let attempt = rig.given();
            rig.finish(&worker, attempt, AttemptOutcome::Passed);
            rig.build("lib", vec![rig::job("other", &[])]);
            assert_eq!(rig.launches().len(), n_launches, "shared: {shared}");
        }
    }

    #[test]
    fn a_full_pool_makes_room_for_another_project_and_no_more_room_than_needed() {
        let mut rig = Rig::new(vec![PoolSettings { shared: false, ..rig::pool("linux") }]);
        let mut working = Vec::new();
        rig.build("app", ["a", "b", "c"].iter().map(|name| rig::job(name, &[])).collect());
        for (instance, _, worker) in rig.launches() {
            rig.accept(instance);
            let proof = crate::master::domain::event::Proof::Password;
            rig.connect(&worker, rig::hello(proof), &[]);
            working.push((worker, rig.given()));
        }
        for (worker, attempt) in working {
            rig.finish(&worker, attempt, AttemptOutcome::Passed);
        }
        rig.build("lib", vec![rig::job("other", &[])]);
        let ended = rig.done.iter().filter(|action| matches!(action, Action::Terminate { .. }));
        assert_eq!(ended.count(), 1);
    }
}
