//! Which pool starts machines for a job that several could run: the first of the file, and another only while
//! that one starts none. Whoever is free first gets the job all the same.

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::pool::Pool;
use crate::master::domain::timers::Timer;
use crate::master::domain::wait_reason::LaunchHold;
use crate::model::ids::JobId;
use crate::model::ids::PoolName;

impl Coordinator {
    /// Takes over the jobs for which pools that are shut have no machine on its way. They do not go back when
    /// such a pool opens: only from one that is shut to one that is not, so nothing goes to and fro.
    pub(super) fn take_over(&mut self, name: &PoolName) {
        if !self.could_take_over(name) {
            return;
        }
        let others = self.pools.iter().filter(|(_, pool)| !pool.homed.is_empty());
        let shut: Vec<PoolName> =
            others.map(|(name, _)| name.clone()).filter(|other| self.is_shut(other)).collect();
        for home in shut {
            let counts = self.counts(&home);
            let left = counts.queued.saturating_sub(counts.free + counts.coming);
            let homed = self.pools.get(&home).into_iter().flat_map(|pool| &pool.homed);
            let theirs = homed.rev().filter(|job| self.next_home(**job).as_ref() == Some(name));
            let moving: Vec<JobId> = theirs.take(left).copied().collect();
            for job in moving {
                self.move_home(job, &home, name);
            }
        }
    }

    /// Lets the others look at what a pool that is shut has no machine for, and looks again itself when one
    /// of its candidates may be tried.
    pub(super) fn offer(&mut self, name: &PoolName) {
        let Some(pool) = self.pools.get_mut(name).filter(|pool| !pool.queue.is_empty()) else {
            return;
        };
        let again = pool.cool_until().filter(|_| pool.candidate(self.now).is_none());
        if let Some(again) = again.filter(|_| !self.timers.is_set(&Timer::Launch(name.clone()))) {
            pool.hold = Some(LaunchHold::NoRoom(pool.candidate_names()));
            self.timers.set(Timer::Launch(name.clone()), again);
        }
        if !pool.homed.is_empty() && self.is_shut(name) {
            let others = self.pools.keys().filter(|other| self.could_take_over(other));
            let others: Vec<PoolName> = others.cloned().collect();
            self.unsettled.extend(others);
        }
    }

    /// Whether a pool starts machines, and could run what it starts none for.
    fn could_take_over(&self, name: &PoolName) -> bool {
        let pool = self.pools.get(name);
        let could = |pool: &Pool| pool.launches() && pool.queue.len() > pool.homed.len();
        pool.is_some_and(could) && !self.is_shut(name)
    }

    /// Whether a pool starts nothing for a while, whatever waits. What holds all pools is no such reason.
    fn is_shut(&self, name: &PoolName) -> bool {
        let Some(pool) = self.pools.get(name) else { return true };
        let is_refused = pool.launches() && pool.candidate(self.now).is_none();
        let is_spent = self.spending.holds.contains_key(&Some(name.clone()));
        pool.state.paused.is_some() || is_refused || is_spent
    }

    /// The first of the pools that could run a job and are not shut.
    fn next_home(&self, job: JobId) -> Option<PoolName> {
        let pools = self.pools_for(self.jobs.get(&job)?).into_iter();
        let launches = |name: &PoolName| self.pools.get(name).is_some_and(Pool::launches);
        pools.filter(launches).find(|name| !self.is_shut(name))
    }

    fn move_home(&mut self, id: JobId, from: &PoolName, to: &PoolName) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Some(build) = self.builds.get(&job.build) else { return };
        if let Some(pool) = self.pools.get_mut(from) {
            pool.let_go(id, &build.project);
        }
        if let Some(pool) = self.pools.get_mut(to) {
            pool.take_in(id, &build.project, job.avoids_spot);
        }
        self.unexplained.insert(id);
        self.unsettled.insert(from.clone());
    }
}

#[cfg(test)]
mod tests {
    use crate::master::domain::decision::Action;
    use crate::master::domain::event::Event;
    use crate::master::domain::event::LaunchFailure;
    use crate::master::domain::event::Request;
    use crate::master::domain::pipeline::JobSpec;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::master::domain::settings::ProvisionerKind;
    use crate::model::money::Money;

    /// Two pools that could run the same, whose names are not in the order of the file.
    fn house() -> Rig {
        let labels = || ["linux"].into_iter().collect();
        let provisioner = ProvisionerKind::Ec2;
        let daily_budget = Some(Money(100_000));
        let small =
            PoolSettings { labels: labels(), daily_budget, provisioner, ..rig::pool("small") };
        let big = PoolSettings { labels: labels(), provisioner, ..rig::pool("big") };
        Rig::new(vec![small, big])
    }

    fn ask(rig: &mut Rig, names: &[&str]) {
        let worker = || Some(["linux"].into_iter().collect());
        let jobs = names.iter().map(|name| JobSpec { worker: worker(), ..rig::job(name, &[]) });
        rig.build("app", jobs.collect());
    }

    /// Of which pools machines were just asked for.
    fn asked(actions: &[Action]) -> Vec<&str> {
        let pools = actions.iter().filter_map(|action| match action {
            Action::Prepare { pool, .. } => Some(pool.as_str()),
            _ => None,
        });
        pools.collect()
    }

    /// There is no room for the newest machine.
    fn refuse(rig: &mut Rig) {
        let instance = rig.rows().pop().expect("a machine was asked for").id;
        let (sentence, failure) = ("no room".to_owned(), LaunchFailure::Capacity);
        rig.say(Event::LaunchFailed { instance, sentence, failure });
    }

    #[test]
    fn while_the_first_pool_is_paused_the_next_starts_machines_and_its_jobs_say_so() {
        let mut rig = house();
        rig.ask(Request::PausePool("small".into()));
        ask(&mut rig, &["test"]);
        assert_eq!(asked(&rig.done), ["big"]);
        let why = rig.reason("test");
        let begin = "pool \"small\" could start nothing for it; starting 1 worker in pool \"big\"";
        assert!(why.starts_with(begin), "{why}");
        rig.ask(Request::ResumePool("small".into()));
        assert!(asked(&rig.done).is_empty(), "one is on its way");
        ask(&mut rig, &["other"]);
        assert_eq!(asked(&rig.done), ["small"], "it is the first again for what comes");
    }

    #[test]
    fn what_is_on_its_way_to_a_pool_that_was_paused_is_waited_for() {
        let mut rig = house();
        ask(&mut rig, &["test"]);
        rig.ask(Request::PausePool("small".into()));
        assert!(asked(&rig.done).is_empty());
        let instance = rig.rows()[0].id;
        rig.say(Event::InstanceEnded { instance, sentence: None });
        assert_eq!(asked(&rig.done), ["big"], "until it has failed");
    }

    #[test]
    fn a_pool_whose_own_budget_is_spent_leaves_its_jobs_to_the_next() {
        let mut rig = house();
        rig.price = Some(Money(1_000_000));
        ask(&mut rig, &["test"]);
        let (instance, _, _) = rig.launches()[0].clone();
        rig.comes_up(instance);
        rig.wait(400);
        ask(&mut rig, &["other"]);
        assert_eq!(asked(&rig.done), ["big"]);
        assert!(rig.reason("other").contains("in pool \"big\""), "{}", rig.reason("other"));
        assert!(rig.reason("test").contains("in pool \"small\""), "{}", rig.reason("test"));
    }

    #[test]
    fn where_there_is_no_room_in_either_the_one_that_may_be_tried_first_is() {
        let mut rig = house();
        ask(&mut rig, &["test"]);
        refuse(&mut rig);
        assert_eq!(asked(&rig.done), ["big"]);
        rig.wait(60);
        refuse(&mut rig);
        assert!(asked(&rig.done).is_empty());
        let why = rig.reason("test");
        assert!(why.contains("there is no room for a machine (pool \"big\")"), "{why}");
        assert!(asked(&rig.wait(118)).is_empty());
        assert_eq!(
            asked(&rig.wait(4)),
            ["small"],
            "after its three minutes, one before the other's"
        );
    }
}
