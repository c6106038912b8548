//! What the supervisor waits for: output, ended children, the agent's FIFO, a deadline.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rustix::event::PollFd;
use rustix::event::PollFlags;

/// Descriptors that are watched for the supervisor's whole life.
pub(super) struct Waiting {
    children: OwnedFd,
    agent: OwnedFd,
}

/// What there is to look at now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ready {
    /// The pipe can be read (or has ended).
    pub(super) output: bool,
    /// A child may have ended.
    pub(super) child: bool,
    /// The agent may have changed lease or cancel.
    pub(super) agent: bool,
}

impl Waiting {
    /// Blocks SIGCHLD for this process (and so makes it readable), and opens the agent's FIFO.
    pub(super) fn new(fifo: &Path) -> anyhow::Result<Waiting> {
        use rustix::fs::OFlags;
        // Open for writing too, or it would be at its end whenever no agent has it open.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let agent = rustix::fs::open(fifo, flags, rustix::fs::Mode::empty())
            .with_context(|| format!("open {}", fifo.display()))?;
        Ok(Waiting { children: watch_children()?, agent })
    }

    /// Waits until something is ready or the time is over.
    pub(super) fn wait(&self, output: Option<BorrowedFd>, time: Duration) -> Ready {
        let mut polled = vec![
            PollFd::from_borrowed_fd(self.children.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.agent.as_fd(), PollFlags::IN),
        ];
        if let Some(output) = output {
            polled.push(PollFd::from_borrowed_fd(output, PollFlags::IN));
        }
        let time = rustix::event::Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let _interrupted = rustix::event::poll(&mut polled, Some(&time));
        let is_ready =
            |index: usize| polled.get(index).is_some_and(|one: &PollFd| !one.revents().is_empty());
        let ready = Ready { output: is_ready(2), child: is_ready(0), agent: is_ready(1) };
        if ready.child {
            drain(&self.children);
        }
        if ready.agent {
            drain(&self.agent);
        }
        ready
    }
}

/// Empties a descriptor that only says "look".
fn drain(fd: &OwnedFd) {
    let mut bytes = [0; 4096];
    while matches!(rustix::io::read(fd, &mut bytes), Ok(1..)) {}
}

fn watch_children() -> anyhow::Result<OwnedFd> {
    // SAFETY: plain libc calls on a signal set that lives on this stack frame; the descriptor is
    // new and owned by nobody else.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        anyhow::ensure!(
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) == 0,
            "block SIGCHLD: {}",
            std::io::Error::last_os_error()
        );
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        anyhow::ensure!(fd >= 0, "watch for SIGCHLD: {}", std::io::Error::last_os_error());
        Ok(OwnedFd::from_raw_fd(fd))
    }
}
