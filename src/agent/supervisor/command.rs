//! Runs one command to its end: output into the spool, deadlines, TERM and KILL, and nothing left.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitOptions;
use rustix::process::WaitStatus;

use crate::agent::attempt_dir::AttemptDir;
use crate::agent::supervisor::descendants;
use crate::agent::supervisor::spool::Spool;
use crate::agent::supervisor::waiting::Waiting;
use crate::model::step::StepOutcome;
use crate::runtime::clock;
use crate::runtime::signals::DefaultSignals;

/// Between TERM and KILL.
pub(super) const TERM_GRACE: Duration = Duration::from_secs(10);

/// When a command has ended and something it left behind still holds its pipe, that may print for as
/// long as this.
const STRAY_GRACE: Duration = Duration::from_millis(500);

/// Processes that fork while they are being ended are sought again this often.
const KILL_ROUNDS_MAX: u32 = 200;

/// What is read from the pipe at once.
const READ_BYTES: usize = 256 * 1024;

/// The pipe's size, where the kernel grants it: fewer wake-ups for a step that prints much.
const PIPE_BYTES: usize = 1024 * 1024;

/// Looks at lease and cancel at least this often, should a wake-up get lost.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What bounds a command.
pub(super) struct Bounds<'a> {
    pub(super) dir: &'a AttemptDir,
    pub(super) waiting: &'a Waiting,
    /// When the step must be over; monotonic.
    pub(super) step_ends: Option<Duration>,
    /// When the whole attempt must be over; monotonic.
    pub(super) attempt_ends: Duration,
    /// Whether a cancel ends it; steps that run after a cancel are not ended by the same one.
    pub(super) heeds_cancel: bool,
}

/// Why a command is being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Step,
    Attempt,
    Cancel,
    Lease,
    Disk,
}

impl Ending {
    fn outcome(self, spool: &Spool) -> StepOutcome {
        match self {
            Ending::Step | Ending::Attempt => StepOutcome::TimedOut,
            Ending::Cancel => StepOutcome::Cancelled,
            Ending::Lease => StepOutcome::Infra("the master was not heard of for too long".into()),
            Ending::Disk => {
                let why = spool.failure().map(ToString::to_string).unwrap_or_default();
                StepOutcome::Infra(format!("cannot write the step's log on the worker: {why}"))
            }
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Ending::Step => "the step ran out of time",
            Ending::Attempt => "the job ran out of time",
            Ending::Cancel => "the job was cancelled",
            Ending::Lease => "the master was not heard of for too long",
            Ending::Disk => "the worker's disk takes no more",
        }
    }
}

/// What the agent has written down for this supervisor.
struct Orders {
    is_cancelled: bool,
    /// Until when the command may go on; monotonic.
    lease: Option<Duration>,
    /// When this was read; monotonic.
    read_at: Duration,
}

impl Orders {
    fn read(dir: &AttemptDir) -> Orders {
        let read_at = clock::monotonic();
        Orders { is_cancelled: dir.is_cancelled(), lease: dir.lease(), read_at }
    }

    /// Whether they must be read again: it is time to, or what they say would end the command.
    fn is_stale(&self, now: Duration) -> bool {
        self.read_at + LOOK_EVERY <= now || self.lease.is_some_and(|lease| lease <= now)
    }
}

/// Runs a command in the given directory with nothing but the given environment.
pub(super) fn run(
    mut command: Command,
    in_dir: &Path,
    env: &[(String, String)],
    bounds: &Bounds,
    spool: &mut Spool,
) -> (StepOutcome, Option<Ending>) {
    let (output, input) = match pipe() {
        Ok(ends) => ends,
        Err(why) => return (StepOutcome::Infra(format!("cannot make a pipe: {why}")), None),
    };
    let Ok(second) = input.try_clone() else {
        return (StepOutcome::Infra("cannot share a pipe: too many open files".into()), None);
    };
    command
        .current_dir(in_dir)
        .env_clear()
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(input)
        .stderr(second)
        .process_group(0)
        .default_signals();
    let child = match command.spawn() {
        Ok(child) => child,
        Err(why) => {
            let program = command.get_program().to_string_lossy().into_owned();
            let sentence = format!("cannot start {program}: {why}");
            spool.say(&sentence);
            return (StepOutcome::Infra(sentence), None);
        }
    };
    // Its ends of the pipe are the child's alone now, or the pipe would never end.
    drop(command);
    let running = Running {
        child: child.id(),
        output: Some(output),
        orders: Orders::read(bounds.dir),
        ending: None,
        told_at: None,
        killed: false,
    };
    running.watch(bounds, spool)
}

/// A pipe whose first end is read without blocking.
fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pipe::PipeFlags;
    let (output, input) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let _not_granted = rustix::pipe::fcntl_setpipe_size(&output, PIPE_BYTES);
    let flags = rustix::fs::fcntl_getfl(&output)?;
    rustix::fs::fcntl_setfl(&output, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok((output, input))
}

/// A command that has been started.
struct Running {
    child: u32,
    output: Option<OwnedFd>,
    orders: Orders,
    ending: Option<Ending>,
    /// When it got TERM.
    told_at: Option<Duration>,
    killed: bool,
}

impl Running {
    fn watch(mut self, bounds: &Bounds, spool: &mut Spool) -> (StepOutcome, Option<Ending>) {
        let mut buffer = vec![0; READ_BYTES];
        let status = loop {
            if let Some(status) = reap(self.child) {
                break status;
            }
            let time = self.look(bounds, spool);
            let output = self.output.as_ref().map(AsFd::as_fd);
            let ready = bounds.waiting.wait(output, time);
            if ready.output {
                self.read(&mut buffer, spool);
            }
            if ready.agent || self.orders.is_stale(clock::monotonic()) {
                self.orders = Orders::read(bounds.dir);
            }
        };
        self.drain(bounds, &mut buffer, spool);
        let outcome = match self.ending {
            Some(ending) => ending.outcome(spool),
            None if spool.failure().is_some() => Ending::Disk.outcome(spool),
            None => outcome(status),
        };
        if let StepOutcome::Signalled(9) = outcome {
            spool.say("killed by signal 9, perhaps for memory");
        }
        (outcome, self.ending)
    }

    /// Decides whether it must end, and ends it by degrees. How long to wait for news at most.
    fn look(&mut self, bounds: &Bounds, spool: &mut Spool) -> Duration {
        let now = clock::monotonic();
        if self.ending.is_none() {
            self.ending = self.must_end(bounds, spool, now);
            if let Some(ending) = self.ending {
                let below = descendants::all();
                spool.say(&format!("{}: ending {}", ending.sentence(), descendants::names(&below)));
                signal_group(self.child, Signal::TERM);
                descendants::signal(&below, Signal::TERM);
                self.told_at = Some(now);
            }
        }
        if let Some(told_at) = self.told_at {
            let kill_at = told_at + TERM_GRACE;
            if kill_at <= now {
                if !self.killed {
                    spool.say("it ignores the request: killing it");
                    self.killed = true;
                }
                signal_group(self.child, Signal::KILL);
                descendants::signal(&descendants::all(), Signal::KILL);
                return Duration::from_millis(20);
            }
            return kill_at - now;
        }
        let deadlines = [bounds.step_ends, Some(bounds.attempt_ends), self.orders.lease];
        let next = deadlines.into_iter().flatten().min().unwrap_or(now + LOOK_EVERY);
        next.saturating_sub(now).min(LOOK_EVERY)
    }

    fn must_end(&self, bounds: &Bounds, spool: &Spool, now: Duration) -> Option<Ending> {
        if spool.failure().is_some() {
            return Some(Ending::Disk);
        }
        if bounds.heeds_cancel && self.orders.is_cancelled {
            return Some(Ending::Cancel);
        }
        if self.orders.lease.is_some_and(|lease| lease <= now) {
            return Some(Ending::Lease);
        }
        if bounds.attempt_ends <= now {
            return Some(Ending::Attempt);
        }
        bounds.step_ends.is_some_and(|end| end <= now).then_some(Ending::Step)
    }

    fn read(&mut self, buffer: &mut [u8], spool: &mut Spool) {
        let Some(output) = &self.output else { return };
        match rustix::io::read(output, &mut *buffer) {
            Ok(0) => self.output = None,
            Ok(read) => spool.write(&buffer[..read]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.output = None,
        }
    }

    /// The command has ended: takes what is in the pipe, gives strays a moment, and ends them.
    fn drain(&mut self, bounds: &Bounds, buffer: &mut [u8], spool: &mut Spool) {
        let until = clock::monotonic() + STRAY_GRACE;
        while self.output.is_some() {
            let left = until.saturating_sub(clock::monotonic());
            let output = self.output.as_ref().map(AsFd::as_fd);
            let ready = bounds.waiting.wait(output, left);
            reap_all();
            if ready.output {
                self.read(buffer, spool);
            }
            if left.is_zero() {
                break;
            }
        }
        reap_all();
        let strays = descendants::all();
        if strays.is_empty() {
            return;
        }
        spool.say(&format!("ending what the step left behind: {}", descendants::names(&strays)));
        end_all(bounds.waiting);
    }
}

/// Ends everything below this process.
pub(super) fn end_all(waiting: &Waiting) {
    for _ in 0..KILL_ROUNDS_MAX {
        reap_all();
        let left = descendants::all();
        if left.is_empty() {
            return;
        }
        descendants::signal(&left, Signal::KILL);
        waiting.wait(None, Duration::from_millis(10));
    }
}

fn signal_group(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _gone = rustix::process::kill_process_group(pid, signal);
    }
}

/// The child's end, if it has come. Other children that end meanwhile are strays, and only reaped.
fn reap(child: u32) -> Option<WaitStatus> {
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if u32::try_from(pid.as_raw_nonzero().get()) == Ok(child) {
            return Some(status);
        }
    }
    None
}

fn reap_all() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

fn outcome(status: WaitStatus) -> StepOutcome {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => StepOutcome::Exited(code),
        (None, Some(signal)) => StepOutcome::Signalled(signal),
        (None, None) => StepOutcome::Infra("the kernel does not say how the command ended".into()),
    }
}
