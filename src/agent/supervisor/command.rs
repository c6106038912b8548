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
use crate::agent::domain::bounds::Bounds;
use crate::agent::domain::bounds::Ending;
use crate::agent::domain::bounds::Seen;
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

/// What a command is watched by.
pub(super) struct Watched<'a> {
    pub(super) dir: &'a AttemptDir,
    pub(super) waiting: &'a Waiting,
    pub(super) bounds: Bounds,
}

/// What the agent has written down for this supervisor.
struct Orders {
    cancelled: bool,
    /// Until when the command may go on; monotonic.
    lease: Option<Duration>,
    /// When this was read; monotonic.
    read_at: Duration,
}

impl Orders {
    fn read(dir: &AttemptDir) -> Orders {
        let read_at = clock::monotonic();
        Orders { cancelled: dir.is_cancelled(), lease: dir.lease(), read_at }
    }

    /// Whether they must be read again: it is time to, or what they say would end the command.
    fn is_stale(&self, now: Duration) -> bool {
        self.read_at + LOOK_EVERY <= now || self.lease.is_some_and(|lease| lease <= now)
    }

    fn seen(&self, spool: &Spool) -> Seen {
        let Orders { cancelled, lease, .. } = *self;
        Seen { disk_failed: spool.failure().is_some(), cancelled, lease }
    }
}

/// Runs a command in the given directory with nothing but the given environment.
pub(super) fn run(
    mut command: Command,
    in_dir: &Path,
    env: &[(String, String)],
    watched: &Watched,
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
            let sentence = not_started(&command.get_program().to_string_lossy(), in_dir, &why);
            spool.say(&sentence);
            return (StepOutcome::Infra(sentence), None);
        }
    };
    // Its ends of the pipe are the child's alone now, or the pipe would never end.
    drop(command);
    let running = Running {
        child: child.id(),
        output: Some(output),
        orders: Orders::read(watched.dir),
        ending: None,
        told_at: None,
        killed: false,
    };
    running.watch(watched, spool)
}

/// Why a program does not run, and what to do where the machine merely lacks it.
fn not_started(program: &str, in_dir: &Path, why: &std::io::Error) -> String {
    if why.kind() != std::io::ErrorKind::NotFound {
        return format!("cannot start {program}: {why}");
    }
    // That is told by the same error.
    if !in_dir.is_dir() {
        return format!("cannot start {program}: {} is not there any more", in_dir.display());
    }
    let remedy = match program {
        "git" => ", as debian.sh and fedora.sh do; or say `checkout: false` in the job",
        _ => "",
    };
    format!("this machine has no {program}: install it by the pool's bootstrap script{remedy}")
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
    fn watch(mut self, watched: &Watched, spool: &mut Spool) -> (StepOutcome, Option<Ending>) {
        let mut buffer = vec![0; READ_BYTES];
        let status = loop {
            if let Some(status) = reap(self.child) {
                break status;
            }
            let time = self.look(watched, spool);
            let output = self.output.as_ref().map(AsFd::as_fd);
            let ready = watched.waiting.wait(output, time);
            if ready.output {
                self.read(&mut buffer, spool);
            }
            if ready.agent || self.orders.is_stale(clock::monotonic()) {
                self.orders = Orders::read(watched.dir);
            }
        };
        self.drain(watched, &mut buffer, spool);
        let outcome = match self.ending {
            Some(ending) => outcome_of(ending, spool),
            None if spool.failure().is_some() => outcome_of(Ending::Disk, spool),
            None => outcome(status),
        };
        if let StepOutcome::Signalled(9) = outcome {
            spool.say("killed by signal 9, perhaps for memory");
        }
        (outcome, self.ending)
    }

    /// Decides whether it must end, and ends it by degrees. How long to wait for news at most.
    fn look(&mut self, watched: &Watched, spool: &mut Spool) -> Duration {
        let (now, seen) = (clock::monotonic(), self.orders.seen(spool));
        if self.ending.is_none() {
            self.ending = watched.bounds.must_end(now, seen);
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
        watched.bounds.next_timeout(seen).saturating_sub(now).min(LOOK_EVERY)
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
    fn drain(&mut self, watched: &Watched, buffer: &mut [u8], spool: &mut Spool) {
        let until = clock::monotonic() + STRAY_GRACE;
        while self.output.is_some() {
            let left = until.saturating_sub(clock::monotonic());
            let output = self.output.as_ref().map(AsFd::as_fd);
            let ready = watched.waiting.wait(output, left);
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
        end_all(watched.waiting);
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

/// What a command has come to that was ended so.
fn outcome_of(ending: Ending, spool: &Spool) -> StepOutcome {
    ending.outcome(&spool.failure().map(ToString::to_string).unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_asked_for() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let here = Path::new("/");
        let said = not_started("git", here, &missing);
        assert!(said.contains("no git") && said.contains("debian.sh"), "{said}");
        assert!(not_started("bash", here, &missing).ends_with("bootstrap script"));
        let said = not_started("sh", Path::new("/nowhere"), &missing);
        assert_eq!(said, "cannot start sh: /nowhere is not there any more");
        let forbidden = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert!(not_started("git", here, &forbidden).starts_with("cannot start git: "));
    }
}
