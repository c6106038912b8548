//! The attempts whose directories this agent holds: starts their supervisors, reads what they left in
//! their files, ships their logs. What of that is told, kept or dropped is decided in `domain`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::agent::attempt_dir::AttemptDir;
use crate::agent::domain::attempts::Found;
use crate::agent::domain::held::Sight;
use crate::agent::domain::held::StepSight;
use crate::agent::log_shipper::Ack;
use crate::agent::log_shipper::LogShipper;
use crate::agent::supervisor::StepsRunAs;
use crate::model::attempt::AttemptRef;
use crate::model::attempt::AttemptSpec;
use crate::model::attempt::LogChunk;
use crate::model::attempt::LogOwner;
use crate::runtime::signals::DefaultSignals;
use crate::wire::message::FromAgent;

/// Acks that wait for a shipper, at most: each later one says more than the one before.
const ACKS_MAX: usize = 64;

/// Where chunks go in the present session.
pub(crate) type LogSession = watch::Receiver<Option<mpsc::Sender<LogChunk>>>;

/// A log that is being shipped.
pub(crate) struct Shipping {
    pub(crate) length: watch::Sender<u64>,
    pub(crate) acks: mpsc::Sender<Ack>,
}

impl Shipping {
    /// Starts to ship a spool.
    pub(crate) fn start(owner: LogOwner, spool: PathBuf, session: LogSession) -> Shipping {
        let (length, length_receiver) = watch::channel(0);
        let (acks, acks_receiver) = mpsc::channel(ACKS_MAX);
        let shipper =
            LogShipper { owner, spool, length: length_receiver, acks: acks_receiver, session };
        tokio::spawn(shipper.run());
        Shipping { length, acks }
    }

    /// The spool may be read up to here.
    pub(crate) fn set_length(&self, length: u64) {
        self.length.send_if_modified(|known| {
            let is_news = *known < length;
            *known = length.max(*known);
            is_news
        });
    }

    /// What the master says. A full queue may drop an ack: the next one says more.
    pub(crate) fn ack(&self, ack: Ack) {
        let _full = self.acks.try_send(ack);
    }
}

/// What of an attempt is not a decision: its files, its supervisor, its logs on their way.
struct Hand {
    dir: AttemptDir,
    shipping: BTreeMap<u32, Shipping>,
    /// The supervisor, if this very process started it.
    supervisor: Option<Child>,
}

/// All attempts whose directories are here.
pub(crate) struct Attempts {
    home: PathBuf,
    session: LogSession,
    runs_as: StepsRunAs,
    hands: BTreeMap<AttemptRef, Hand>,
}

impl Attempts {
    /// Takes up what an earlier process of this agent left, and says what that is.
    pub(crate) fn load(
        home: PathBuf,
        session: LogSession,
        runs_as: StepsRunAs,
    ) -> (Attempts, Vec<Found>) {
        let mut this = Attempts { home, session, runs_as, hands: BTreeMap::new() };
        let mut found = Vec::new();
        for (attempt, dir) in AttemptDir::all(&this.home) {
            match dir.spec() {
                Ok(Some(spec)) => {
                    let is_over = dir.result().is_some();
                    let has_begun = is_over
                        || is_supervised(&dir)
                        || dir.started(0).is_some()
                        || dir.started(1).is_some();
                    let steps = steps_of(&spec);
                    found.push(Found { attempt, steps, has_begun, is_over });
                    this.hold(attempt, dir, None);
                }
                // Half made, or not ours to understand: nothing of it ever ran.
                Ok(None) | Err(_) => {
                    let _best_effort = dir.remove();
                }
            }
        }
        (this, found)
    }

    fn hold(&mut self, id: AttemptRef, dir: AttemptDir, supervisor: Option<Child>) {
        self.hands.insert(id, Hand { dir, shipping: BTreeMap::new(), supervisor });
    }

    /// Log bytes that are here and not yet at the master, about.
    pub(crate) fn spool_bytes(&self) -> u64 {
        let logs = self.hands.values().flat_map(|hand| hand.shipping.values());
        logs.map(|shipping| *shipping.length.borrow()).sum()
    }

    /// Writes an attempt down and starts its supervisor; says how many steps it has.
    pub(crate) fn start(
        &mut self,
        spec: &AttemptSpec,
        lease_until: Duration,
        cancelled: bool,
    ) -> (u32, Result<(), String>) {
        let dir = AttemptDir::of(&self.home, spec.id);
        let steps = steps_of(spec);
        match begin(&dir, spec, lease_until, cancelled, &self.runs_as) {
            Ok(supervisor) => {
                self.hold(spec.id, dir, Some(supervisor));
                (steps, Ok(()))
            }
            Err(why) => {
                // Half of it is worth nothing, and a full disk needs the room.
                let _best_effort = dir.remove();
                self.hands.remove(&spec.id);
                (steps, Err(format!("{why:#}")))
            }
        }
    }

    /// Asks an attempt's supervisor to end it.
    pub(crate) fn cancel(&mut self, id: AttemptRef) {
        if let Some(hand) = self.hands.get(&id) {
            // A disk that takes no mark takes no result either: the lease will end it.
            let _disk_full = hand.dir.set_cancelled();
            hand.dir.wake_supervisor();
        }
    }

    /// Removes an attempt's files.
    pub(crate) fn remove(&mut self, id: AttemptRef) {
        if let Some(hand) = self.hands.remove(&id) {
            let _best_effort = hand.dir.remove();
        }
    }

    /// Writes the result that an attempt's supervisor did not write.
    pub(crate) fn keep(&self, id: AttemptRef, result: FromAgent) {
        if let Some(hand) = self.hands.get(&id) {
            let _disk_full = hand.dir.write_result(result);
        }
    }

    /// Gives an attempt more time.
    pub(crate) fn renew(&self, id: AttemptRef, until: Duration) {
        if let Some(hand) = self.hands.get(&id) {
            let _disk_full = hand.dir.set_lease(until);
        }
    }

    /// Begins to ship a step's log.
    pub(crate) fn ship(&mut self, attempt: AttemptRef, step: u32) {
        let Some(hand) = self.hands.get_mut(&attempt) else { return };
        hand.shipping.entry(step).or_insert_with(|| {
            let owner = LogOwner::Step { attempt, step };
            Shipping::start(owner, hand.dir.log(step), self.session.clone())
        });
    }

    /// What the master says of a step's log.
    pub(crate) fn ack(&self, attempt: AttemptRef, step: u32, ack: Ack) {
        let log = self.hands.get(&attempt).and_then(|hand| hand.shipping.get(&step));
        if let Some(shipping) = log {
            shipping.ack(ack);
        }
    }

    /// Looks at an attempt's files, as far as they concern these steps.
    pub(crate) fn look(&mut self, id: AttemptRef, steps: &[u32]) -> Option<Sight> {
        let hand = self.hands.get_mut(&id)?;
        let supervised = hand.is_supervised();
        let sight = |step: &u32| {
            let (started, result) = (hand.dir.started(*step), hand.dir.step_result(*step));
            let is_something = started.is_some() || result.is_some();
            is_something.then_some(StepSight { step: *step, started, result })
        };
        let steps = steps.iter().filter_map(sight).collect();
        let (result, unclean) = (hand.dir.result(), hand.dir.unclean());
        Some(Sight { supervised, steps, result, unclean })
    }

    /// Lets the logs of these steps be shipped as far as they are written by now.
    pub(crate) fn measure(&self, id: AttemptRef, sight: &[StepSight]) {
        let Some(hand) = self.hands.get(&id) else { return };
        for step in sight {
            let Some(shipping) = hand.shipping.get(&step.step) else { continue };
            let length = match &step.result {
                Some(FromAgent::StepResult(result)) => Some(result.log_bytes),
                Some(_) | None => {
                    std::fs::metadata(hand.dir.log(step.step)).ok().map(|log| log.len())
                }
            };
            shipping.set_length(length.unwrap_or(0));
        }
    }
}

fn steps_of(spec: &AttemptSpec) -> u32 {
    u32::try_from(spec.steps.len()).unwrap_or(u32::MAX - 1) + 1
}

fn begin(
    dir: &AttemptDir,
    spec: &AttemptSpec,
    lease_until: Duration,
    cancelled: bool,
    runs_as: &StepsRunAs,
) -> anyhow::Result<Child> {
    dir.create(spec)?;
    dir.set_lease(lease_until).context("write the lease")?;
    if cancelled {
        dir.set_cancelled().context("note the cancel")?;
    }
    spawn_supervisor(dir, runs_as)
}

impl Hand {
    fn is_supervised(&mut self) -> bool {
        if let Some(child) = &mut self.supervisor {
            match child.try_wait() {
                Ok(None) => return true,
                Ok(Some(_)) | Err(_) => self.supervisor = None,
            }
        }
        is_supervised(&self.dir)
    }
}

/// Whether somebody holds the supervisor's lock.
fn is_supervised(dir: &AttemptDir) -> bool {
    matches!(dir.lock(), Ok(None))
}

/// Starts this program again as the attempt's supervisor, in a session of its own.
fn spawn_supervisor(dir: &AttemptDir, runs_as: &StepsRunAs) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("find the agent's own program")?;
    let said = std::fs::File::create(dir.path().join("supervisor.log"))
        .context("create the supervisor's log")?;
    let mut command = Command::new(program);
    command
        .arg("step-supervisor")
        .arg(dir.path())
        .args(runs_as.arguments())
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with("BB_")))
        .stdin(std::process::Stdio::null())
        .stdout(said.try_clone().context("share the supervisor's log")?)
        .stderr(said);
    command.as_std_mut().default_signals();
    // SAFETY: setsid is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        });
    }
    command.spawn().context("start the attempt's supervisor")
}
