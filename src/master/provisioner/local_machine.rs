//! A "machine" of the local provisioner: one process that all processes of a worker live below.
//!
//! The master starts `busybee local-machine DIR` in a session of its own, so that it outlives the
//! master as an instance in a cloud would. It holds a lock on `DIR/lock` for as long as it lives
//! (which is how the master knows, without trusting process ids), runs `DIR/user-data` as the
//! cloud-init of an instance would, and is the subreaper of everything that comes of it. When the
//! user-data ends, when it is told to (SIGTERM) or when its lifetime is over, it ends every
//! process below it, then itself.

use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;

use crate::master::provisioner::process_tree;
use crate::runtime::clock;
use crate::runtime::signals::DefaultSignals;

/// Processes that got TERM have this long before KILL.
const TERM_GRACE: Duration = Duration::from_secs(2);

/// How often what is left of the processes is looked at while they end.
const REAP_EVERY: Duration = Duration::from_millis(20);

/// Rounds of KILL for processes that fork while they are being ended.
const KILL_ROUNDS_MAX: u32 = 500;

/// How long a listing may hold the lock of a machine that is just starting.
const LISTING_TAKES_MAX: Duration = Duration::from_secs(2);

/// The files of a machine's directory.
pub(super) const LOCK_FILE: &str = "lock";
pub(super) const USER_DATA_FILE: &str = "user-data";
pub(super) const CONSOLE_FILE: &str = "console.log";
/// The worker's own directory, `BB_HOME`.
pub(super) const HOME_DIR: &str = "home";

/// Runs the machine in `dir` until it ends; `lifetime` is its own killer.
///
/// # Errors
/// When the lock is held already (the machine runs) or the user-data cannot be started.
pub fn run(dir: &Path, lifetime: Duration) -> anyhow::Result<()> {
    let mut lock = take_lock_soon(dir)?.context("this machine runs already")?;
    writeln!(lock, "{}", std::process::id()).context("write the lock file")?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("become the subreaper of the worker's processes")?;
    let ended = end_signals()?;
    let console = File::create(dir.join(CONSOLE_FILE)).context("create the console log")?;
    let user_data = Command::new("sh")
        .arg(dir.join(USER_DATA_FILE))
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "HOME"))
        .env("BB_HOME", dir.join(HOME_DIR))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(console.try_clone().context("share the console log")?)
        .stderr(console)
        // Ours are blocked, to be read from a descriptor.
        .default_signals()
        .spawn()
        .context("start the user-data with sh")?;
    wait(user_data.id(), &ended, lifetime);
    end_all_below();
    Ok(())
}

/// Like `take_lock`, but patient with a listing, which holds the lock while it looks.
fn take_lock_soon(dir: &Path) -> anyhow::Result<Option<File>> {
    let started = clock::monotonic();
    loop {
        let lock = take_lock(dir)?;
        if lock.is_some() || clock::monotonic().saturating_sub(started) > LISTING_TAKES_MAX {
            return Ok(lock);
        }
        process_tree::pause(Duration::from_millis(1));
    }
}

/// The lock of a machine's directory; nothing while a machine holds it.
///
/// # Errors
/// When the file cannot be opened or locked at all.
pub(super) fn take_lock(dir: &Path) -> anyhow::Result<Option<File>> {
    let path = dir.join(LOCK_FILE);
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            lock.set_len(0).context("empty the lock file")?;
            Ok(Some(lock))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(why) => Err(why).with_context(|| format!("lock {}", path.display())),
    }
}

/// A descriptor that becomes readable when SIGTERM, SIGINT or SIGCHLD is pending.
fn end_signals() -> anyhow::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: plain libc calls on a signal set that lives on this stack frame; the descriptor is
    // new and owned by nobody else.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD] {
            libc::sigaddset(&raw mut set, signal);
        }
        anyhow::ensure!(
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) == 0,
            "block signals: {}",
            std::io::Error::last_os_error()
        );
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        anyhow::ensure!(fd >= 0, "watch signals: {}", std::io::Error::last_os_error());
        Ok(std::os::fd::OwnedFd::from_raw_fd(fd))
    }
}

/// Waits for the user-data's end, a signal, or the end of the lifetime; reaps what dies meanwhile.
fn wait(user_data: u32, signals: &std::os::fd::OwnedFd, lifetime: Duration) {
    let started = clock::monotonic();
    loop {
        let left = lifetime.saturating_sub(clock::monotonic().saturating_sub(started));
        if left.is_zero() {
            return;
        }
        let timeout = rustix::event::Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut polled = [rustix::event::PollFd::from_borrowed_fd(
            signals.as_fd(),
            rustix::event::PollFlags::IN,
        )];
        let _interrupted = rustix::event::poll(&mut polled, Some(&timeout));
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        while let Ok(read) = rustix::io::read(signals, &mut info) {
            // The signal's number is the first field, a native-endian u32.
            let number = info.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes));
            if read == info.len() && number != u32::try_from(libc::SIGCHLD).ok() {
                return;
            }
        }
        if reap().0.contains(&user_data) {
            return;
        }
    }
}

/// Reaps every child that has ended: who they were, and whether any is left.
fn reap() -> (Vec<u32>, bool) {
    let mut ended = Vec::new();
    loop {
        match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
            Ok(Some((pid, _status))) => ended.extend(u32::try_from(pid.as_raw_nonzero().get())),
            Ok(None) => return (ended, true),
            Err(rustix::io::Errno::INTR) => {}
            Err(_there_is_none) => return (ended, false),
        }
    }
}

/// TERM, a grace, then KILL, until nothing is left below this process.
fn end_all_below() {
    let this = std::process::id();
    process_tree::signal_all(&process_tree::descendants(this), Signal::TERM);
    let started = clock::monotonic();
    for _ in 0..KILL_ROUNDS_MAX {
        // Whatever is left below a subreaper has a child of it above. A walk through `/proc` may miss one
        // whose parent ends meanwhile, so it says whom to end, and not that nobody is there.
        let (_ended, is_any_left) = reap();
        if !is_any_left {
            return;
        }
        if clock::monotonic().saturating_sub(started) > TERM_GRACE {
            process_tree::signal_all(&process_tree::descendants(this), Signal::KILL);
        }
        let pause =
            rustix::event::Timespec { tv_sec: 0, tv_nsec: REAP_EVERY.subsec_nanos().into() };
        let _interrupted = rustix::event::poll(&mut [], Some(&pause));
    }
}
