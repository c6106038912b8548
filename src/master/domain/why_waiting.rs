//! What a pool's waiting jobs wait for, read off the scheduler's own state.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::doing::Doing;
use crate::master::domain::entities::Instance;
use crate::master::domain::entities::Worker;
use crate::master::domain::instances::LiveInstance;
use crate::master::domain::pool::Asker;
use crate::master::domain::pool::Pool;
use crate::master::domain::timers::Timer;
use crate::master::domain::wait_reason::Arriving;
use crate::master::domain::wait_reason::Besides;
use crate::master::domain::wait_reason::LaunchHold;
use crate::master::domain::wait_reason::Stage;
use crate::master::domain::wait_reason::WaitReason;
use crate::model::ids::JobId;
use crate::model::ids::PoolName;
use crate::model::status::InstanceStatus;
use crate::model::status::WorkerStatus;
use crate::model::time::Timestamp;

/// What changes all the time is told anew after this at the earliest: each telling writes a row for
/// each job that waits.
const TOLD_FOR: Duration = Duration::from_secs(60);

/// Why a worker is of no use to a job.
#[derive(Clone, Copy)]
enum Unfit {
    /// It serves another project.
    Others,
    /// It is on spot.
    OnSpot,
}

impl Coordinator {
    /// Tells the waiting jobs of a pool why they wait.
    pub(super) fn explain_queue(&mut self, name: &PoolName) {
        let Some(pool) = self.pools.get(name) else { return };
        let askers: Vec<Asker> = pool.askers.keys().cloned().collect();
        askers.iter().for_each(|asker| self.explain_to(name, asker));
    }

    /// Tells those of one asker: all of them if it has changed, else the new ones.
    fn explain_to(&mut self, name: &PoolName, asker: &Asker) {
        let Some(pool) = self.pools.get(name) else { return };
        let Some(theirs) = pool.askers.get(asker) else { return };
        let why = self.why_waiting(name, pool, asker);
        let old = pool.told.get(asker).filter(|(told, at)| {
            told.gist() == why.gist() && (*told == why || self.now.since(*at) < TOLD_FOR)
        });
        let (why, jobs): (WaitReason, Vec<JobId>) = match old {
            Some((told, at)) => {
                if *told != why {
                    // What is told now must not stay when it is no longer so.
                    self.timers.bring_forward(Timer::Tell(name.clone()), *at + TOLD_FOR);
                }
                (told.clone(), self.unexplained.intersection(theirs).copied().collect())
            }
            None => {
                let jobs = theirs.iter().copied().collect();
                if let Some(pool) = self.pools.get_mut(name) {
                    pool.told.insert(asker.clone(), (why.clone(), self.now));
                }
                (why, jobs)
            }
        };
        for job in jobs {
            self.explain_queued(job, name, &why);
            self.unexplained.remove(&job);
        }
    }

    fn explain_queued(&mut self, id: JobId, home: &PoolName, why: &WaitReason) {
        let Some(job) = self.jobs.get(&id) else { return };
        let times = job.fence.0.saturating_sub(u64::from(job.attempts));
        let mut why = why.clone();
        if let Some(first) = self.pools_for(job).into_iter().next().filter(|first| first != home) {
            why = WaitReason::Instead { of: first, now: Box::new(why) };
        }
        if times > 0 {
            why = WaitReason::NeverBegun { times, now: Box::new(why) };
        }
        self.explain(id, &why);
    }

    fn why_waiting(&self, name: &PoolName, pool: &Pool, asker: &Asker) -> WaitReason {
        if let Some(why) = &self.disk_full {
            return WaitReason::DiskFull(why.clone());
        }
        if let Some(why) = &pool.state.paused {
            return WaitReason::Paused { pool: name.clone(), why: why.clone() };
        }
        if !pool.launches() {
            return self.none_free(name.clone(), pool);
        }
        let hold = self.held(name, pool);
        let max = pool.settings.max_instances;
        match (self.launching(pool, asker), hold) {
            (Some((count, first, usually)), hold) => {
                // What is on its way may be enough: then nobody waits for what is held.
                let is_short = self.is_short(name, pool, asker, count);
                let hold = hold.filter(|_| is_short).map(Besides::Hold);
                let machines = pool.alive as usize;
                let is_full = is_short && pool.alive >= max;
                let full = is_full.then_some(Besides::Full { machines, max });
                let failed = || pool.last_failure.clone().map(Besides::Failed);
                let besides = hold.or(full).or_else(failed).map(Box::new);
                WaitReason::Launching { pool: name.clone(), count, first, usually, besides }
            }
            (None, Some(hold)) => hold,
            (None, None) => WaitReason::Full {
                machines: self.machines(name, pool, asker),
                max,
                longest: self.longest_job(name),
                pool: name.clone(),
            },
        }
    }

    /// Whether what is on its way, so much of it for this asker, is too little for the jobs that wait.
    fn is_short(&self, name: &PoolName, pool: &Pool, asker: &Asker, coming: usize) -> bool {
        let counts = self.counts(name);
        let theirs = pool.askers.get(asker).map_or(0, BTreeSet::len);
        theirs > coming || counts.queued > counts.free + counts.coming
    }

    /// What keeps the pool from launching.
    fn held(&self, name: &PoolName, pool: &Pool) -> Option<WaitReason> {
        let holds = &self.spending.holds;
        if let Some(hold) = holds.get(&Some(name.clone())).or_else(|| holds.get(&None)) {
            return Some(WaitReason::Budget(hold.clone()));
        }
        let again = self.timers.due_at(&Timer::Launch(name.clone()))?;
        let hold = pool.hold.clone().unwrap_or(LaunchHold::Failure);
        let why = pool.last_failure.clone().filter(|_| hold != LaunchHold::Agents);
        Some(WaitReason::Held { pool: name.clone(), hold, why, again })
    }

    /// What is on its way for this asker: how many, the first, and how long such a one usually takes.
    fn launching(&self, pool: &Pool, asker: &Asker) -> Option<(usize, Arriving, Option<Duration>)> {
        let coming = pool.coming.iter().filter_map(|worker| {
            let worker = &self.workers.get(worker)?.worker;
            let row = worker.instance.and_then(|id| self.instances.get(&id));
            let row = row.map(|live| &live.instance);
            // Its worker may be older: it was stopped since.
            Some((row.map_or(worker.created_at, Instance::asked_at), worker, row))
        });
        let mut coming: Vec<_> =
            coming.filter(|(_, worker, _)| self.is_unfit(pool, asker, worker).is_none()).collect();
        coming.sort_by_key(|(asked_at, ..)| *asked_at);
        let (since, first, row) = *coming.first()?;
        let candidate = row.and_then(|row| {
            let candidates = &pool.settings.candidates;
            Some(candidates.get(usize::try_from(row.candidate).ok()?)?.name.clone())
        });
        // What is usual is so of fresh machines.
        let is_started_again = row.is_some_and(Instance::is_started_again);
        let stage = match (first.status, row.map(|row| row.status)) {
            (WorkerStatus::Bootstrapping, _) => Stage::Prepares,
            (_, Some(InstanceStatus::Requested)) => Stage::Asked,
            (_, _) => Stage::Boots,
        };
        let usually = pool.usual_boot().filter(|_| !is_started_again);
        Some((coming.len(), Arriving { what: candidate, since, stage }, usually))
    }

    /// Why a worker without a job can have none of this asker's.
    fn is_unfit(&self, pool: &Pool, asker: &Asker, worker: &Worker) -> Option<Unfit> {
        let is_others = match (&asker.project, &worker.project) {
            (Some(ours), Some(its)) => ours != its,
            (None, _) | (_, None) => false,
        };
        if is_others {
            return Some(Unfit::Others);
        }
        let avoids_spot = asker.avoids_spot && pool.on_demand_candidate(self.now).is_some();
        (avoids_spot && self.is_on_spot(pool, &worker.name)).then_some(Unfit::OnSpot)
    }

    /// What the machines of a pool are at.
    fn machines(&self, name: &PoolName, pool: &Pool, asker: &Asker) -> BTreeMap<Doing, usize> {
        let mut machines = BTreeMap::new();
        for live in self.instances.values().filter(|live| &live.instance.pool == name) {
            if live.instance.status.may_run() {
                *machines.entry(self.doing(pool, asker, live)).or_default() += 1;
            }
        }
        machines
    }

    fn doing(&self, pool: &Pool, asker: &Asker, machine: &LiveInstance) -> Doing {
        match machine.instance.status {
            InstanceStatus::Stopping => return Doing::Stops,
            InstanceStatus::Terminating if machine.is_end_refused => return Doing::Stays,
            InstanceStatus::Terminating => return Doing::Ends,
            InstanceStatus::Requested
            | InstanceStatus::Pending
            | InstanceStatus::Running
            | InstanceStatus::Stopped
            | InstanceStatus::Terminated
            | InstanceStatus::Failed => {}
        }
        let Some(live) = self.workers.get(&machine.instance.worker) else { return Doing::Ends };
        let unfit = self.is_unfit(pool, asker, &live.worker);
        match (live.worker.status, unfit) {
            (WorkerStatus::Gone, _) => Doing::Ends,
            (WorkerStatus::Lost, _) => Doing::Away,
            (WorkerStatus::Starting | WorkerStatus::Bootstrapping, None) => Doing::Comes,
            (WorkerStatus::Starting | WorkerStatus::Bootstrapping, Some(Unfit::Others)) => {
                Doing::ComesForAnother
            }
            (WorkerStatus::Starting | WorkerStatus::Bootstrapping, Some(Unfit::OnSpot)) => {
                Doing::OnSpot
            }
            (_, _) if live.connection.is_none() => Doing::Away,
            (WorkerStatus::Busy, _) => Doing::Works,
            (WorkerStatus::Draining, _) => Doing::Drains,
            (WorkerStatus::Idle, None) => Doing::Idles,
            (WorkerStatus::Idle, Some(Unfit::Others)) => Doing::IdlesForAnother,
            (WorkerStatus::Idle, Some(Unfit::OnSpot)) => Doing::OnSpot,
        }
    }

    fn none_free(&self, name: PoolName, pool: &Pool) -> WaitReason {
        let mut of_pool: Vec<_> =
            self.workers.values().filter(|live| live.worker.pool == name).collect();
        let all = of_pool.len();
        of_pool.retain(|live| live.worker.status == WorkerStatus::Busy);
        let busy = of_pool.len();
        let away = all.saturating_sub(busy).saturating_sub(pool.n_idle());
        WaitReason::NoneFree { pool: name, busy, away, why: pool.last_failure.clone() }
    }

    /// Since when the longest of a pool's jobs runs.
    fn longest_job(&self, name: &PoolName) -> Option<Timestamp> {
        let started = self.attempts.values().filter_map(|attempt| {
            let worker = self.workers.get(&attempt.worker)?;
            attempt.started_at.filter(|_| worker.worker.pool == *name)
        });
        started.min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::master::domain::decision::Record;
    use crate::master::domain::event::AgentEvent;
    use crate::master::domain::event::Event;
    use crate::master::domain::event::LaunchFailure;
    use crate::master::domain::event::Machine;
    use crate::master::domain::event::MachineState;
    use crate::master::domain::event::Proof;
    use crate::master::domain::event::Request;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::master::domain::settings::ProvisionerKind;
    use crate::master::domain::settings::Stopping;
    use crate::model::attempt::AttemptOutcome;
    use crate::model::step::StepOutcome;

    /// Two ways to ask for one machine, and a bootstrap script.
    fn choosy() -> PoolSettings {
        let candidates = vec!["big".into(), "small".into()];
        let (has_bootstrap, max_instances) = (true, 1);
        PoolSettings { candidates, has_bootstrap, max_instances, ..rig::pool("linux") }
    }

    fn waiting(pool: PoolSettings) -> Rig {
        let mut rig = Rig::new(vec![pool]);
        rig.build("app", vec![rig::job("test", &[])]);
        rig
    }

    fn refuse(rig: &mut Rig, failure: LaunchFailure) {
        let (instance, _, _) = rig.launches().pop().expect("a machine was asked for");
        let sentence = "EC2 refused RunInstances".to_owned();
        rig.say(Event::LaunchFailed { instance, sentence, failure });
    }

    fn says(rig: &Rig, sentence: &str) {
        assert_eq!(rig.reason("test"), sentence);
    }

    #[test]
    fn a_launch_is_told_stage_by_stage_and_later_ones_with_what_is_usual() {
        let mut rig = waiting(choosy());
        says(
            &rig,
            "starting 1 worker in pool \"linux\": big was asked for at 1970-01-12 13:46:40 UTC",
        );
        let (instance, _, worker) = rig.launches()[0].clone();
        rig.accept(instance);
        says(
            &rig,
            "starting 1 worker in pool \"linux\": big, asked for at 1970-01-12 13:46:40 UTC, boots",
        );
        rig.wait(40);
        let hello = rig::hello(Proof::Password);
        let connection = rig.connect(&worker, hello, &[]);
        says(
            &rig,
            "starting 1 worker in pool \"linux\": big, asked for at 1970-01-12 13:46:40 UTC, runs its bootstrap \
             script",
        );
        let outcome = StepOutcome::Exited(0);
        rig.agent(AgentEvent::BootstrapFinished {
            worker: worker.clone(),
            connection,
            outcome,
            tail: String::new(),
        });
        let attempt = rig.given();
        assert!(
            rig.reason("test")
                .starts_with(&format!("given to {worker} at 1970-01-12 13:47:20 UTC"))
        );
        rig.start(&worker, attempt);
        assert_eq!(rig.job("test").reason, None, "it runs");
        rig.ask(Request::StopWorker(worker));
        rig.say(Event::InstanceEnded { instance, sentence: None });
        assert!(rig.reason("test").ends_with("usually ready after 40 s"), "{}", rig.reason("test"));
    }

    #[test]
    fn without_room_for_any_candidate_it_says_which_and_when_it_is_tried_again() {
        let mut rig = waiting(choosy());
        refuse(&mut rig, LaunchFailure::Capacity);
        says(
            &rig,
            "starting 1 worker in pool \"linux\": small was asked for at 1970-01-12 13:46:40 UTC; the last launch \
             failed: EC2 refused RunInstances",
        );
        refuse(&mut rig, LaunchFailure::Capacity);
        says(
            &rig,
            "there is no room for big and small (pool \"linux\"): EC2 refused RunInstances; tried again \
             at 1970-01-12 13:49:40 UTC",
        );
    }

    #[test]
    fn a_quota_and_a_failure_say_until_when_and_a_pause_says_why() {
        let mut rig = waiting(choosy());
        refuse(&mut rig, LaunchFailure::Quota);
        says(
            &rig,
            "pool \"linux\" may have no more machines just now: EC2 refused RunInstances; tried again at \
             1970-01-12 13:56:40 UTC",
        );
        let mut rig = waiting(choosy());
        refuse(&mut rig, LaunchFailure::Other);
        let why = rig.reason("test");
        let begin = "the last launch of pool \"linux\" failed: EC2 refused RunInstances; tried again at 1970-01-12 13:46:4";
        assert!(why.starts_with(begin), "{why}");
        let mut rig = waiting(choosy());
        refuse(&mut rig, LaunchFailure::Denied);
        says(
            &rig,
            "pool \"linux\" is paused: EC2 refused RunInstances; every 5 min it is asked dry whether it \
             may again",
        );
    }

    #[test]
    fn a_full_pool_is_told_once_however_often_it_is_looked_at() {
        let mut rig = Rig::new(vec![PoolSettings { max_instances: 1, ..rig::pool("linux") }]);
        rig.build("app", vec![rig::job("runs", &[]), rig::job("test", &[])]);
        let (_, worker, connection) = rig.arrive();
        let attempt = rig.given();
        rig.start(&worker, attempt);
        rig.ask(Request::ResumePool("linux".into()));
        let full = "every worker of pool \"linux\" is busy (1 of 1)";
        assert!(rig.reason("test").starts_with(full), "{}", rig.reason("test"));
        let written = rig.written.len();
        for _ in 0..20 {
            rig.ask(Request::ResumePool("linux".into()));
        }
        rig.wait_beating(600, &[(&worker, connection)]);
        let jobs = rig.written[written..].iter().filter(|record| matches!(record, Record::Job(_)));
        assert!(jobs.count() <= 1, "since when the other runs is told along");
        assert!(
            rig.reason("test").ends_with("runs since 1970-01-12 13:46:40 UTC"),
            "{}",
            rig.reason("test")
        );
    }

    #[test]
    fn a_job_that_a_worker_never_began_says_how_often() {
        let mut rig = waiting(PoolSettings { max_instances: 1, ..rig::pool("linux") });
        let (instance, worker, _) = rig.arrive();
        let attempt = rig.given();
        rig.agent(AgentEvent::AttemptRejected { worker, attempt, sentence: "no".to_owned() });
        assert!(rig.ends(instance));
        let why = rig.reason("test");
        let now =
            "given out once and never begun; now: pool \"linux\" has 1 of 1 machines: 1 ending";
        assert_eq!(why, now);
    }

    #[test]
    fn machines_of_ones_own_are_counted_as_they_are() {
        let own = PoolSettings { provisioner: ProvisionerKind::None, ..rig::pool("linux") };
        let mut rig = waiting(own);
        says(&rig, "pool \"linux\" has no worker yet");
        rig.ask(Request::AddWorker("mac".into(), "linux".into()));
        says(&rig, "no worker of pool \"linux\" is free (1 not connected)");
        let hello = rig::hello(Proof::Password);
        rig.connect(&"mac".into(), hello, &[]);
        let attempt = rig.given();
        rig.start(&"mac".into(), attempt);
        rig.build("app", vec![rig::job("other", &[])]);
        assert_eq!(rig.reason("other"), "no worker of pool \"linux\" is free (1 busy)");
        rig.finish(&"mac".into(), attempt, AttemptOutcome::Passed);
    }

    #[test]
    fn who_waits_behind_the_maximum_is_told_that_it_is_the_cause() {
        let pool = PoolSettings { max_instances: 2, ..rig::pool("linux") };
        let mut rig = Rig::new(vec![pool]);
        rig.build("app", vec![rig::job("a", &[]), rig::job("b", &[])]);
        assert!(rig.reason("b").ends_with("13:46:40 UTC"), "{}", rig.reason("b"));
        rig.build("app", vec![rig::job("test", &[])]);
        says(
            &rig,
            "starting 2 workers in pool \"linux\": the first was asked for at 1970-01-12 13:46:40 UTC; \
             no more now: 2 of 2 machines",
        );
    }

    #[test]
    fn what_is_there_or_comes_for_another_project_is_not_promised() {
        let (max_instances, shared) = (2, false);
        let mut rig = Rig::new(vec![PoolSettings { max_instances, shared, ..rig::pool("linux") }]);
        rig.build("app", vec![rig::job("a", &[]), rig::job("b", &[])]);
        let both = rig.launches();
        let mut at_work = Vec::new();
        for (instance, _, worker) in both {
            rig.accept(instance);
            let connection = rig.connect(&worker, rig::hello(Proof::Password), &[]);
            at_work.push((worker, connection, rig.given()));
        }
        rig.build("lib", vec![rig::job("test", &[])]);
        says(&rig, "every worker of pool \"linux\" is busy (2 of 2)");
        let (worker, _, attempt) = at_work.remove(0);
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        let told = "pool \"linux\" has 2 of 2 machines: 1 busy, 1 ending";
        says(&rig, told);
        let (worker, connection, _) = at_work.remove(0);
        rig.agent(AgentEvent::Disconnected { worker, connection });
        rig.wait(60);
        says(&rig, "pool \"linux\" has 2 of 2 machines: 1 not connected, 1 ending");
    }

    #[test]
    fn a_machine_that_starts_again_for_another_project_is_not_promised() {
        let stopping =
            Some(Stopping { max_stopped: 1, max_age: Duration::from_secs(7 * 24 * 3600) });
        let (max_instances, shared) = (1, false);
        let pool = PoolSettings { max_instances, shared, stopping, ..rig::pool("linux") };
        let mut rig = Rig::new(vec![pool]);
        rig.build("app", vec![rig::job("first", &[])]);
        let (instance, worker, connection) = rig.arrive();
        let attempt = rig.given();
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        rig.wait_beating(310, &[(&worker, connection)]);
        rig.agent(AgentEvent::Disconnected { worker, connection });
        let (launch, asked_at) = (rig.launch_of(instance), rig.now);
        let stopped = rig::machine(&format!("i-{instance}"), &launch);
        let machines = vec![Machine { state: MachineState::Stopped, ..stopped }];
        rig.wait(1);
        rig.say(Event::CloudListed { pool: "linux".into(), asked_at, machines });
        rig.build("app", vec![rig::job("again", &[])]);
        assert!(rig.reason("again").starts_with("starting 1 worker"), "{}", rig.reason("again"));
        rig.build("lib", vec![rig::job("test", &[])]);
        says(&rig, "pool \"linux\" has 1 of 1 machines: 1 starting for another project");
    }
}
