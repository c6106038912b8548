//! The attempts whose directories this agent holds: starts their supervisors, reads what they left in
//! their files, ships their logs. What of that is told, kept or dropped is decided in `domain`.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
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
use crate::agent::orphans;
use crate::agent::supervisor::StepsRunAs;
use crate::model::attempt::AttemptRef;
use crate::model::attempt::AttemptSpec;
use crate::model::attempt::LogChunk;
use crate::model::attempt::LogOwner;
use crate::runtime::signals::DefaultSignals;
use crate::wire::message::FromAgent;

/// Looks at what a killed supervisor left, until it is given up that all of it ends: one a second.
const ORPHAN_LOOKS_MAX: u32 = 20;

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
    /// Looks since its supervisor was found dead, and something of it alive.
    orphan_looks: u32,
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
        let hand = Hand { dir, shipping: BTreeMap::new(), supervisor, orphan_looks: 0 };
        self.hands.insert(id, hand);
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
            if hand.dir.result().is_none() {
                let _are_gone_in_a_moment = orphans::kill(&hand.dir);
            }
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
        let is_supervised = hand.is_supervised();
        // Read before the steps' files: their results are written before it and must be told before it,
        // as the master takes nothing more of an attempt that is over.
        let result = hand.dir.result();
        let supervised = is_supervised || (result.is_none() && !hand.orphans_are_gone());
        let mut seen = Vec::new();
        for step in steps.iter().copied() {
            let (started, result) = (hand.dir.started(step), hand.dir.step_result(step));
            if started.is_some() || result.is_some() {
                seen.push(StepSight { step, started, result });
            } else if step > 0 {
                // They begin one after the other; only a checkout may be left out.
                break;
            }
        }
        let unclean = hand.dir.unclean();
        Some(Sight { supervised, steps: seen, result, unclean })
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

    /// Ends what a supervisor left that was killed. What cannot be ended makes the machine unclean.
    fn orphans_are_gone(&mut self) -> bool {
        let left = orphans::kill(&self.dir);
        self.orphan_looks += 1;
        if !left.is_empty() && self.orphan_looks < ORPHAN_LOOKS_MAX {
            return false;
        }
        if !left.is_empty() {
            let why = format!("processes of a job could not be ended: {}", left.join(", "));
            let _disk_full = self.dir.set_unclean(&why);
        }
        true
    }
}

/// Whether somebody holds the supervisor's lock.
fn is_supervised(dir: &AttemptDir) -> bool {
    matches!(dir.lock(), Ok(None))
}

/// Starts this program again as the attempt's supervisor, in a session of its own.
fn spawn_supervisor(dir: &AttemptDir, runs_as: &StepsRunAs) -> anyhow::Result<Child> {
    // Not by its path: there may lie the program of an upgrade, whose agent has not been started yet.
    let program = "/proc/self/exe";
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
    if let Some(name) = std::env::args_os().next() {
        command.as_std_mut().arg0(name);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::attempt::AttemptOutcome;
    use crate::model::ids::AttemptId;
    use crate::model::ids::Fence;
    use crate::model::step::RunsAfter;
    use crate::model::step::Shell;
    use crate::model::step::StepOutcome;
    use crate::model::step::StepSpec;
    use crate::runtime::clock;
    use crate::wire::message::StepResult;

    fn spec() -> AttemptSpec {
        let step = StepSpec {
            name: "last".into(),
            run: "true".into(),
            shell: Shell::Sh,
            env: Vec::new(),
            timeout: None,
            when: RunsAfter::SUCCESS,
        };
        AttemptSpec {
            id: AttemptRef { attempt: AttemptId(1), fence: Fence(1) },
            project: "hello".into(),
            job: "test".into(),
            env: Vec::new(),
            secrets: Vec::new(),
            checkout: None,
            keep_workspace: false,
            steps: vec![step],
            timeout: Duration::from_secs(1),
            lease: Duration::from_secs(1),
        }
    }

    #[test]
    fn the_end_of_an_attempt_is_not_seen_before_the_result_of_its_last_step() {
        let (home, spec) = (tempfile::tempdir().unwrap(), spec());
        let dir = AttemptDir::of(home.path(), spec.id);
        dir.create(&spec).unwrap();
        let alive = dir.lock().unwrap().expect("no supervisor has it");
        let (_session, session) = watch::channel(None);
        let home_path = home.path().to_owned();
        let (mut attempts, _) = Attempts::load(home_path, session, StepsRunAs::Agent);

        // All is over just when the agent has looked for the step's result, and found none.
        let fifo = dir.path().join("1.result");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        let end = FromAgent::AttemptResult { attempt: spec.id, outcome: AttemptOutcome::Passed };
        let supervisor = {
            let (dir, fifo, end) = (dir.clone(), fifo.clone(), end.clone());
            std::thread::spawn(move || {
                let _nothing_yet = std::fs::OpenOptions::new().write(true).open(fifo).unwrap();
                dir.write_result(end).unwrap();
            })
        };
        let sight = attempts.look(spec.id, &[0, 1]).unwrap();
        assert_eq!((sight.steps, sight.result), (Vec::new(), None));
        supervisor.join().unwrap();
        let result = FromAgent::StepResult(StepResult {
            attempt: spec.id,
            step: 1,
            outcome: StepOutcome::Exited(0),
            started_at: clock::now(),
            duration_ms: 1,
            log_bytes: 0,
            log_sha256: vec![0; 32],
        });
        std::fs::remove_file(&fifo).unwrap();
        dir.write_step_result(1, result.clone()).unwrap();
        drop(alive);
        let sight = attempts.look(spec.id, &[0, 1]).unwrap();
        assert_eq!(sight.steps[0].result, Some(result));
        assert_eq!(sight.result, Some(end));
    }
}
