//! The agent's decisions: what follows from what its master says, what lies in its attempts' files, and
//! the time. Times are a monotonic clock's.

use std::time::Duration;

use crate::agent::domain::attempts::Attempts;
use crate::agent::domain::attempts::Do;
use crate::agent::domain::attempts::Found;
use crate::agent::domain::attempts::Ordered;
use crate::agent::domain::held::News;
use crate::agent::domain::held::Sight;
use crate::agent::domain::patience::Patience;
use crate::agent::domain::pulse::Pulse;
use crate::model::attempt::AttemptRef;
use crate::model::attempt::AttemptSpec;
use crate::model::attempt::LogOwner;
use crate::wire::message::Bootstrap;
use crate::wire::message::FromAgent;
use crate::wire::message::FromMaster;
use crate::wire::message::Inventory;
use crate::wire::message::Welcome;

/// When it is to end, what runs has this long to end first: TERM's grace and a little.
pub const END_GRACE: Duration = Duration::from_secs(15);

/// Something that happened to an agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A session began.
    Up {
        /// What the master said.
        welcome: Welcome,
        /// Whether the bootstrap script has passed already.
        bootstrapped: bool,
    },
    /// The session ended, or none came to be.
    Down,
    /// The master will never have this agent.
    Refused,
    /// The master said something.
    Message(FromMaster),
    /// The supervisor of an attempt was started, or why it could not be.
    Started(AttemptRef, u32, Result<(), String>),
    /// The files of an attempt were looked at.
    Looked(AttemptRef, Sight),
    /// The bootstrap script ended: its `BootstrapResult`.
    Bootstrapped(FromAgent),
    /// The machine's life is over: nothing extends it.
    LifeEnds,
    /// The cloud takes the machine away.
    Interrupted {
        /// When.
        at: Duration,
        /// What it says; for people.
        sentence: String,
    },
    /// A timeout came.
    Tick,
}

/// Something for the agent's process to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Say it in the present session; without one, nobody hears it, and it is said again in the next.
    Send(FromAgent),
    /// Say heartbeat number so and so, with the load of the machine.
    Heartbeat(u64),
    /// Logs may be shipped in this session, each from what the master has durably.
    ShipLogs,
    /// Ship the log of this owner from now on, as it grows.
    Ship(LogOwner),
    /// What the master says of a log.
    Ack {
        /// Whose.
        owner: LogOwner,
        /// What it has, durably.
        durable: u64,
        /// From where it wants more, if not from where we are.
        rewind_to: Option<u64>,
    },
    /// Look at the files of all attempts.
    Look,
    /// Write an attempt down and start its supervisor; answered by `Started`.
    Start {
        /// What to do.
        spec: Box<AttemptSpec>,
        /// Until when it may run without word from the master.
        lease_until: Duration,
        /// It is cancelled already.
        cancelled: bool,
    },
    /// Ask an attempt's supervisor to end it.
    Cancel(AttemptRef),
    /// Remove an attempt's files.
    Remove(AttemptRef),
    /// Write the result of an attempt that its supervisor did not write.
    Keep(AttemptRef, FromAgent),
    /// Give an attempt more time.
    Renew(AttemptRef, Duration),
    /// The master has been heard: from now on the machine's own timer may wait for so long.
    Live(Duration),
    /// Run the bootstrap script; answered by `Bootstrapped`.
    Bootstrap(Bootstrap),
    /// Whether there is something to tell: the silence that is borne depends on it, as it does for the
    /// master. On a connection that has gone silent a result must not wait for as long as an idle agent
    /// may.
    Busy(bool),
    /// Drop the session, once all that waits to be said is said, and end.
    End(End, Option<String>),
}

/// How an agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The master said so, or nobody wants it any more.
    Told,
    /// The master will never have it.
    Refused,
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    /// It ends when nobody wants it any more: its machine would not.
    is_forsakable: bool,
    /// Why no job may run on this machine.
    unfit: Option<String>,
    attempts: Attempts,
    pulse: Pulse,
    patience: Patience,
    is_up: bool,
    was_busy: bool,
    /// The result of the bootstrap script, told again in each session until a job comes.
    boot_result: Option<FromAgent>,
    boot_running: bool,
    /// When the cloud takes the machine away, and what it said: told again in each session.
    interrupted: Option<(Duration, String)>,
    ending: Option<Ending>,
}

/// What runs is being ended, and then the agent.
#[derive(Clone, Debug)]
struct Ending {
    how: End,
    until: Duration,
    sentence: Option<String>,
}

impl Agent {
    /// A process that begins, with what the last one left.
    pub fn new(now: Duration, found: &[Found], is_forsakable: bool) -> Agent {
        let attempts = Attempts::new(found);
        Agent {
            is_forsakable,
            unfit: None,
            attempts,
            pulse: Pulse::default(),
            patience: Patience::new(now),
            is_up: false,
            was_busy: false,
            boot_result: None,
            boot_running: false,
            interrupted: None,
            ending: None,
        }
    }

    /// The same on a machine on which no job may run, where there is a reason.
    pub fn unfit(self, why: Option<String>) -> Agent {
        Agent { unfit: why, ..self }
    }

    /// The attempts here.
    pub fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Whether what runs is being ended, so that its files are to be looked at often.
    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// When `handle(.., Tick)` has something to do.
    pub fn next_timeout(&self) -> Option<Duration> {
        if let Some(ending) = &self.ending {
            return Some(ending.until);
        }
        if self.is_up {
            return Some(self.pulse.due(self.attempts.is_any_held()));
        }
        let waits = self.is_forsakable && !self.attempts.is_busy();
        waits.then(|| self.patience.until())
    }

    /// Answers one event.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.ending.is_some() {
            self.on_the_way_out(event);
        } else {
            self.live(now, event, &mut actions);
        }
        if let Some(Ending { how, until, sentence }) = &self.ending
            && (*until <= now || !self.attempts.is_busy())
        {
            if let Some(sentence) = sentence {
                actions.push(Action::Send(FromAgent::Goodbye { sentence: sentence.clone() }));
            }
            actions.push(Action::End(*how, None));
        }
        let busy = self.attempts.is_any_held();
        if std::mem::replace(&mut self.was_busy, busy) != busy {
            actions.push(Action::Busy(busy));
        }
        actions
    }

    /// Nothing is told any more of what ends because this agent does.
    fn on_the_way_out(&mut self, event: Event) {
        match event {
            Event::Looked(attempt, sight) => {
                self.attempts.looked(attempt, sight);
            }
            Event::Down | Event::Refused => self.is_up = false,
            Event::Up { .. }
            | Event::Message(_)
            | Event::Started(..)
            | Event::Bootstrapped(_)
            | Event::LifeEnds
            | Event::Interrupted { .. }
            | Event::Tick => {}
        }
    }

    fn live(&mut self, now: Duration, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Up { welcome, bootstrapped } => self.up(now, &welcome, bootstrapped, actions),
            Event::Down => self.is_up = false,
            Event::Refused => {
                self.is_up = false;
                self.end(now, End::Refused, None, actions);
            }
            Event::Message(message) => {
                self.patience.heard(now);
                self.message(now, message, actions);
            }
            Event::Started(attempt, steps, started) => {
                self.attempts.started(attempt, steps, started.is_ok());
                actions.push(Action::Send(match started {
                    Ok(()) => FromAgent::AttemptAccepted(attempt),
                    Err(sentence) => FromAgent::AttemptRejected { attempt, sentence },
                }));
            }
            Event::Looked(attempt, sight) => {
                for news in self.attempts.looked(attempt, sight) {
                    actions.push(match news {
                        News::Ship(step) => Action::Ship(LogOwner::Step { attempt, step }),
                        News::Tell(message) => Action::Send(message),
                        News::Keep(result) => Action::Keep(attempt, result),
                    });
                }
            }
            Event::Bootstrapped(result) => {
                self.boot_running = false;
                self.boot_result = Some(result.clone());
                actions.push(Action::Send(result));
            }
            Event::LifeEnds => {
                let sentence = "this machine's lifetime is over".to_owned();
                self.end(now, End::Told, Some(sentence), actions);
            }
            Event::Interrupted { at, sentence } => {
                let is_sooner = self.interrupted.as_ref().is_none_or(|(known, _)| at < *known);
                if is_sooner {
                    self.interrupted = Some((at, sentence));
                    actions.extend(self.interruption(now));
                }
            }
            Event::Tick => self.tick(now, actions),
        }
    }

    /// Says until when the machine is there. Counted anew each time: clocks need not agree.
    fn interruption(&self, now: Duration) -> Option<Action> {
        let (at, sentence) = self.interrupted.clone()?;
        let ends_in = at.saturating_sub(now);
        Some(Action::Send(FromAgent::Interruption { ends_in, sentence }))
    }

    fn up(
        &mut self,
        now: Duration,
        welcome: &Welcome,
        bootstrapped: bool,
        actions: &mut Vec<Action>,
    ) {
        self.is_up = true;
        self.patience.heard(now);
        self.pulse.begin(welcome);
        if let Some(why) = self.unfit.clone() {
            // Before the inventory: with that it might be given a job.
            return self.end(now, End::Told, Some(why), actions);
        }
        self.attempts.tell_again();
        let attempts = self.attempts.inventory();
        let inventory = FromAgent::Inventory(Inventory { bootstrapped, attempts, up: now });
        let heartbeat = Action::Heartbeat(self.pulse.beat(now));
        actions.extend([Action::Send(inventory), Action::ShipLogs, heartbeat]);
        actions.extend(self.interruption(now));
        actions.extend(self.boot_result.clone().map(Action::Send));
        actions.push(Action::Look);
    }

    fn message(&mut self, now: Duration, message: FromMaster, actions: &mut Vec<Action>) {
        match message {
            FromMaster::Bootstrap(bootstrap) => {
                if let Some(result) = self.boot_result.clone() {
                    actions.push(Action::Send(result));
                } else if !std::mem::replace(&mut self.boot_running, true) {
                    actions.extend([Action::Ship(LogOwner::Boot), Action::Bootstrap(bootstrap)]);
                }
            }
            FromMaster::RunAttempt(spec) => {
                self.boot_result = None;
                actions.push(self.run(now, spec));
            }
            FromMaster::Cancel(attempt) => {
                let done = self.attempts.cancel(attempt);
                actions.extend(done.action(attempt));
            }
            FromMaster::Forget(attempt) => {
                let done = self.attempts.forget(attempt);
                actions.extend(done.action(attempt));
                // What cannot be cleaned runs no other job: the master has been told all.
                if let Some(why) = self.attempts.must_end() {
                    let sentence = format!("this machine cannot be cleaned after a job: {why}");
                    self.end(now, End::Told, Some(sentence), actions);
                }
            }
            FromMaster::LogAck { owner, durable_offset: durable, rewind_to } => {
                actions.push(Action::Ack { owner, durable, rewind_to });
            }
            FromMaster::HeartbeatAck { heartbeat } => self.renew(now, heartbeat, actions),
            FromMaster::Shutdown { sentence } => {
                self.end(now, End::Told, Some(sentence), actions);
            }
            // The master gives out no attempt to a draining worker; nothing to remember here.
            FromMaster::Drain
            // The channel's own.
            | FromMaster::Welcome(_)
            | FromMaster::Goodbye { .. } => {}
        }
    }

    /// Carries out an attempt, once, however often the master says so.
    fn run(&mut self, now: Duration, spec: Box<AttemptSpec>) -> Action {
        let attempt = spec.id;
        // What it has goes on; nothing new begins.
        if let Some((_, sentence)) = self.interrupted.clone()
            && !self.attempts.is_here(attempt)
        {
            return Action::Send(FromAgent::AttemptRejected { attempt, sentence });
        }
        match self.attempts.run(attempt) {
            Ordered::Accepted => Action::Send(FromAgent::AttemptAccepted(attempt)),
            Ordered::Rejected(sentence) => {
                Action::Send(FromAgent::AttemptRejected { attempt, sentence })
            }
            Ordered::Start { cancelled } => {
                self.patience.given(now, spec.lease);
                let lease_until = now + spec.lease;
                Action::Start { spec, lease_until, cancelled }
            }
        }
    }

    fn renew(&mut self, now: Duration, heartbeat: u64, actions: &mut Vec<Action>) {
        let Some((until, lease)) = self.pulse.acked(heartbeat) else { return };
        let running = self.attempts.running();
        let lease = (!running.is_empty()).then_some(lease);
        actions.push(Action::Live(self.patience.renewed(now, lease)));
        actions.extend(running.into_iter().map(|attempt| Action::Renew(attempt, until)));
    }

    fn tick(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.next_timeout().is_none_or(|due| due > now) {
            return;
        }
        if self.is_up {
            actions.push(Action::Heartbeat(self.pulse.beat(now)));
        } else {
            let why = "no master has been heard of for long; nobody can want this worker any more";
            let why = why.to_owned();
            actions.push(Action::End(End::Told, Some(why)));
        }
    }

    /// Ends what runs, and then the agent, with this farewell.
    fn end(
        &mut self,
        now: Duration,
        how: End,
        sentence: Option<String>,
        actions: &mut Vec<Action>,
    ) {
        actions.extend(self.attempts.running().into_iter().map(Action::Cancel));
        actions.push(Action::Look);
        self.ending = Some(Ending { how, until: now + END_GRACE, sentence });
    }
}

impl Do {
    fn action(self, attempt: AttemptRef) -> Option<Action> {
        match self {
            Do::Nothing => None,
            Do::Cancel => Some(Action::Cancel(attempt)),
            Do::Remove => Some(Action::Remove(attempt)),
        }
    }
}

#[cfg(test)]
mod tests;
