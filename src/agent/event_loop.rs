//! The agent's loop: what the master says, what the supervisors wrote, and the time.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tracing::info;
use tracing::warn;

use crate::agent::attempt_dir;
use crate::agent::attempts::Attempts;
use crate::agent::attempts::Shipping;
use crate::agent::bootstrap;
use crate::agent::channel::Channel;
use crate::agent::channel::ChannelEvent;
use crate::agent::channel::Outgoing;
use crate::agent::config::Config;
use crate::agent::config::Road;
use crate::agent::dead_man::DeadMan;
use crate::agent::domain::agent::Action;
use crate::agent::domain::agent::Agent;
pub use crate::agent::domain::agent::End;
use crate::agent::domain::agent::Event;
use crate::agent::domain::interruption;
use crate::agent::domain::interruption::Interruption;
use crate::agent::domain::notices::Notices;
use crate::agent::interruptions;
use crate::agent::life;
use crate::agent::log_shipper::Ack;
use crate::agent::machine;
use crate::model::attempt::LogChunk;
use crate::model::attempt::LogOwner;
use crate::runtime::clock;
use crate::wire::message::FromAgent;
use crate::wire::message::FromMaster;

/// Looks at the attempts' files at least this often while one runs, should a wake-up get lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A growing boot log is looked at this often: it is written by the script itself.
const BOOT_LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long the agent's farewell may take to be heard; the master ends it without one as well.
const FAREWELL: Duration = Duration::from_secs(5);

/// What runs is looked at this often while it is being ended.
const END_LOOK_EVERY: Duration = Duration::from_millis(20);

/// The agent.
pub(crate) struct EventLoop {
    config: Config,
    channel: Channel,
    domain: Agent,
    attempts: Attempts,
    sessions: watch::Sender<Option<mpsc::Sender<LogChunk>>>,
    outgoing: Option<Outgoing>,
    boot: Option<Shipping>,
    boot_running: bool,
    boot_done: (mpsc::Sender<FromAgent>, mpsc::Receiver<FromAgent>),
    dead_man: DeadMan,
    /// When the machine's life is over, by the monotonic clock.
    life_ends: Option<Duration>,
    /// What was said of this machine.
    notices: Notices,
    /// Word that the cloud takes it away; nothing: there is no cloud.
    interruptions: Option<mpsc::Receiver<Interruption>>,
}

impl EventLoop {
    /// `unfit`: why no job may run on this machine.
    pub(crate) fn new(config: Config, channel: Channel, unfit: Option<String>) -> EventLoop {
        let (sessions, session) = watch::channel(None);
        let (attempts, found) = Attempts::load(config.home.clone(), session, config.steps_run_as());
        // A machine of one's own has a life besides ours, and waits for its master for ever.
        let domain = Agent::new(clock::monotonic(), &found, config.road != Road::Own).unfit(unfit);
        let dead_man = DeadMan::new(config.deadman.clone());
        let life_ends = life::left(&config).map(|left| clock::monotonic() + left);
        EventLoop {
            dead_man,
            life_ends,
            notices: Notices::default(),
            interruptions: (config.road == Road::Cloud).then(interruptions::watch),
            config,
            channel,
            domain,
            attempts,
            sessions,
            outgoing: None,
            boot: None,
            boot_running: false,
            boot_done: mpsc::channel(1),
        }
    }

    /// Runs until the agent is to end.
    pub(crate) async fn run(mut self) -> anyhow::Result<End> {
        let fifo = open_fifo(&attempt_dir::agent_fifo(&self.config.home))?;
        let mut boot_look = interval(BOOT_LOOK_EVERY);
        let mut look = interval(LOOK_EVERY);
        let mut end_look = interval(END_LOOK_EVERY);
        loop {
            let due = self.domain.next_timeout();
            let wait = due.map(|due| due.saturating_sub(clock::monotonic())).unwrap_or_default();
            let life_ends = self.life_ends.filter(|_| !self.domain.is_ending());
            let life_left = life_ends.map(|ends| ends.saturating_sub(clock::monotonic()));
            let life_left = life_left.unwrap_or_default();
            let end = tokio::select! {
                event = self.channel.events.recv() => {
                    self.channel_event(event.context("the channel's task has ended")?).await
                }
                ready = fifo.readable() => {
                    ready.context("wait for the supervisors")?;
                    drain(&fifo);
                    self.handle(None).await
                }
                Some(result) = self.boot_done.1.recv() => self.boot_ended(result).await,
                _ = boot_look.tick(), if self.boot_running => {
                    self.look_at_boot(None);
                    None
                }
                _ = look.tick(), if self.domain.attempts().is_busy() => self.handle(None).await,
                _ = end_look.tick(), if self.domain.is_ending() => self.handle(None).await,
                Some(interruption) = next(&mut self.interruptions) => {
                    warn!("{}", interruption.sentence);
                    let at = clock::monotonic() + interruption::ends_in(&interruption, clock::now());
                    let sentence = interruption.sentence;
                    self.handle(Some(Event::Interrupted { at, sentence })).await
                }
                () = tokio::time::sleep(wait), if due.is_some() => {
                    self.handle(Some(Event::Tick)).await
                }
                () = tokio::time::sleep(life_left), if life_ends.is_some() => {
                    self.handle(Some(Event::LifeEnds)).await
                }
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    async fn channel_event(&mut self, event: ChannelEvent) -> Option<End> {
        match event {
            ChannelEvent::Up { welcome, outgoing } => {
                if let Err(why) = self.config.forget_password() {
                    warn!("cannot take the used password out of the settings: {why:#}");
                }
                self.outgoing = Some(outgoing);
                let bootstrapped = bootstrap::has_passed(&self.config.home);
                let end = self.handle(Some(Event::Up { welcome, bootstrapped })).await;
                if self.config.road == Road::Cloud {
                    // What user-data has said is worth reading even where no script follows.
                    self.ship_boot_log();
                    self.look_at_boot(None);
                }
                end
            }
            ChannelEvent::Message(message) => {
                match &message {
                    FromMaster::Drain => info!("draining"),
                    FromMaster::Shutdown { sentence } => info!("told to end: {sentence}"),
                    _ => {}
                }
                self.handle(Some(Event::Message(message))).await
            }
            ChannelEvent::Down { sentence } => {
                info!("no connection to the master: {sentence}");
                self.drop_session();
                self.handle(Some(Event::Down)).await
            }
            ChannelEvent::Refused { sentence } => {
                warn!("the master refuses this worker for good: {sentence}");
                self.drop_session();
                self.handle(Some(Event::Refused)).await
            }
        }
    }

    /// Lets the domain decide about an event, and does what it says; without one, looks at the
    /// attempts' files. Whether the agent is to end now.
    async fn handle(&mut self, event: Option<Event>) -> Option<End> {
        let mut actions = match event {
            Some(event) => self.decide(event),
            None => VecDeque::from([Action::Look]),
        };
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send(message) => self.send(message).await,
                Action::Heartbeat(number) => {
                    let spool = self.attempts.spool_bytes();
                    let heartbeat = machine::heartbeat(number, &self.config.home, spool);
                    self.send(FromAgent::Heartbeat(heartbeat)).await;
                    for notice in self.notices.look(machine::figures(&self.config.home)) {
                        warn!("{notice}");
                        self.send(FromAgent::Notice(notice)).await;
                    }
                }
                Action::ShipLogs => {
                    let logs = self.outgoing.as_ref().map(|outgoing| outgoing.logs.clone());
                    self.sessions.send_replace(logs);
                }
                Action::Ship(LogOwner::Step { attempt, step }) => self.attempts.ship(attempt, step),
                Action::Ship(LogOwner::Boot) => self.ship_boot_log(),
                Action::Ack { owner, durable, rewind_to } => {
                    self.ack(owner, Ack { durable, rewind_to });
                }
                Action::Look => actions.extend(self.look()),
                Action::Start { spec, lease_until, cancelled } => {
                    let (steps, started) = self.attempts.start(&spec, lease_until, cancelled);
                    actions.extend(self.decide(Event::Started(spec.id, steps, started)));
                }
                Action::Cancel(attempt) => self.attempts.cancel(attempt),
                Action::Remove(attempt) => self.attempts.remove(attempt),
                Action::Keep(attempt, result) => self.attempts.keep(attempt, result),
                Action::Renew(attempt, until) => self.attempts.renew(attempt, until),
                Action::Live(time) => self.dead_man.allow(time),
                Action::Bootstrap(bootstrap) => self.start_bootstrap(bootstrap),
                Action::Busy(is_busy) => {
                    self.channel.busy.send_replace(is_busy);
                }
                Action::End(end, why) => {
                    if let Some(why) = why {
                        warn!("{why}");
                    }
                    self.hang_up().await;
                    return Some(end);
                }
            }
        }
        None
    }

    fn decide(&mut self, event: Event) -> VecDeque<Action> {
        self.domain.handle(clock::monotonic(), event).into()
    }

    /// Looks at the attempts' files. What follows of that, in order.
    fn look(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (attempt, steps) in self.domain.attempts().to_look_at() {
            let Some(sight) = self.attempts.look(attempt, &steps) else { continue };
            let seen = sight.steps.clone();
            for action in self.decide(Event::Looked(attempt, sight)) {
                // At once: what is measured next is to be shipped.
                match action {
                    Action::Ship(LogOwner::Step { attempt, step }) => {
                        self.attempts.ship(attempt, step);
                    }
                    action => actions.push(action),
                }
            }
            self.attempts.measure(attempt, &seen);
        }
        actions
    }

    /// Sends on the present session; without one it is told again in the next.
    async fn send(&mut self, message: FromAgent) {
        let Some(outgoing) = &self.outgoing else { return };
        if outgoing.control.send(message).await.is_err() {
            self.drop_session();
        }
    }

    fn drop_session(&mut self) {
        self.outgoing = None;
        self.sessions.send_replace(None);
    }

    fn ack(&self, owner: LogOwner, ack: Ack) {
        match (owner, &self.boot) {
            (LogOwner::Step { attempt, step }, _) => self.attempts.ack(attempt, step, ack),
            (LogOwner::Boot, Some(boot)) => boot.ack(ack),
            (LogOwner::Boot, None) => {}
        }
    }

    // --- The bootstrap script

    fn start_bootstrap(&mut self, bootstrap: crate::wire::message::Bootstrap) {
        self.boot_running = true;
        let (config, done) = (self.config.clone(), self.boot_done.0.clone());
        tokio::spawn(async move {
            let result = bootstrap::run(&config, bootstrap).await;
            let _agent_ended = done.send(result).await;
        });
    }

    fn ship_boot_log(&mut self) {
        let spool = bootstrap::log_path(&self.config.home);
        let session = self.sessions.subscribe();
        self.boot.get_or_insert_with(|| Shipping::start(LogOwner::Boot, spool, session));
    }

    async fn boot_ended(&mut self, result: FromAgent) -> Option<End> {
        self.boot_running = false;
        if let FromAgent::BootstrapResult { log_bytes, .. } = &result {
            self.look_at_boot(Some(*log_bytes));
        }
        self.handle(Some(Event::Bootstrapped(result))).await
    }

    fn look_at_boot(&self, length: Option<u64>) {
        let path = bootstrap::log_path(&self.config.home);
        let length = length.or_else(|| std::fs::metadata(path).ok().map(|log| log.len()));
        if let (Some(boot), Some(length)) = (&self.boot, length) {
            boot.set_length(length);
        }
    }

    /// Says what waits to be said, and nothing more; the master hangs up when it has read it.
    async fn hang_up(&mut self) {
        if self.outgoing.is_none() {
            return;
        }
        self.drop_session();
        let is_down = async {
            while let Some(event) = self.channel.events.recv().await {
                if matches!(event, ChannelEvent::Down { .. } | ChannelEvent::Refused { .. }) {
                    return;
                }
            }
        };
        let _ends_without = tokio::time::timeout(FAREWELL, is_down).await;
    }
}

/// Word that the machine is taken away; never, where nobody could say so.
async fn next(found: &mut Option<mpsc::Receiver<Interruption>>) -> Option<Interruption> {
    match found {
        Some(found) => found.recv().await,
        None => std::future::pending().await,
    }
}

fn interval(every: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

/// The FIFO by which supervisors say "look".
fn open_fifo(path: &Path) -> anyhow::Result<pipe::Receiver> {
    use rustix::fs::Mode;
    if !path.exists() {
        rustix::fs::mkfifoat(rustix::fs::CWD, path, Mode::RUSR | Mode::WUSR)
            .with_context(|| format!("make the FIFO {}", path.display()))?;
    }
    // Open for writing too, or it would be at its end whenever no supervisor has it open.
    pipe::OpenOptions::new()
        .read_write(true)
        .open_receiver(path)
        .with_context(|| format!("open the FIFO {}", path.display()))
}

fn drain(fifo: &pipe::Receiver) {
    let mut bytes = [0; 4096];
    while matches!(fifo.try_read(&mut bytes), Ok(1..)) {}
}
