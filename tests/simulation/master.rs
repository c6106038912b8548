//! The master's process: events through decide, commit, act and answer, in turns like the event loop's;
//! and how it dies, fills its disk, has its clock set, and starts again.

use std::collections::BTreeMap;
use std::time::Duration;

use busybee::master::agents::rules::greeting::Farewell;
use busybee::master::agents::rules::greeting::MasterKeys;
use busybee::master::domain::coordinator::Coordinator;
use busybee::master::domain::decision::Action;
use busybee::master::domain::decision::Answer;
use busybee::master::domain::decision::Record;
use busybee::master::domain::decision::ReplyId;
use busybee::master::domain::event::AgentEvent;
use busybee::master::domain::event::Event;
use busybee::master::domain::event::Request;
use busybee::master::domain::steps_of_clock::StepsOfClock;
use busybee::master::notice_index::NoticeIndex;
use busybee::model::attempt::LogOwner;
use busybee::model::ids::ConnectionId;
use busybee::model::secret::Secret;
use busybee::model::time::Timestamp;
use busybee::wire::handshake::SigningKey;

use crate::ears::Ear;
use crate::planted::Planted;
use crate::world::Happening;
use crate::world::Waiter;
use crate::world::World;

/// What launches' passwords are derived from.
pub(crate) const PASSWORDS: [u8; 32] = [7; 32];

/// After a failed commit, how long until the event loop goes on.
const STORE_RETRY: Duration = Duration::from_secs(2);

/// What happens to a master, or in it.
#[derive(Debug)]
pub(crate) enum MasterStep {
    /// Events are waiting.
    Turn,
    /// Word from an adapter.
    Hears(Event),
    /// The answer to a call that the domain of this load has made.
    Answered(u64, Event),
    /// A person asks for something.
    Asked(Request),
    Listens(ConnectionId),
    Reports(ConnectionId),
    LogSynced(LogOwner),
    LogRetried(ConnectionId, LogOwner),
}

/// The master.
#[derive(Debug)]
pub(crate) struct Master {
    key: SigningKey,
    /// Nothing while no master runs.
    pub(crate) it: Option<Coordinator>,
    /// Counts its processes.
    pub(crate) life: u64,
    pub(crate) ears: BTreeMap<ConnectionId, Ear>,
    pub(crate) last_connection: u64,
    pub(crate) waiters: BTreeMap<ReplyId, Waiter>,
    last_reply: u64,
    inbox: Vec<Event>,
    is_turn_planned: bool,
    /// After a failed commit: nothing is handled until then.
    pub(crate) pauses_until: Timestamp,
    pub(crate) disk_is_full: bool,
    /// How often its domain was loaded.
    pub(crate) loads: u64,
    /// How far its time of day is from the truth, in milliseconds.
    pub(crate) clock_is_off_by: i64,
    clock: StepsOfClock,
    /// The domain's time.
    pub(crate) now: Timestamp,
    pub(crate) index: NoticeIndex,
}

impl Master {
    pub(crate) fn new(now: Timestamp) -> Master {
        Master {
            key: SigningKey::from_seed(&Secret::new([5; 32])),
            it: None,
            life: 0,
            ears: BTreeMap::new(),
            last_connection: 0,
            waiters: BTreeMap::new(),
            last_reply: 0,
            inbox: Vec::new(),
            is_turn_planned: false,
            pauses_until: now,
            disk_is_full: false,
            loads: 0,
            clock_is_off_by: 0,
            clock: StepsOfClock::new(now, Duration::ZERO),
            now,
            index: NoticeIndex::default(),
        }
    }

    pub(crate) fn keys(&self) -> MasterKeys<'_> {
        MasterKeys { passwords: &PASSWORDS, channel: &self.key }
    }

    /// Something for this process of it alone.
    pub(crate) fn step(&self, step: MasterStep) -> Happening {
        Happening::Master(self.life, step)
    }
}

impl World {
    /// What came of something that the master's domain asked an adapter for: told only while that domain is the
    /// present one, as `perform.rs` does it.
    pub(crate) fn tell_asker(&mut self, delay_ms: u64, event: Event) {
        let loads = self.master.loads;
        self.tell(delay_ms, &event, |event| MasterStep::Answered(loads, event));
    }

    /// Word to the master from an adapter in its process; sometimes twice, and then late.
    pub(crate) fn tell_master(&mut self, delay_ms: u64, event: Event) {
        self.tell(delay_ms, &event, MasterStep::Hears);
    }

    fn tell(&mut self, delay_ms: u64, event: &Event, step: impl Fn(Event) -> MasterStep) {
        if self.fault("told twice", 40) {
            // A repository is asked by one task: its second answer is not late, but a poke's beside a poll's. And a
            // launch is made again only when the call before has been answered.
            let is_ordered = matches!(event, Event::RefsListed { .. } | Event::LaunchFailed { .. });
            let late = delay_ms + if is_ordered { 0 } else { self.random(60_000) };
            self.later(late, self.master.step(step(event.clone())));
        }
        self.later(delay_ms, self.master.step(step(event.clone())));
    }

    pub(crate) fn reply_to(&mut self, waiter: Waiter) -> ReplyId {
        self.master.last_reply += 1;
        let reply = ReplyId(self.master.last_reply);
        self.master.waiters.insert(reply, waiter);
        reply
    }

    pub(crate) fn master_step(&mut self, life: u64, step: MasterStep) {
        if life != self.master.life || self.master.it.is_none() {
            return;
        }
        match step {
            MasterStep::Turn => self.turn(),
            MasterStep::Hears(event) => self.post_event(event),
            // What an older domain asked for may be dated by another clock: perform.rs drops it.
            MasterStep::Answered(loads, event) => {
                if loads == self.master.loads {
                    self.post_event(event);
                }
            }
            MasterStep::Asked(request) => {
                let reply = self.reply_to(Waiter::Person);
                self.post_event(Event::Asked(reply, request));
            }
            MasterStep::Listens(connection) => self.look_at_ear(connection),
            MasterStep::Reports(connection) => self.work_reports(connection),
            MasterStep::LogSynced(owner) => self.log_synced(owner),
            MasterStep::LogRetried(connection, owner) => self.log_retried(connection, owner),
        }
    }

    /// Puts an event before the event loop, which takes all that wait at once.
    pub(crate) fn post_event(&mut self, event: Event) {
        self.master.inbox.push(event);
        self.plan_turn();
    }

    fn plan_turn(&mut self) {
        if !std::mem::replace(&mut self.master.is_turn_planned, true) {
            let soon = self.now + Duration::from_millis(self.random(4));
            let at = soon.max(self.master.pauses_until);
            self.at(at, self.master.step(MasterStep::Turn));
        }
    }

    pub(crate) fn tick(&mut self) {
        self.master.inbox.push(Event::Tick);
        self.turn();
        let wall = self.master.now;
        let due = self.master.it.as_ref().and_then(Coordinator::next_timeout);
        let is_over = due.is_none_or(|due| due > wall);
        let waits = self.master.pauses_until > self.now;
        assert!(is_over || waits, "a timer that is due has work done");
    }

    /// Decide, commit, act, answer: for all events that wait; or a part of it.
    fn turn(&mut self) {
        self.master.is_turn_planned = false;
        if self.master.pauses_until > self.now {
            return self.plan_turn();
        }
        let (wall, monotonic) = (self.master_wall(), self.master_monotonic());
        let step = self.master.clock.step(wall, monotonic);
        self.clocks_are_read(step.is_some());
        if let Some(step) = step.filter(|_| self.planted != Planted::ClockTrusted) {
            self.master.now = wall;
            for record in step.carry_over(&mut self.disk.snapshot()) {
                self.disk.write(record);
            }
            return self.start_over("the master's clock was set");
        }
        self.master.now = self.master.now.max(wall);
        let now = self.master.now;
        let (mut remember, mut perform, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for event in std::mem::take(&mut self.master.inbox) {
            if !matches!(event, Event::Agent(AgentEvent::Heartbeat { .. }) | Event::Tick) {
                self.note(|| format!("{event:?}"));
            }
            self.n_events += 1;
            let Some(it) = &mut self.master.it else { return };
            let decision = it.handle(now, event);
            it.check_invariants();
            for record in &decision.remember {
                self.note(|| format!("    remember {}", crate::trace::in_short(record)));
            }
            remember.push(decision.remember);
            perform.extend(decision.perform);
            answers.extend(decision.answers);
        }
        remember.retain(|records| !records.is_empty());
        self.commit_and_act(remember, perform, answers);
    }

    fn commit_and_act(
        &mut self,
        remember: Vec<Vec<Record>>,
        perform: Vec<Action>,
        answers: Vec<(ReplyId, Answer)>,
    ) {
        if remember.is_empty() {
            return self.act_all(perform, answers);
        }
        if self.planted == Planted::ActBeforeCommit {
            self.act_all(perform, answers);
            if self.fault("crash between act and commit", 40) {
                return self.crash();
            }
            return self.commit(remember);
        }
        if self.planted == Planted::CommitDropped && self.fault("commit dropped", 20) {
            return self.act_all(perform, answers);
        }
        if self.fault("crash before commit", 2) {
            return self.crash();
        }
        if self.master.disk_is_full || self.fault("commit failed", 2) {
            *self.counts.entry("commit refused").or_default() += 1;
            return self.start_over("the master cannot write to its disk");
        }
        self.commit(remember);
        if self.fault("crash between commit and act", 5) {
            return self.crash();
        }
        self.act_all(perform, answers);
    }

    /// All of a turn is one transaction; the laws look at what each event made of it.
    fn commit(&mut self, turn: Vec<Vec<Record>>) {
        for records in &turn {
            self.laws.before_commit(&self.disk, records, &self.people);
            self.budgets_are_kept(records);
            self.note_true_times(records);
            for record in records.iter().cloned() {
                self.forecast_changes(&record);
                self.turn_changes(&record);
                self.disk.write(record);
            }
            self.laws.after_commit(&self.disk, records, self.master.now);
        }
        let all: Vec<Record> = turn.into_iter().flatten().collect();
        for notice in self.master.index.notices_of(&all) {
            self.publish(notice);
        }
        if self.n_events.is_multiple_of(64) {
            self.laws.now_and_then(&self.disk, self.master.now);
        }
    }

    fn act_all(&mut self, actions: Vec<Action>, answers: Vec<(ReplyId, Answer)>) {
        for action in actions {
            if !matches!(action, Action::Tell { .. } | Action::ListInstances(_)) {
                self.note(|| format!("    perform {action:?}"));
            }
            match action {
                Action::ResolveChange(change) => self.resolve(change),
                Action::LoadBuild { project, number } => self.load_build(project, number),
                Action::Prepare { instance, pool, .. } => self.prepare(instance, &pool),
                Action::Launch { instance, launch, pool, worker, .. } => {
                    self.launch(instance, launch, pool, worker);
                }
                Action::Equip { instance, launch, .. } => self.equip(instance, &launch),
                Action::Stop { instance, launch, .. } => self.stop(instance, launch),
                Action::Start { instance, launch, .. } => self.start(instance, launch),
                Action::Terminate { instance, launch, .. } => self.terminate(instance, launch),
                Action::KeepConsole { .. } => {}
                Action::ListInstances(pool) => self.list(pool),
                Action::Tell { worker, connection, message } => {
                    self.cloud.check_equipped(&self.settings, &worker, &message);
                    self.tell_agent(&worker, connection, message);
                }
                Action::Disconnect { connection, sentence } => {
                    self.send_away(connection, Farewell::retry(sentence));
                }
                Action::Probe { pool, .. } => self.probe(pool),
                Action::Alarm(_) => *self.counts.entry("alarm").or_default() += 1,
                Action::Mail { .. } => *self.counts.entry("mail").or_default() += 1,
            }
        }
        for (reply, answer) in answers {
            let waiter = self.master.waiters.remove(&reply);
            match waiter.expect("an answer has somebody who waits, and is given once") {
                Waiter::Agent(connection) => self.answer_agent(connection, answer),
                Waiter::Person => self.answer_person(&answer),
            }
        }
    }

    /// The process dies: what its adapters had under way dies with it, and so does every connection.
    pub(crate) fn crash(&mut self) {
        self.note(|| "-- the master dies".to_owned());
        self.master.it = None;
        self.master.life += 1;
        self.master.last_connection = 0;
        self.master.inbox.clear();
        self.master.waiters.clear();
        self.logs_crash();
        self.all_ears_end();
        let longest = if self.random(10) == 0 { 900_000 } else { 20_000 };
        let down = 1000 + self.random(longest);
        self.later(down, Happening::MasterStarts);
    }

    /// The same process drops its domain and loads it again, whoever asked is refused, and every agent
    /// is asked to call again.
    fn start_over(&mut self, sentence: &str) {
        self.note(|| format!("-- the master loads its domain again: {sentence}"));
        let all: Vec<ConnectionId> = self.master.ears.keys().copied().collect();
        for connection in all {
            if self.master.ears.get(&connection).is_some_and(|ear| ear.worker.is_some()) {
                self.send_away(connection, Farewell::retry(sentence));
            }
        }
        self.master.inbox.clear();
        self.master.waiters.clear();
        self.load();
        self.master.pauses_until = self.now + STORE_RETRY;
    }

    pub(crate) fn start_master(&mut self) {
        self.note(|| "-- the master starts".to_owned());
        self.master.is_turn_planned = false;
        self.master.pauses_until = self.now;
        self.master.now = self.master_wall();
        self.master.clock = StepsOfClock::new(self.master.now, self.master_monotonic());
        self.clocks_are_read(false);
        self.load();
        self.watchers_come_back();
        self.post_event(Event::Tick);
    }

    fn load(&mut self) {
        self.master.loads += 1;
        let mut snapshot = self.disk.snapshot();
        match self.planted {
            Planted::AssignmentsForgotten => crate::disk::forget_assignments(&mut snapshot),
            Planted::ReassignForgotten => self.disk.forget_to_reassign(&mut snapshot),
            Planted::LineForgotten => crate::disk::forget_lines(&mut snapshot),
            _ => {}
        }
        self.master.index = NoticeIndex::load(&snapshot);
        let (settings, seed) = (self.settings_for_domain(), self.random(u64::MAX));
        self.master.it = Some(Coordinator::load(settings, snapshot, self.master.now, seed));
    }
}
