//! Who is told by mail, of what, and in which words.

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::model::ids::PoolName;
use crate::model::ids::WorkerName;

/// To whom a mail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// Those that `[mail]` names under `to`.
    Admins,
    /// These addresses.
    These(Vec<String>),
}

impl Coordinator {
    /// Tells by mail; like every action it may be lost in a crash, so nothing may depend on it.
    pub(super) fn mail(&mut self, to: Recipients, subject: String, text: String) {
        self.perform(Action::Mail { to, subject, text });
    }

    /// A machine was started and paid for, and no worker came of it. Asked for once it is known what
    /// follows for its pool.
    pub(super) fn mail_missing(&mut self, pool: &PoolName, worker: &WorkerName, why: &str) {
        let Some(known) = self.pools.get(pool) else { return };
        if known.settings.notify_on_missing.is_empty() || !known.launches() {
            return;
        }
        let to = Recipients::These(known.settings.notify_on_missing.clone());
        let subject = format!("pool {pool}: worker {worker} is missing");
        let next = match known.state.paused {
            Some(_) => "the pool is paused, so no other is started",
            None => "another is started when a job waits for one",
        };
        let text = format!(
            "The worker {worker} of pool {pool} was started and never became ready: {}.\n\n\
             Its machine is ended; {next}.\n\
             What it said while it booted: {}/workers/{worker}\n",
            why.trim_end_matches('.'),
            self.settings.url
        );
        self.mail(to, subject, text);
    }

    /// A pool launches nothing more until a person has looked. Its own addresses hear of it, the
    /// admins where it has none.
    pub(super) fn mail_paused(&mut self, pool: &PoolName, why: &str) {
        let Some(known) = self.pools.get(pool) else { return };
        let to = match known.settings.notify_on_missing.as_slice() {
            [] => Recipients::Admins,
            addresses => Recipients::These(addresses.to_vec()),
        };
        let subject = format!("pool {pool} has paused itself");
        let text = format!(
            "The pool {pool} launches no more machines, and its jobs wait: {why}.\n\n\
             When that is mended: busybee pool resume {pool}\n\
             Its machines: {}/instances\n",
            self.settings.url
        );
        self.mail(to, subject, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::event::AgentEvent;
    use crate::master::domain::event::Event;
    use crate::master::domain::event::LaunchFailure;
    use crate::master::domain::event::Request;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::model::step::StepOutcome;

    fn told(addresses: &[&str]) -> Rig {
        let notify_on_missing = addresses.iter().map(|one| (*one).to_owned()).collect();
        let mut rig = Rig::new(vec![PoolSettings { notify_on_missing, ..rig::pool("linux") }]);
        rig.build("app", vec![rig::job("test", &[])]);
        rig
    }

    fn mails(actions: &[Action]) -> Vec<(Recipients, String, String)> {
        let mails = actions.iter().filter_map(|action| match action {
            Action::Mail { to, subject, text } => Some((to.clone(), subject.clone(), text.clone())),
            _ => None,
        });
        mails.collect()
    }

    #[test]
    fn whoever_wants_to_know_is_told_of_a_boot_that_timed_out() {
        let mut rig = told(&["ops@example.com"]);
        let (instance, _, worker) = rig.launches()[0].clone();
        rig.accept(instance);
        let told = mails(&rig.wait(601));
        assert_eq!(told.len(), 1, "{told:?}");
        let (to, subject, text) = &told[0];
        assert_eq!(*to, Recipients::These(vec!["ops@example.com".to_owned()]));
        assert_eq!(*subject, format!("pool linux: worker {worker} is missing"));
        assert!(text.contains("its agent never called within 600 s"), "{text}");
        assert!(text.contains(&format!("https://ci.example/workers/{worker}")), "{text}");
    }

    #[test]
    fn nobody_is_told_of_a_boot_where_nobody_wants_to_know() {
        let mut rig = told(&[]);
        let (instance, _, _) = rig.launches()[0].clone();
        rig.accept(instance);
        assert_eq!(mails(&rig.wait(601)), []);
    }

    #[test]
    fn a_pool_that_pauses_itself_says_so_once() {
        let mut rig = told(&[]);
        let (instance, _, _) = rig.launches()[0].clone();
        let sentence = "EC2 refused RunInstances: UnauthorizedOperation".to_owned();
        rig.say(Event::LaunchFailed { instance, sentence, failure: LaunchFailure::Denied });
        let told = mails(&rig.done);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].0, Recipients::Admins);
        assert!(told[0].2.contains("UnauthorizedOperation"), "{told:?}");
        assert!(told[0].2.contains("busybee pool resume linux"), "{told:?}");
        assert_eq!(mails(&rig.wait(3600)), []);
    }

    #[test]
    fn a_machine_that_dies_and_a_script_that_fails_are_missed_too() {
        let mut rig = told(&["ops@example.com"]);
        let (instance, _, worker) = rig.launches()[0].clone();
        rig.accept(instance);
        let sentence = Some("EC2 ended it: Client.InvalidSnapshot.NotFound".to_owned());
        rig.say(Event::InstanceEnded { instance, sentence });
        let told = mails(&rig.done);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].1.contains(worker.as_str()) && told[0].2.contains("InvalidSnapshot"));

        let addresses = vec!["ops@example.com".to_owned()];
        let scripted = PoolSettings {
            has_bootstrap: true,
            notify_on_missing: addresses,
            ..rig::pool("linux")
        };
        let mut rig = Rig::new(vec![scripted]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (_, worker, connection) = rig.arrive();
        let (outcome, tail) = (StepOutcome::Exited(100), "no such package\n".to_owned());
        rig.agent(AgentEvent::BootstrapFinished { worker, connection, outcome, tail });
        let told = mails(&rig.done);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].2.contains("ended with 100; its last lines:\nno such package."),
            "{told:?}"
        );
    }

    #[test]
    fn one_that_is_lost_in_its_script_is_missed_too() {
        let notify_on_missing = vec!["ops@example.com".to_owned()];
        let scripted =
            PoolSettings { has_bootstrap: true, notify_on_missing, ..rig::pool("linux") };
        let mut rig = Rig::new(vec![scripted]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (_, worker, connection) = rig.arrive();
        rig.agent(AgentEvent::Disconnected { worker: worker.clone(), connection });
        let told = mails(&rig.wait(200));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].1.contains(worker.as_str()), "{told:?}");
        assert!(told[0].2.contains("has not been heard of"), "{told:?}");
    }

    #[test]
    fn one_that_never_gets_its_address_and_volumes_is_missed_once() {
        let notify_on_missing = vec!["ops@example.com".to_owned()];
        let seated =
            PoolSettings { seats: 1, max_instances: 1, notify_on_missing, ..rig::pool("linux") };
        let mut rig = Rig::new(vec![seated]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, _, worker) = rig.launches()[0].clone();
        rig.accept(instance);
        let sentence = "203.0.113.7 is taken by i-9".to_owned();
        rig.say(Event::EquipFailed { instance, sentence, failure: LaunchFailure::Other });
        let mut told = mails(&rig.done);
        rig.say(Event::InstanceEnded { instance, sentence: None });
        told.extend(mails(&rig.done));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].1.contains(worker.as_str()), "{told:?}");
        assert!(told[0].2.contains("is taken by i-9"), "{told:?}");
    }

    #[test]
    fn nobody_is_promised_another_machine_by_a_pool_that_has_paused_itself() {
        let mut rig = told(&["ops@example.com"]);
        let mut texts = Vec::new();
        for _ in 0..3 {
            let (instance, _, _) = rig.launches()[0].clone();
            rig.accept(instance);
            rig.say(Event::InstanceEnded { instance, sentence: None });
            let missing = mails(&rig.done).into_iter().filter(|mail| mail.1.contains("missing"));
            texts.extend(missing.map(|(_, _, text)| text));
            rig.done = rig.wait(120);
        }
        assert_eq!(texts.len(), 3, "{texts:?}");
        for text in &texts[..2] {
            assert!(text.contains("another is started when a job waits for one"), "{text}");
        }
        assert!(texts[2].contains("the pool is paused, so no other is started"), "{}", texts[2]);
    }

    #[test]
    fn one_that_was_asked_to_end_is_not_missed() {
        let mut rig = told(&["ops@example.com"]);
        let (instance, _, worker) = rig.launches()[0].clone();
        rig.accept(instance);
        rig.ask(Request::StopWorker(worker));
        let mut told = mails(&rig.done);
        rig.say(Event::InstanceEnded { instance, sentence: None });
        told.extend(mails(&rig.done));
        assert_eq!(told, []);
    }

    #[test]
    fn a_pool_that_somebody_paused_is_no_news() {
        let mut rig = told(&["ops@example.com"]);
        rig.ask(Request::PausePool("linux".into()));
        assert_eq!(mails(&rig.done), []);
    }
}
