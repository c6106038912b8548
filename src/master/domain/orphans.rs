//! A machine that carries our mark, and for which no row of the ledger is open. It is ended, and the
//! ledger gets a row that says why.

use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::decision::Record;
use crate::master::domain::decision::Urgency;
use crate::master::domain::entities::Instance;
use crate::master::domain::event::Machine;
use crate::master::domain::instances::LiveInstance;
use crate::model::ids::CloudId;
use crate::model::ids::InstanceId;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::ids::WorkerName;
use crate::model::status::InstanceStatus;
use crate::model::time::Timestamp;

/// A listing may lag behind the end of a machine by this, at most: seconds, mostly.
const ECHO_MAX: Duration = Duration::from_secs(5 * 60);

/// How long the launches of ended rows are kept in mind: as long as EC2 lists what has ended.
const ENDED_KEPT: Duration = Duration::from_secs(60 * 60);

/// The digits of a launch that are drawn by chance; the number of its row follows.
const CHANCE_DIGITS: usize = 32;

impl Coordinator {
    /// A row is over, perhaps since before this process.
    pub(super) fn note_ended(&mut self, instance: &Instance) {
        let machine = (instance.launch.clone(), instance.cloud_id.clone());
        self.ended_lately.insert(machine, instance.ended_at.unwrap_or(self.now));
        let now = self.now;
        self.ended_lately.retain(|_, ended_at| now.since(*ended_at) < ENDED_KEPT);
    }

    /// No row of the pool is open for this machine.
    pub(super) fn orphan(&mut self, pool: &PoolName, asked_at: Timestamp, machine: &Machine) {
        // Without its tag of a pool it is listed for every pool, and is some other's.
        let is_anothers = |live: &LiveInstance| live.instance.may_have(machine);
        if self.instances.values().any(is_anothers) {
            return;
        }
        let row = row_of(&machine.launch).unwrap_or(0);
        self.newest_row_seen = self.newest_row_seen.max(row);
        if self.is_unconfirmed(pool) {
            return;
        }
        let is_newer = self.is_of_a_newer_ledger(&machine.launch);
        if is_newer && self.never_listed.contains(pool) {
            // Of a ledger that is lost, however quick this one was to launch.
            self.count_on_from(row);
        } else if is_newer && self.last_ids.instance > 0 {
            let what = format!("machine {}", machine.cloud_id);
            return self.doubt_the_ledger(&of_a_newer_ledger(&what));
        }
        let ended_at = |cloud_id| {
            let machine = (machine.launch.clone(), cloud_id);
            self.ended_lately.get(&machine).copied()
        };
        match (ended_at(Some(machine.cloud_id.clone())), ended_at(None)) {
            (Some(ended_at), _) | (None, Some(ended_at)) if asked_at <= ended_at => {}
            (Some(ended_at), _) if asked_at.since(ended_at) < ECHO_MAX => {
                self.perform(end(pool, &machine.launch, Some(&machine.cloud_id)));
            }
            (Some(_), _) => self.take_in(pool, machine, "it is still there, and its row was over"),
            (None, Some(_)) => {
                self.take_in(pool, machine, "its launch was refused or given up, and it came");
            }
            (None, None) if self.is_known(&machine.launch) => {
                let why = "it has the mark of another machine: a copy of it, or one too many";
                self.take_in(pool, machine, why);
            }
            (None, None) => {
                self.take_in(pool, machine, "an earlier life of this master has left it");
            }
        }
    }

    /// Whether a row has this launch, of those that are open or were lately.
    fn is_known(&self, launch: &LaunchId) -> bool {
        let mut ended = self.ended_lately.keys();
        self.instances.values().any(|live| live.instance.launch == *launch)
            || ended.any(|(of, _)| of == launch)
    }

    /// Rows up to this one are of this ledger, whether it still has them or not.
    pub(super) fn count_on_from(&mut self, row: u64) {
        self.last_ids.instance = self.last_ids.instance.max(row);
    }

    /// Launches whose request is open. One without an open row is over, or of an earlier life: nobody waits for
    /// its machine any more.
    pub(super) fn requests_open(&mut self, pool: &PoolName, launches: Vec<LaunchId>) {
        for launch in launches {
            if self.instances.values().any(|live| live.instance.launch == launch) {
                continue;
            }
            self.newest_row_seen = self.newest_row_seen.max(row_of(&launch).unwrap_or(0));
            if self.is_unconfirmed(pool) {
                continue;
            }
            if self.is_of_a_newer_ledger(&launch) && self.last_ids.instance > 0 {
                return self.doubt_the_ledger(&of_a_newer_ledger("a request for a machine"));
            }
            self.perform(end(pool, &launch, None));
        }
    }

    fn is_of_a_newer_ledger(&self, launch: &LaunchId) -> bool {
        row_of(launch).is_some_and(|row| row > self.last_ids.instance)
    }

    /// It gets a row, which ends when it does.
    fn take_in(&mut self, pool: &PoolName, machine: &Machine, why: &str) {
        let Some(known) = self.pools.get_mut(pool) else { return };
        known.alive += 1;
        self.last_ids.instance += 1;
        let id = InstanceId(self.last_ids.instance);
        let name: String = machine.launch.as_str().chars().take(10).collect();
        let instance = Instance {
            id,
            launch: machine.launch.clone(),
            pool: pool.clone(),
            worker: WorkerName(format!("{pool}-{name}")),
            status: InstanceStatus::Terminating,
            candidate: 0,
            seat: None,
            what: None,
            price_per_hour: None,
            request: None,
            cloud_id: Some(machine.cloud_id.clone()),
            why_started: "nobody knows: it was found by its mark".to_owned(),
            why_ended: Some(why.to_owned()),
            requested_at: self.now,
            accepted_at: Some(self.now),
            running_at: None,
            contact_at: None,
            ready_at: None,
            ending_at: Some(self.now),
            ended_at: None,
            runs: Vec::new(),
        };
        self.remember(Record::Instance(instance.clone()));
        self.instances.insert(id, LiveInstance::new(instance));
        self.ask_to_end(id, None);
    }
}

/// Its end, without a row: it most probably has one that says so already.
fn end(pool: &PoolName, launch: &LaunchId, cloud_id: Option<&CloudId>) -> Action {
    Action::Terminate {
        instance: None,
        launch: launch.clone(),
        pool: pool.clone(),
        cloud_id: cloud_id.cloned(),
        console_for: None,
        urgency: Urgency::Orderly,
    }
}

fn of_a_newer_ledger(what: &str) -> String {
    format!(
        "{what} was launched by a ledger that is newer than this one: this data_dir is an old copy, or \
         another master has the same id"
    )
}

/// The row that a launch was made for; nothing where it does not say.
fn row_of(launch: &LaunchId) -> Option<u64> {
    let digits = launch.as_str().get(CHANCE_DIGITS..).filter(|digits| digits.len() >= 8)?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::event::Event;
    use crate::master::domain::event::LaunchFailure;
    use crate::master::domain::event::MachineState;
    use crate::master::domain::event::Request;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::master::domain::snapshot::Snapshot;

    fn listed(rig: &mut Rig, pool: &str, launch: &LaunchId, state: MachineState) {
        let asked_at = rig.now;
        rig.wait(1);
        let machine = Machine { state, ..rig::machine("i-1", launch) };
        rig.say(Event::CloudListed { pool: pool.into(), asked_at, machines: vec![machine] });
    }

    /// Nothing is there yet.
    fn nothing_listed(rig: &mut Rig, pool: &str) {
        let (asked_at, machines) = (rig.now, Vec::new());
        rig.say(Event::CloudListed { pool: pool.into(), asked_at, machines });
    }

    fn rows(rig: &Rig) -> Vec<Instance> {
        rig.rows()
    }

    fn is_ended(rig: &Rig) -> bool {
        rig.done.iter().any(|action| matches!(action, Action::Terminate { .. }))
    }

    fn launch(row: u64) -> LaunchId {
        LaunchId(format!("{:032x}{row:08x}", 7))
    }

    #[test]
    fn what_an_earlier_life_has_left_gets_a_row_that_says_why_it_ended() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        listed(&mut rig, "linux", &launch(9), MachineState::Running);
        assert!(is_ended(&rig));
        let row = rows(&rig).pop().expect("it has a row");
        assert_eq!((row.status, row.cloud_id), (InstanceStatus::Terminating, Some("i-1".into())));
        assert_eq!(row.why_ended.as_deref(), Some("an earlier life of this master has left it"));
        listed(&mut rig, "linux", &launch(9), MachineState::Ending);
        assert_eq!(rows(&rig).len(), 1, "and one alone");
        listed(&mut rig, "linux", &launch(9), MachineState::Ended);
        assert_eq!(rows(&rig)[0].status, InstanceStatus::Terminated);
    }

    #[test]
    fn a_listing_that_lags_behind_an_end_makes_no_row() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, launch, _) = rig.launches()[0].clone();
        rig.accept(instance);
        let before = rig.now;
        rig.wait(1);
        rig.say(Event::InstanceEnded { instance, sentence: None });
        let n_rows = rows(&rig).len();
        let machines = vec![rig::machine("i-1", &launch)];
        rig.say(Event::CloudListed { pool: "linux".into(), asked_at: before, machines });
        assert!(!is_ended(&rig));
        rig.wait(1);
        listed(&mut rig, "linux", &launch, MachineState::Running);
        assert!(is_ended(&rig), "a later one may be true: it is ended, and has its row already");
        assert_eq!(rows(&rig).len(), n_rows);
        rig.wait(6 * 60);
        listed(&mut rig, "linux", &launch, MachineState::Running);
        let why = rows(&rig)
            .into_iter()
            .find_map(|row| row.why_ended.filter(|why| why.contains("still")));
        assert!(why.is_some(), "it outlived its row: {:?}", rows(&rig));
    }

    #[test]
    fn a_master_that_starts_again_knows_what_has_ended_before() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, launch, _) = rig.launches()[0].clone();
        rig.accept(instance);
        rig.say(Event::InstanceEnded { instance, sentence: None });
        let ended_instances = vec![rig.row(instance)];
        for (minutes, n_rows) in [(1, 0), (6, 1)] {
            let snapshot = Snapshot { ended_instances: ended_instances.clone(), ..rig.launched() };
            let now = rig.now + Duration::from_secs(60 * minutes);
            let mut next = Rig::load_at(vec![rig::pool("linux")], snapshot, now);
            listed(&mut next, "linux", &launch, MachineState::Running);
            assert!(is_ended(&next), "after {minutes} min");
            let whys = rows(&next).into_iter().filter_map(|row| row.why_ended);
            let whys: Vec<String> = whys.collect();
            assert_eq!(whys, vec!["it is still there, and its row was over"; n_rows]);
        }
    }

    #[test]
    fn a_machine_whose_launch_was_refused_is_no_echo_and_gets_a_row() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, launch, _) = rig.launches()[0].clone();
        let (request, what) = ("request".to_owned(), "a machine".to_owned());
        rig.say(Event::LaunchPrepared { instance, request, what, price_per_hour: None });
        let (sentence, failure) = ("EC2 refused it".to_owned(), LaunchFailure::Denied);
        rig.say(Event::LaunchFailed { instance, sentence, failure });
        rig.wait(1);
        listed(&mut rig, "linux", &launch, MachineState::Running);
        assert!(is_ended(&rig));
        let row = rows(&rig).pop().expect("it has a row");
        assert_eq!((row.status, row.cloud_id), (InstanceStatus::Terminating, Some("i-1".into())));
    }

    #[test]
    fn a_machine_that_lost_its_tag_is_left_to_the_pool_that_has_its_row() {
        let mut rig = Rig::new(vec![rig::pool("linux"), rig::pool("arm")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, launch, _) = rig.launches()[0].clone();
        rig.accept(instance);
        listed(&mut rig, "arm", &launch, MachineState::Running);
        assert!(!is_ended(&rig));
    }

    #[test]
    fn machines_of_a_newer_ledger_are_left_alone_and_nothing_is_launched_beside_them() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        nothing_listed(&mut rig, "linux");
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, _, _) = rig.arrive();
        listed(&mut rig, "linux", &launch(1000), MachineState::Running);
        assert!(!is_ended(&rig));
        assert!(rig.done.iter().any(|action| matches!(action, Action::Alarm(_))));
        rig.build("app", vec![rig::job("again", &[]), rig::job("more", &[])]);
        assert!(rig.launches().is_empty());
        assert!(
            rig.reason("more").contains("another master has the same id"),
            "{}",
            rig.reason("more")
        );
        assert!(!rig::ends(&rig.wait(3600), instance), "nor are our own ended");
    }

    #[test]
    fn whoever_confirms_a_ledger_is_not_asked_again_and_what_it_does_not_know_is_ended() {
        let mut rig = Rig::new(vec![rig::pool("linux"), rig::pool("arm")]);
        nothing_listed(&mut rig, "linux");
        nothing_listed(&mut rig, "arm");
        rig.build("app", vec![rig::job("test", &[])]);
        rig.arrive();
        listed(&mut rig, "linux", &launch(1000), MachineState::Running);
        listed(&mut rig, "arm", &launch(2000), MachineState::Running);
        for (pool, row) in [("linux", 1000), ("arm", 2000)] {
            rig.ask(Request::ResumePool(pool.into()));
            listed(&mut rig, pool, &launch(row), MachineState::Running);
            assert!(is_ended(&rig), "pool {pool}");
            assert!(!rig.done.iter().any(|action| matches!(action, Action::Alarm(_))));
            assert!(!rig.it.is_unconfirmed(&pool.into()));
        }
        assert!(rig.rows().last().is_some_and(|row| row.id.0 > 2000), "what is new is newer");
        listed(&mut rig, "linux", &launch(3000), MachineState::Running);
        assert!(rig.it.is_unconfirmed(&"linux".into()), "somebody goes on launching");
    }

    #[test]
    fn a_lost_ledger_leaves_nothing_running_however_soon_the_new_one_launches() {
        let warm = |name: &str| PoolSettings { min_idle: 1, ..rig::pool(name) };
        let mut rig = Rig::new(vec![warm("linux"), warm("arm")]);
        assert_eq!(rig.launches().len(), 2, "before anything is listed");
        for (pool, row) in [("linux", 9), ("arm", 7)] {
            listed(&mut rig, pool, &launch(row), MachineState::Running);
            assert!(is_ended(&rig), "pool {pool}");
            assert!(!rig.it.is_unconfirmed(&pool.into()));
        }
        listed(&mut rig, "arm", &launch(99), MachineState::Running);
        assert!(rig.it.is_unconfirmed(&"arm".into()), "and what is newer still is another's");
    }

    #[test]
    fn a_launch_of_a_version_that_did_not_number_them_tells_no_row() {
        assert_eq!(row_of(&LaunchId::from("0123456789abcdef0123456789abcdef")), None);
        assert_eq!(row_of(&LaunchId::from("0123")), None);
        assert_eq!(row_of(&launch(77)), Some(77));
    }

    #[test]
    fn a_request_that_is_open_for_nobody_is_cancelled_and_one_of_an_open_row_is_not() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, _, _) = rig.launches()[0].clone();
        let open = |rig: &mut Rig, launch: &LaunchId| {
            let (pool, launches) = ("linux".into(), vec![launch.clone()]);
            rig.say(Event::RequestsOpen { pool, launches });
            let ends = rig.done.iter().filter_map(|done| match done {
                Action::Terminate { launch, cloud_id: None, .. } => Some(launch.clone()),
                _ => None,
            });
            ends.collect::<Vec<_>>()
        };
        let ours = rig.launch_of(instance);
        assert_eq!(open(&mut rig, &ours), [], "its outcome is not known yet");
        let earlier = LaunchId::from("of-an-earlier-life");
        assert_eq!(open(&mut rig, &earlier), [earlier]);
        let (sentence, failure) = ("no room".to_owned(), LaunchFailure::Other);
        rig.say(Event::LaunchFailed { instance, sentence, failure });
        assert_eq!(open(&mut rig, &ours), std::slice::from_ref(&ours));
        let newer = LaunchId(format!("{}{:08x}", "0".repeat(CHANCE_DIGITS), 9));
        assert_eq!(open(&mut rig, &newer), [], "it may be another master's");
        assert!(rig.done.iter().any(|done| matches!(done, Action::Alarm(_))));
        assert_eq!(open(&mut rig, &ours), [], "nothing is ended until somebody is sure");
    }
}
