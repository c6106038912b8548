//! The directory of one attempt: what agent and supervisor share.
//!
//! ```text
//! BB_HOME/attempts/ATTEMPT-FENCE/
//!   spec        what to do, as the RunAttempt message; private, it may hold a credential
//!   alive       locked by the supervisor for as long as it lives
//!   session     the supervisor's session and the machine's boot: what is to end if it is killed
//!   lease       until when it may go on, monotonic milliseconds; renewed by the agent
//!   cancel      there: end it
//!   wake        FIFO: the agent writes a byte after it changed lease or cancel
//!   N.log       what step N printed: the spool, the truth on this machine
//!   N.started   the StepStarted message of step N
//!   N.result    the StepResult message of step N
//!   result      the AttemptResult message
//!   unclean     there: why this machine must not run another job
//! ```
//! Only the agent makes and removes it; only the supervisor writes logs and results.

use std::fs::File;
use std::fs::OpenOptions;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bytes::BytesMut;

use crate::agent::files;
use crate::model::attempt::AttemptRef;
use crate::model::attempt::AttemptSpec;
use crate::model::ids::AttemptId;
use crate::model::ids::Fence;
use crate::wire::convert;
use crate::wire::message::FromAgent;
use crate::wire::message::FromMaster;

/// A frame's length stands before the message; here the file's own length says it.
const LENGTH_BYTES: usize = 4;

/// An attempt's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptDir {
    path: PathBuf,
}

impl AttemptDir {
    /// The directory of an attempt below the agent's home. It need not exist.
    pub fn of(home: &Path, id: AttemptRef) -> AttemptDir {
        let name = format!("{}-{}", id.attempt, id.fence);
        AttemptDir { path: home.join("attempts").join(name) }
    }

    /// A directory that the supervisor was started for.
    pub fn at(path: PathBuf) -> AttemptDir {
        AttemptDir { path }
    }

    /// All attempts whose directories are there.
    pub fn all(home: &Path) -> Vec<(AttemptRef, AttemptDir)> {
        let Ok(entries) = std::fs::read_dir(home.join("attempts")) else { return Vec::new() };
        let parse = |name: &str| {
            let (attempt, fence) = name.split_once('-')?;
            let attempt = AttemptId(attempt.parse().ok()?);
            Some(AttemptRef { attempt, fence: Fence(fence.parse().ok()?) })
        };
        entries
            .flatten()
            .filter_map(|entry| {
                let id = parse(entry.file_name().to_str()?)?;
                Some((id, AttemptDir { path: entry.path() }))
            })
            .collect()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `BB_HOME`, which the directory lies two levels below.
    pub fn home(&self) -> &Path {
        self.path.parent().and_then(Path::parent).unwrap_or(&self.path)
    }

    /// Makes the directory with what to do; the spec comes last, so that half a directory has none.
    pub fn create(&self, spec: &AttemptSpec) -> anyhow::Result<()> {
        files::make_private_dir(&self.path)
            .with_context(|| format!("create {}", self.path.display()))?;
        let wake = self.path.join("wake");
        if !wake.exists() {
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mkfifoat(rustix::fs::CWD, &wake, mode).context("make the wake FIFO")?;
        }
        let mut bytes = BytesMut::new();
        let message = FromMaster::RunAttempt(Box::new(spec.clone()));
        convert::append_from_master(message, &mut bytes).context("write the attempt down")?;
        files::write_whole(&self.path.join("spec"), &bytes[LENGTH_BYTES..])
            .context("write the attempt down")
    }

    pub fn spec(&self) -> anyhow::Result<Option<AttemptSpec>> {
        let Some(bytes) = files::read_if_there(&self.path.join("spec"))? else { return Ok(None) };
        match convert::read_from_master(&bytes).context("read what to do")? {
            FromMaster::RunAttempt(spec) => Ok(Some(*spec)),
            _ => anyhow::bail!("{} holds another message", self.path.join("spec").display()),
        }
    }

    /// Takes the supervisor's lock; nothing while one lives.
    pub fn lock(&self) -> anyhow::Result<Option<File>> {
        let path = self.path.join("alive");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(why) => Err(why).with_context(|| format!("lock {}", path.display())),
        }
    }

    pub(super) fn set_session(&self, session: &str) -> std::io::Result<()> {
        files::write_whole(&self.path.join("session"), session.as_bytes())
    }

    pub(super) fn session(&self) -> Option<String> {
        std::fs::read_to_string(self.path.join("session")).ok()
    }

    pub fn set_lease(&self, until: Duration) -> std::io::Result<()> {
        let until_ms = until.as_millis().to_string();
        files::write_whole(&self.path.join("lease"), until_ms.as_bytes())
    }

    /// Until when the supervisor may go on; nothing: no lease was ever given.
    pub fn lease(&self) -> Option<Duration> {
        let text = std::fs::read_to_string(self.path.join("lease")).ok()?;
        text.trim().parse().ok().map(Duration::from_millis)
    }

    pub fn set_cancelled(&self) -> std::io::Result<()> {
        files::write_whole(&self.path.join("cancel"), b"")
    }

    pub fn is_cancelled(&self) -> bool {
        self.path.join("cancel").exists()
    }

    /// Notes what is left of the attempt and could not be ended or removed.
    pub fn set_unclean(&self, why: &str) -> std::io::Result<()> {
        files::write_whole(&self.path.join("unclean"), why.as_bytes())
    }

    pub fn unclean(&self) -> Option<String> {
        std::fs::read_to_string(self.path.join("unclean")).ok()
    }

    /// Lets the supervisor look at lease and cancel. Without one this does nothing.
    pub fn wake_supervisor(&self) {
        wake(&self.path.join("wake"));
    }

    pub fn wake_fifo(&self) -> PathBuf {
        self.path.join("wake")
    }

    /// The FIFO by which supervisors wake the agent.
    pub fn agent_fifo(&self) -> PathBuf {
        agent_fifo(self.home())
    }

    pub fn log(&self, step: u32) -> PathBuf {
        self.path.join(format!("{step}.log"))
    }

    pub fn write_started(&self, step: u32, message: FromAgent) -> anyhow::Result<()> {
        self.write_message(&format!("{step}.started"), message)
    }

    pub fn started(&self, step: u32) -> Option<FromAgent> {
        self.message(&format!("{step}.started"))
    }

    pub fn write_step_result(&self, step: u32, message: FromAgent) -> anyhow::Result<()> {
        self.write_message(&format!("{step}.result"), message)
    }

    pub fn step_result(&self, step: u32) -> Option<FromAgent> {
        self.message(&format!("{step}.result"))
    }

    pub fn write_result(&self, message: FromAgent) -> anyhow::Result<()> {
        self.write_message("result", message)
    }

    pub fn result(&self) -> Option<FromAgent> {
        self.message("result")
    }

    fn write_message(&self, name: &str, message: FromAgent) -> anyhow::Result<()> {
        let mut bytes = BytesMut::new();
        convert::append_from_agent(message, &mut bytes).context("put a result into words")?;
        let path = self.path.join(name);
        files::write_whole(&path, &bytes[LENGTH_BYTES..])
            .with_context(|| format!("write {}", path.display()))
    }

    /// A message that a supervisor left. One that cannot be read counts as not there: the attempt then
    /// ends as an infrastructure failure.
    fn message(&self, name: &str) -> Option<FromAgent> {
        let bytes = files::read_if_there(&self.path.join(name)).ok()??;
        convert::read_from_agent(&bytes).ok()
    }

    pub fn remove(&self) -> std::io::Result<()> {
        match std::fs::remove_dir_all(&self.path) {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

/// The FIFO by which supervisors wake the agent.
pub fn agent_fifo(home: &Path) -> PathBuf {
    home.join("wake")
}

/// Writes a byte into a FIFO if somebody reads it and it is not full: then they will look anyway.
pub fn wake(fifo: &Path) {
    use rustix::fs::OFlags;
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if let Ok(fifo) = rustix::fs::open(fifo, flags, rustix::fs::Mode::empty()) {
        let _full = rustix::io::write(&fifo, b"!");
    }
}
