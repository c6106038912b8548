//! What agents have to say of their machines (disk, memory), and the failures that it explains.

use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::model::ids::AttemptId;
use crate::model::ids::WorkerName;

/// No worker's notices are written down more often: a healthy agent has one in minutes.
const NOTICES_EVERY: Duration = Duration::from_secs(1);

impl Coordinator {
    pub(super) fn noticed(&mut self, name: &WorkerName, sentence: String) {
        let last = self.workers.get(name).and_then(|live| live.worker.notice.as_ref());
        if last.is_some_and(|(at, _)| self.now < *at + NOTICES_EVERY) {
            return;
        }
        self.change_worker(name, |worker, now| worker.notice = Some((now, sentence)));
    }

    /// What the worker of an attempt had to say while it ran.
    pub(super) fn explained_by_notice(&self, id: AttemptId) -> Option<String> {
        let attempt = self.attempts.get(&id)?;
        let live = self.workers.get(&attempt.worker)?;
        let (said_at, sentence) = live.worker.notice.as_ref()?;
        (*said_at >= attempt.assigned_at).then(|| format!("its worker said: {sentence}"))
    }
}

#[cfg(test)]
mod tests {
    use crate::master::domain::event::AgentEvent;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::model::attempt::AttemptOutcome;
    use crate::model::ids::ConnectionId;

    #[test]
    fn what_a_worker_said_during_a_job_stands_in_the_reason_of_its_failure_and_of_no_later_one() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (_, worker, connection) = rig.arrive();
        let attempt = rig.given();
        let say = |connection: ConnectionId| AgentEvent::Noticed {
            worker: worker.clone(),
            connection,
            sentence: "the disk is nearly full".to_owned(),
        };
        rig.agent(say(ConnectionId(999)));
        assert_eq!(rig.worker(&worker).notice, None, "from an older connection");
        rig.agent(say(connection));
        rig.finish(&worker, attempt, AttemptOutcome::Failed);
        assert_eq!(rig.reason("test"), "its worker said: the disk is nearly full");
        rig.wait(5);
        rig.build("app", vec![rig::job("next", &[])]);
        let attempt = rig.given();
        rig.finish(&worker, attempt, AttemptOutcome::Failed);
        assert_eq!(rig.job("next").reason, None);
    }

    #[test]
    fn it_explains_what_could_not_be_carried_out_too() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (_, worker, connection) = rig.arrive();
        let attempt = rig.given();
        let sentence = "memory ran out".to_owned();
        rig.agent(AgentEvent::Noticed { worker: worker.clone(), connection, sentence });
        let outcome = AttemptOutcome::Infra("the supervisor died".to_owned());
        rig.finish(&worker, attempt, outcome);
        let why = "queued again: the supervisor died; its worker said: memory ran out";
        assert!(rig.written.iter().any(|record| matches!(record,
            crate::master::domain::decision::Record::Job(job)
                if job.reason.as_deref() == Some(why))));
    }
}
