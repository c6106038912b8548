//! Things happen → the domain decides → the store commits → the adapters act → who asked is told.
//!
//! All events that wait are handled together and committed in one transaction, so that load makes
//! commits bigger, not more. This loop is the only one that changes state.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tracing::debug;
use tracing::error;
use tracing::warn;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Answer;
use crate::master::domain::decision::Decision;
use crate::master::domain::decision::ReplyId;
use crate::master::domain::event::Event;
use crate::master::domain::settings::Settings;
use crate::master::domain::snapshot::Snapshot;
use crate::master::domain::steps_of_clock::ClockStep;
use crate::master::domain::steps_of_clock::StepsOfClock;
use crate::master::inbox::Letter;
use crate::master::notice_index::NoticeIndex;
use crate::master::notices::Notices;
use crate::master::perform::Performer;
use crate::model::time::Timestamp;
use crate::runtime::clock;
use crate::runtime::random;

/// Events handled in one transaction, at most: bounds how long the first of them waits.
const BATCH_EVENTS_MAX: usize = 512;

/// After a failed commit, how long until the store is tried again.
const STORE_RETRY: Duration = Duration::from_secs(2);

/// The loop's own state.
pub(crate) struct EventLoop {
    coordinator: Coordinator,
    settings: Settings,
    performer: Performer,
    notices: Notices,
    index: NoticeIndex,
    letters: mpsc::Receiver<Letter>,
    replies: BTreeMap<ReplyId, oneshot::Sender<Answer>>,
    last_reply: u64,
    /// Whether this coordinator knows the disk to be full.
    told_full: bool,
    /// The latest time seen: the domain's clock goes back only when it is loaded anew.
    now: Timestamp,
    clock: StepsOfClock,
}

impl EventLoop {
    /// Loads the domain from the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn load(
        settings: Settings,
        performer: Performer,
        notices: Notices,
        letters: mpsc::Receiver<Letter>,
    ) -> anyhow::Result<EventLoop> {
        let now = clock::now();
        let snapshot = performer.store.load()?;
        let index = NoticeIndex::load(&snapshot);
        let coordinator = Coordinator::load(settings.clone(), snapshot, now, random::number());
        let replies = BTreeMap::new();
        Ok(EventLoop {
            coordinator,
            settings,
            performer,
            notices,
            index,
            letters,
            replies,
            last_reply: 0,
            told_full: false,
            now,
            clock: StepsOfClock::new(now, clock::monotonic()),
        })
    }

    /// Runs until `stop` turns true (what was taken in by then is committed) or nobody can send.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut batch = Vec::new();
        let mut disk = self.performer.logs.disk_room().watch();
        self.turn(vec![Event::Tick]).await;
        loop {
            let room = BATCH_EVENTS_MAX;
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                taken = self.letters.recv_many(&mut batch, room) => {
                    if taken == 0 {
                        return;
                    }
                }
                () = until(self.coordinator.next_timeout()) => {}
                Ok(()) = disk.changed() => {}
            }
            // First of all: what comes with it is judged by it.
            let news = self.disk_news();
            let letters = batch.drain(..).map(|letter| self.open(letter));
            let mut events: Vec<Event> = news.into_iter().chain(letters).collect();
            if self.coordinator.next_timeout().is_some_and(|due| due <= clock::now()) {
                events.push(Event::Tick);
            }
            self.turn(events).await;
        }
    }

    /// What the domain is to be told of the disk, if that is news to it.
    fn disk_news(&mut self) -> Option<Event> {
        let trouble = self.performer.logs.disk_room().trouble();
        if self.told_full == trouble.is_some() {
            return None;
        }
        self.told_full = trouble.is_some();
        Some(trouble.map_or(Event::DiskHasRoom, Event::DiskFull))
    }

    /// Notes whom to answer, and gives the event that a letter is.
    fn open(&mut self, letter: Letter) -> Event {
        match letter {
            Letter::Notice(event) => event,
            Letter::Request(request, sender) => Event::Asked(self.note(sender), request),
            Letter::Hello(greeting, sender) => {
                let reply = self.note(sender);
                greeting.into_event(reply)
            }
        }
    }

    fn note(&mut self, sender: oneshot::Sender<Answer>) -> ReplyId {
        self.last_reply += 1;
        let reply = ReplyId(self.last_reply);
        self.replies.insert(reply, sender);
        reply
    }

    /// Decide, commit, act, answer: for all of these events at once.
    async fn turn(&mut self, events: Vec<Event>) {
        let now = clock::now();
        if let Some(step) = self.clock.step(now, clock::monotonic()) {
            // As after a restart: agents greet anew, and leases and graces are counted from here.
            // What is counted from rows goes on where it was.
            warn!("the time of day has stepped from {} to {now}", self.now);
            self.now = now;
            self.performer.disconnect_all("the master's clock was set");
            self.load_again(self.now, Some(step)).await;
            return;
        }
        self.now = self.now.max(now);
        let mut all = Decision::default();
        for event in events {
            let decision = self.coordinator.handle(self.now, event.clone());
            debug!(remember = decision.remember.len(), perform = decision.perform.len(), ?event);
            all.remember.extend(decision.remember);
            all.perform.extend(decision.perform);
            all.answers.extend(decision.answers);
        }
        if !all.remember.is_empty() {
            let notices = self.index.notices_of(&all.remember);
            if let Err(why) = self.performer.store.commit(all.remember).await {
                self.start_over(&why).await;
                return;
            }
            for notice in notices {
                self.notices.publish(notice);
            }
        }
        for action in all.perform {
            self.performer.perform(action);
        }
        for (reply, answer) in all.answers {
            if let Some(sender) = self.replies.remove(&reply) {
                let _hung_up = sender.send(answer);
            }
        }
    }

    /// A commit failed: what the domain believes is not so. Drop it, refuse whoever asked, load
    /// again; agents greet anew and say what they have.
    async fn start_over(&mut self, why: &anyhow::Error) {
        error!("cannot commit: {why:#}; everything is read anew from what was committed");
        self.performer.logs.disk_room().refused(&format!("{why:#}"));
        if let Err(why) = self.performer.store.release_ballast() {
            error!("cannot give up the ballast: {why}");
        }
        self.performer.disconnect_all("the master cannot write to its disk");
        self.load_again(self.now, None).await;
    }

    /// Takes the domain from the store, as a new process would.
    async fn load_again(&mut self, now: Timestamp, step: Option<ClockStep>) {
        self.performer.loads.fetch_add(1, Ordering::Relaxed);
        let mut pause = tokio::time::interval(STORE_RETRY);
        pause.tick().await;
        loop {
            // A dropped sender is answered as "unavailable" by the inbox.
            self.replies.clear();
            while self.letters.try_recv().is_ok() {}
            match self.snapshot(step).await {
                Ok(snapshot) => {
                    self.index = NoticeIndex::load(&snapshot);
                    let seed = random::number();
                    let settings = self.settings.clone();
                    self.coordinator = Coordinator::load(settings, snapshot, now, seed);
                    self.told_full = false;
                    pause.tick().await;
                    return;
                }
                Err(why) => error!("cannot read the store: {why:#}"),
            }
            pause.tick().await;
        }
    }

    /// What was committed; by the new time of day, if that has stepped.
    async fn snapshot(&self, step: Option<ClockStep>) -> anyhow::Result<Snapshot> {
        let mut snapshot = self.performer.store.load()?;
        if let Some(step) = step {
            let carried = step.carry_over(&mut snapshot);
            self.performer.store.commit(carried).await?;
        }
        Ok(snapshot)
    }
}

/// Ends at `due`; never, without one.
async fn until(due: Option<Timestamp>) {
    match due {
        Some(due) => tokio::time::sleep(due.since(clock::now())).await,
        None => std::future::pending().await,
    }
}
