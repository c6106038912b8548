//! The attempts whose directories this agent holds: starts their supervisors, tells the master what
//! they left in their files, and forgets them when told to.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::agent::attempt_dir::AttemptDir;
use crate::agent::log_shipper::Ack;
use crate::agent::log_shipper::LogShipper;
use crate::agent::orphans;
use crate::agent::supervisor::StepsRunAs;
use crate::model::attempt::AttemptOutcome;
use crate::model::attempt::AttemptRef;
use crate::model::attempt::AttemptSpec;
use crate::model::attempt::LogChunk;
use crate::model::attempt::LogOwner;
use crate::runtime::clock;
use crate::runtime::signals::DefaultSignals;
use crate::wire::message::FromAgent;
use crate::wire::message::InventoryItem;

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

/// An attempt whose files are here.
struct Held {
    dir: AttemptDir,
    shipping: BTreeMap<u32, Shipping>,
    /// The supervisor, if this very process started it.
    supervisor: Option<Child>,
    /// Steps whose start was told in this session.
    started_told: BTreeSet<u32>,
    /// Steps whose result was told in this session.
    result_told: BTreeSet<u32>,
    /// Whether the attempt's own result was told in this session.
    end_told: bool,
    is_over: bool,
    /// Looks since its supervisor was found dead, and something of it alive.
    orphan_looks: u32,
}

/// All attempts here.
pub(crate) struct Attempts {
    home: PathBuf,
    session: LogSession,
    runs_as: StepsRunAs,
    held: BTreeMap<AttemptRef, Held>,
    /// Cancels that came before what they cancel.
    tombstones: BTreeSet<AttemptRef>,
    /// What an attempt left here that could not be ended: no other one may meet it.
    unclean: Option<String>,
}

impl Attempts {
    /// Takes up what an earlier process of this agent left.
    pub(crate) fn load(home: PathBuf, session: LogSession, runs_as: StepsRunAs) -> Attempts {
        let (held, tombstones) = (BTreeMap::new(), BTreeSet::new());
        let mut this = Attempts { home, session, runs_as, held, tombstones, unclean: None };
        for (id, dir) in AttemptDir::all(&this.home) {
            match dir.spec() {
                Ok(Some(_)) => this.hold(id, dir, None),
                // Half made, or not ours to understand: nothing of it ever ran.
                Ok(None) | Err(_) => {
                    let _best_effort = dir.remove();
                }
            }
        }
        this
    }

    fn hold(&mut self, id: AttemptRef, dir: AttemptDir, supervisor: Option<Child>) {
        let held = Held {
            is_over: dir.result().is_some(),
            dir,
            shipping: BTreeMap::new(),
            supervisor,
            started_told: BTreeSet::new(),
            result_told: BTreeSet::new(),
            end_told: false,
            orphan_looks: 0,
        };
        self.held.insert(id, held);
    }

    /// What the master is told after each greeting.
    pub(crate) fn inventory(&self) -> Vec<InventoryItem> {
        let items = self.held.iter();
        items.map(|(id, held)| InventoryItem { attempt: *id, finished: held.is_over }).collect()
    }

    /// Whether something runs.
    pub(crate) fn is_busy(&self) -> bool {
        self.held.values().any(|held| !held.is_over)
    }

    /// Whether there is an attempt that the master has not said to forget.
    pub(crate) fn is_any_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Log bytes that are here and not yet at the master, about.
    pub(crate) fn spool_bytes(&self) -> u64 {
        let logs = self.held.values().flat_map(|held| held.shipping.values());
        logs.map(|shipping| *shipping.length.borrow()).sum()
    }

    /// A new session: everything is told again, as nobody knows what arrived.
    pub(crate) fn tell_again(&mut self) {
        for held in self.held.values_mut() {
            held.started_told.clear();
            held.result_told.clear();
            held.end_told = false;
        }
    }

    /// Carries out an attempt, once, however often the master says so.
    pub(crate) fn run(&mut self, spec: &AttemptSpec) -> FromAgent {
        let id = spec.id;
        let reject = |sentence: String| FromAgent::AttemptRejected { attempt: id, sentence };
        if let Some(held) = self.held.get(&id) {
            let has_begun = held.is_over || held.supervisor.is_some() || is_supervised(&held.dir);
            if has_begun || held.dir.started(0).is_some() || held.dir.started(1).is_some() {
                return FromAgent::AttemptAccepted(id);
            }
        } else if let Some(why) = &self.unclean {
            return reject(format!("it ends, as it could not be cleaned: {why}"));
        } else if self.is_busy() {
            return reject("it still runs another one".into());
        }
        match self.start(spec) {
            Ok(()) => FromAgent::AttemptAccepted(id),
            Err(why) => {
                self.forget(id);
                reject(format!("{why:#}"))
            }
        }
    }

    fn start(&mut self, spec: &AttemptSpec) -> anyhow::Result<()> {
        let dir = AttemptDir::of(&self.home, spec.id);
        dir.create(spec)?;
        dir.set_lease(clock::monotonic() + spec.lease).context("write the lease")?;
        if self.tombstones.remove(&spec.id) {
            dir.set_cancelled().context("note the cancel")?;
        }
        let supervisor = spawn_supervisor(&dir, &self.runs_as)?;
        self.hold(spec.id, dir, Some(supervisor));
        Ok(())
    }

    /// Ends an attempt, also one that has not come yet.
    pub(crate) fn cancel(&mut self, id: AttemptRef) {
        match self.held.get(&id) {
            Some(held) => {
                // A disk that takes no mark takes no result either: the lease will end it.
                let _disk_full = held.dir.set_cancelled();
                held.dir.wake_supervisor();
            }
            None => {
                self.tombstones.insert(id);
            }
        }
    }

    /// Ends everything, now.
    pub(crate) fn cancel_all(&mut self) {
        let ids: Vec<AttemptRef> = self.held.keys().copied().collect();
        for id in ids {
            self.cancel(id);
        }
    }

    /// Drops an attempt with its files. One that still runs is ended first, and forgotten later.
    pub(crate) fn forget(&mut self, id: AttemptRef) {
        self.tombstones.remove(&id);
        let Some(held) = self.held.get(&id) else { return };
        if is_supervised(&held.dir) && !held.is_over {
            return self.cancel(id);
        }
        if !held.is_over {
            let _are_gone_in_a_moment = orphans::kill(&held.dir);
        }
        let _best_effort = held.dir.remove();
        self.held.remove(&id);
    }

    /// Gives running attempts more time.
    pub(crate) fn renew_leases(&self, until: Duration) {
        for held in self.held.values().filter(|held| !held.is_over) {
            let _disk_full = held.dir.set_lease(until);
        }
    }

    pub(crate) fn ack(&self, attempt: AttemptRef, step: u32, ack: Ack) {
        let log = self.held.get(&attempt).and_then(|held| held.shipping.get(&step));
        if let Some(shipping) = log {
            shipping.ack(ack);
        }
    }

    /// Looks at what the supervisors have written. What the master is to be told, in order.
    pub(crate) fn look(&mut self) -> Vec<FromAgent> {
        let mut news = Vec::new();
        for (id, held) in &mut self.held {
            held.look(*id, &self.session, &mut news);
            if self.unclean.is_none() && held.is_over {
                self.unclean = held.dir.unclean();
            }
        }
        news
    }

    /// Why this machine must end, once the master has everything of what ran here.
    pub(crate) fn must_end(&self) -> Option<&str> {
        self.unclean.as_deref().filter(|_| self.held.is_empty())
    }
}

impl Held {
    fn look(&mut self, id: AttemptRef, session: &LogSession, news: &mut Vec<FromAgent>) {
        // Asked before the files are read: what a supervisor wrote before its end is then seen.
        let is_supervised = self.is_supervised();
        // So is the end of it all: results of steps are written before it, and must be told before
        // it, as the master takes nothing more of an attempt that is over.
        let result = self.dir.result();
        let steps = match self.dir.spec() {
            Ok(Some(spec)) => u32::try_from(spec.steps.len()).unwrap_or(u32::MAX - 1) + 1,
            Ok(None) | Err(_) => 0,
        };
        for step in 0..steps {
            if self.result_told.contains(&step) {
                continue;
            }
            self.look_at_step(id, step, session, news);
        }
        if self.end_told {
            return;
        }
        if let Some(result) = result {
            self.is_over = true;
            self.end_told = true;
            news.push(result);
        } else if !is_supervised && self.orphans_are_gone() {
            self.is_over = true;
            self.end_told = true;
            let why = "its supervisor on the worker has ended unexpectedly".to_owned();
            let result =
                FromAgent::AttemptResult { attempt: id, outcome: AttemptOutcome::Infra(why) };
            // So that the next process of this agent tells the same.
            let _disk_full = self.dir.write_result(result.clone());
            news.push(result);
        }
    }

    fn look_at_step(
        &mut self,
        id: AttemptRef,
        step: u32,
        session: &LogSession,
        news: &mut Vec<FromAgent>,
    ) {
        let result = self.dir.step_result(step);
        let started = match self.started_told.contains(&step) {
            true => None,
            false => self.dir.started(step),
        };
        if let Some(started) = started {
            self.started_told.insert(step);
            self.shipping.entry(step).or_insert_with(|| {
                let owner = LogOwner::Step { attempt: id, step };
                Shipping::start(owner, self.dir.log(step), session.clone())
            });
            news.push(started);
        }
        if let Some(shipping) = self.shipping.get(&step) {
            let length = match &result {
                Some(FromAgent::StepResult(result)) => Some(result.log_bytes),
                Some(_) | None => std::fs::metadata(self.dir.log(step)).ok().map(|log| log.len()),
            };
            shipping.set_length(length.unwrap_or(0));
        }
        if let Some(result) = result {
            self.result_told.insert(step);
            news.push(result);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::AttemptId;
    use crate::model::ids::Fence;

    fn spec(number: u64) -> AttemptSpec {
        AttemptSpec {
            id: AttemptRef { attempt: AttemptId(number), fence: Fence(1) },
            project: "hello".into(),
            job: "test".into(),
            env: Vec::new(),
            secrets: Vec::new(),
            checkout: None,
            keep_workspace: false,
            steps: Vec::new(),
            timeout: Duration::from_secs(1),
            lease: Duration::from_secs(1),
        }
    }

    #[test]
    fn the_end_of_an_attempt_is_not_told_before_the_result_of_its_last_step() {
        let home = tempfile::tempdir().unwrap();
        let mut spec = spec(1);
        spec.steps = vec![crate::model::step::StepSpec {
            name: "last".into(),
            run: "true".into(),
            shell: crate::model::step::Shell::Sh,
            env: Vec::new(),
            timeout: None,
            when: crate::model::step::RunsAfter::SUCCESS,
        }];
        let dir = AttemptDir::of(home.path(), spec.id);
        dir.create(&spec).unwrap();
        let alive = dir.lock().unwrap().expect("no supervisor has it");
        let (_session, session) = watch::channel(None);
        let mut attempts = Attempts::load(home.path().to_owned(), session, StepsRunAs::Agent);

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
        assert_eq!(attempts.look(), []);
        supervisor.join().unwrap();
        let result = FromAgent::StepResult(crate::wire::message::StepResult {
            attempt: spec.id,
            step: 1,
            outcome: crate::model::step::StepOutcome::Exited(0),
            started_at: clock::now(),
            duration_ms: 1,
            log_bytes: 0,
            log_sha256: vec![0; 32],
        });
        std::fs::remove_file(&fifo).unwrap();
        dir.write_step_result(1, result.clone()).unwrap();
        drop(alive);
        assert_eq!(attempts.look(), [result, end]);
    }

    #[test]
    fn a_machine_that_could_not_be_cleaned_takes_nothing_more_and_ends_once_all_is_told() {
        let home = tempfile::tempdir().unwrap();
        let (first, second) = (spec(1), spec(2));
        let dir = AttemptDir::of(home.path(), first.id);
        dir.create(&first).unwrap();
        dir.set_unclean("processes of a job could not be ended: sleep (4711)").unwrap();
        let outcome = AttemptOutcome::Passed;
        dir.write_result(FromAgent::AttemptResult { attempt: first.id, outcome }).unwrap();

        let (_session, session) = watch::channel(None);
        let mut attempts = Attempts::load(home.path().to_owned(), session, StepsRunAs::Agent);
        assert_eq!(attempts.look().len(), 1, "the result is told all the same");
        let FromAgent::AttemptRejected { attempt, sentence } = attempts.run(&second) else {
            panic!("it was accepted");
        };
        assert_eq!(attempt, second.id);
        assert!(sentence.contains("sleep (4711)"), "{sentence}");
        assert_eq!(attempts.must_end(), None, "the master has not yet said that it has all");
        attempts.forget(first.id);
        assert!(attempts.must_end().is_some());
    }
}
