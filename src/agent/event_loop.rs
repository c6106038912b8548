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
use crate::agent::dead_man;
use crate::agent::dead_man::DeadMan;
use crate::agent::log_shipper::Ack;
use crate::agent::machine;
use crate::model::attempt::LogChunk;
use crate::model::attempt::LogOwner;
use crate::runtime::clock;
use crate::wire::message::FromAgent;
use crate::wire::message::FromMaster;
use crate::wire::message::Inventory;
use crate::wire::message::Welcome;

/// Looks at the attempts' files at least this often while one runs, should a wake-up get lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A growing boot log is looked at this often: it is written by the script itself.
const BOOT_LOOK_EVERY: Duration = Duration::from_millis(20);

/// A local worker without a job ends itself when no master has been heard of for so long.
const FORSAKEN_AFTER: Duration = Duration::from_secs(15 * 60);

/// After Shutdown, what runs has this long to end: TERM's grace and a little.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(15);

/// How long the agent's farewell may take to be heard; the master ends it without one as well.
const FAREWELL: Duration = Duration::from_secs(5);

/// Heartbeats whose sending time is kept until their ack.
const HEARTBEATS_MAX: usize = 64;

/// How the agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The master said so, or nobody wants it any more.
    Told,
    /// The master will never have it.
    Refused,
}

/// The agent.
pub(crate) struct EventLoop {
    config: Config,
    channel: Channel,
    attempts: Attempts,
    sessions: watch::Sender<Option<mpsc::Sender<LogChunk>>>,
    outgoing: Option<Outgoing>,
    welcome: Option<Welcome>,
    boot: Option<Shipping>,
    /// The result of the bootstrap script, told again in each session until a job comes.
    boot_result: Option<FromAgent>,
    boot_running: bool,
    boot_done: (mpsc::Sender<FromAgent>, mpsc::Receiver<FromAgent>),
    heartbeats: u64,
    heartbeat_sent: VecDeque<(u64, Duration)>,
    /// When the last one was sent.
    heartbeat_at: Duration,
    heard_at: Duration,
    dead_man: DeadMan,
}

impl EventLoop {
    pub(crate) fn new(config: Config, channel: Channel) -> EventLoop {
        let (sessions, session) = watch::channel(None);
        let attempts = Attempts::load(config.home.clone(), session, config.steps_run_as());
        let dead_man = DeadMan::new(config.deadman.clone());
        EventLoop {
            dead_man,
            config,
            channel,
            attempts,
            sessions,
            outgoing: None,
            welcome: None,
            boot: None,
            boot_result: None,
            boot_running: false,
            boot_done: mpsc::channel(1),
            heartbeats: 0,
            heartbeat_sent: VecDeque::new(),
            heartbeat_at: Duration::ZERO,
            heard_at: clock::monotonic(),
        }
    }

    /// Runs until the agent is to end.
    pub(crate) async fn run(mut self) -> anyhow::Result<End> {
        let fifo = open_fifo(&attempt_dir::agent_fifo(&self.config.home))?;
        let mut boot_look = tokio::time::interval(BOOT_LOOK_EVERY);
        boot_look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = clock::monotonic();
            // Asked anew each time: who becomes busy keeps the quicker pace at once.
            let heartbeat_at = self.heartbeat_at + self.heartbeat_every();
            let heartbeat_in = heartbeat_at.saturating_sub(now);
            let forsaken_in = (self.heard_at + FORSAKEN_AFTER).saturating_sub(now);
            tokio::select! {
                event = self.channel.events.recv() => {
                    let event = event.context("the channel's task has ended")?;
                    if let Some(end) = self.channel_event(event).await {
                        return Ok(end);
                    }
                }
                ready = fifo.readable() => {
                    ready.context("wait for the supervisors")?;
                    drain(&fifo);
                    self.look().await;
                }
                Some(result) = self.boot_done.1.recv() => self.boot_ended(result).await,
                _ = boot_look.tick(), if self.boot_running => self.look_at_boot(None),
                _ = look.tick(), if self.attempts.is_busy() => self.look().await,
                () = tokio::time::sleep(heartbeat_in), if self.outgoing.is_some() => {
                    self.send_heartbeat().await;
                }
                () = tokio::time::sleep(forsaken_in), if self.is_forsakable() => {
                    warn!("no master has been heard of for {} s", FORSAKEN_AFTER.as_secs());
                    return Ok(End::Told);
                }
            }
        }
    }

    async fn channel_event(&mut self, event: ChannelEvent) -> Option<End> {
        match event {
            ChannelEvent::Up { welcome, outgoing } => self.session_began(welcome, outgoing).await,
            ChannelEvent::Message(message) => {
                self.heard_at = clock::monotonic();
                return self.message(message).await;
            }
            ChannelEvent::Down { sentence } => {
                info!("no connection to the master: {sentence}");
                self.outgoing = None;
                self.sessions.send_replace(None);
            }
            ChannelEvent::Refused { sentence } => {
                warn!("the master refuses this worker for good: {sentence}");
                self.end_attempts().await;
                return Some(End::Refused);
            }
        }
        None
    }

    async fn session_began(&mut self, welcome: Welcome, outgoing: Outgoing) {
        self.heard_at = clock::monotonic();
        if let Err(why) = self.config.forget_password() {
            warn!("cannot take the used password out of the settings: {why:#}");
        }
        self.welcome = Some(welcome);
        self.heartbeat_sent.clear();
        self.heartbeats = 0;
        self.outgoing = Some(outgoing.clone());
        let inventory = Inventory {
            bootstrapped: bootstrap::has_passed(&self.config.home),
            attempts: self.attempts.inventory(),
        };
        self.send(FromAgent::Inventory(inventory)).await;
        self.sessions.send_replace(Some(outgoing.logs));
        self.attempts.tell_again();
        self.send_heartbeat().await;
        if self.config.road == Road::Cloud {
            // What user-data has said is worth reading even where no script follows.
            self.ship_boot_log();
            self.look_at_boot(None);
        }
        if let Some(result) = self.boot_result.clone() {
            self.send(result).await;
        }
        self.look().await;
    }

    async fn message(&mut self, message: FromMaster) -> Option<End> {
        match message {
            FromMaster::Bootstrap(bootstrap) => self.start_bootstrap(bootstrap).await,
            FromMaster::RunAttempt(spec) => {
                self.boot_result = None;
                let answer = self.attempts.run(&spec);
                self.note_busy();
                self.send(answer).await;
            }
            FromMaster::Cancel(attempt) => self.attempts.cancel(attempt),
            FromMaster::Forget(attempt) => {
                self.attempts.forget(attempt);
                self.note_busy();
                return self.end_if_unclean().await;
            }
            FromMaster::LogAck { owner, durable_offset, rewind_to } => {
                let ack = Ack { durable: durable_offset, rewind_to };
                match (owner, &self.boot) {
                    (LogOwner::Step { attempt, step }, _) => self.attempts.ack(attempt, step, ack),
                    (LogOwner::Boot, Some(boot)) => boot.ack(ack),
                    (LogOwner::Boot, None) => {}
                }
            }
            FromMaster::HeartbeatAck { heartbeat } => self.renew_lease(heartbeat),
            // The master gives out no attempt to a draining worker; nothing to remember here.
            FromMaster::Drain => info!("draining"),
            FromMaster::Shutdown { sentence } => {
                info!("told to end: {sentence}");
                self.end_attempts().await;
                self.send(FromAgent::Goodbye { sentence }).await;
                self.hang_up().await;
                return Some(End::Told);
            }
            // The channel's own.
            FromMaster::Welcome(_) | FromMaster::Goodbye { .. } => {}
        }
        None
    }

    /// Sends on the present session; without one it is told again in the next.
    async fn send(&mut self, message: FromAgent) {
        let Some(outgoing) = &self.outgoing else { return };
        if outgoing.control.send(message).await.is_err() {
            self.outgoing = None;
            self.sessions.send_replace(None);
        }
    }

    async fn look(&mut self) {
        if self.outgoing.is_none() {
            return;
        }
        for message in self.attempts.look() {
            self.send(message).await;
        }
        self.note_busy();
    }

    /// Busy is who has something to tell, as it is for the master: on a connection that has gone silent
    /// a result must not wait for as long as an idle agent may.
    fn note_busy(&self) {
        let is_busy = self.attempts.is_any_held();
        self.channel.busy.send_if_modified(|known| std::mem::replace(known, is_busy) != is_busy);
    }

    // --- The bootstrap script

    async fn start_bootstrap(&mut self, bootstrap: crate::wire::message::Bootstrap) {
        if let Some(result) = self.boot_result.clone() {
            return self.send(result).await;
        }
        if self.boot_running {
            return;
        }
        self.boot_running = true;
        self.ship_boot_log();
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

    async fn boot_ended(&mut self, result: FromAgent) {
        self.boot_running = false;
        if let FromAgent::BootstrapResult { log_bytes, .. } = &result {
            self.look_at_boot(Some(*log_bytes));
        }
        self.boot_result = Some(result.clone());
        self.send(result).await;
    }

    fn look_at_boot(&self, length: Option<u64>) {
        let path = bootstrap::log_path(&self.config.home);
        let length = length.or_else(|| std::fs::metadata(path).ok().map(|log| log.len()));
        if let (Some(boot), Some(length)) = (&self.boot, length) {
            boot.set_length(length);
        }
    }

    // --- Heartbeats and leases

    fn heartbeat_every(&self) -> Duration {
        let welcome = self.welcome.as_ref();
        let every = match self.attempts.is_any_held() {
            true => welcome.map(|welcome| welcome.heartbeat_busy),
            false => welcome.map(|welcome| welcome.heartbeat_idle),
        };
        // A master that asks for none would be one that floods itself.
        every.unwrap_or(Duration::from_secs(10)).max(Duration::from_secs(1))
    }

    async fn send_heartbeat(&mut self) {
        self.heartbeats += 1;
        self.heartbeat_at = clock::monotonic();
        self.heartbeat_sent.push_back((self.heartbeats, self.heartbeat_at));
        if self.heartbeat_sent.len() > HEARTBEATS_MAX {
            self.heartbeat_sent.pop_front();
        }
        let spool = self.attempts.spool_bytes();
        let heartbeat = machine::heartbeat(self.heartbeats, &self.config.home, spool);
        self.send(FromAgent::Heartbeat(heartbeat)).await;
    }

    /// The lease counts from the sending of the heartbeat that was acked.
    fn renew_lease(&mut self, heartbeat: u64) {
        let Some(lease) = self.welcome.as_ref().map(|welcome| welcome.lease) else { return };
        while let Some((number, sent)) = self.heartbeat_sent.front().copied() {
            if number > heartbeat {
                return;
            }
            self.heartbeat_sent.pop_front();
            if number == heartbeat {
                self.attempts.renew_leases(sent + lease);
                self.dead_man.allow(match self.attempts.is_busy() {
                    true => lease + dead_man::BEYOND_LEASE,
                    false => dead_man::IDLE_FOR,
                });
            }
        }
    }

    // --- The end

    /// What cannot be cleaned runs no other job: the master has been told all, so this is the end.
    async fn end_if_unclean(&mut self) -> Option<End> {
        let why = self.attempts.must_end()?;
        let sentence = format!("this machine cannot be cleaned after a job: {why}");
        warn!("{sentence}");
        self.send(FromAgent::Goodbye { sentence }).await;
        self.hang_up().await;
        Some(End::Told)
    }

    /// Says what waits to be said, and nothing more; the master hangs up when it has read it.
    async fn hang_up(&mut self) {
        self.outgoing = None;
        self.sessions.send_replace(None);
        let is_down = async {
            while let Some(event) = self.channel.events.recv().await {
                if matches!(event, ChannelEvent::Down { .. } | ChannelEvent::Refused { .. }) {
                    return;
                }
            }
        };
        let _ends_without = tokio::time::timeout(FAREWELL, is_down).await;
    }

    fn is_forsakable(&self) -> bool {
        self.config.road == Road::Local && self.outgoing.is_none() && !self.attempts.is_busy()
    }

    /// Ends what runs, and waits for it, within bounds.
    async fn end_attempts(&mut self) {
        self.attempts.cancel_all();
        let mut often = tokio::time::interval(Duration::from_millis(20));
        let all_end = async {
            while self.attempts.is_busy() {
                often.tick().await;
                self.attempts.look();
            }
        };
        if tokio::time::timeout(SHUTDOWN_GRACE, all_end).await.is_err() {
            warn!("what runs did not end within {} s", SHUTDOWN_GRACE.as_secs());
        }
    }
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
