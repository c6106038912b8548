//! Reads one log as it grows: from an offset of its own, at its reader's pace, to its end.
//!
//! Nothing is kept for anybody here: a slow reader reads later, from the same file.

use tokio::sync::broadcast;
use tokio::sync::watch;

use crate::master::domain::entities::AttemptState;
use crate::master::http::Web;
use crate::master::logs::key::LogKey;
use crate::master::logs::watch::LogWatch;
use crate::master::notices::Notice;
use crate::model::ids::AttemptId;
use crate::model::ids::BuildNumber;
use crate::model::ids::JobId;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;
use crate::model::status::WorkerStatus;

/// Bytes read at once: a slow viewer's share of memory.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// After this long without a byte a stream says that it still lives: under the idle limits of
/// common proxies (60 s), and soon enough to notice a reader that went away.
pub const QUIET_AFTER: std::time::Duration = std::time::Duration::from_secs(15);

/// Whose log it is: what tells when no more can come.
#[derive(Clone, Debug)]
pub enum Source {
    /// A step of an attempt.
    Step {
        /// Whose build.
        project: ProjectName,
        /// Which.
        number: BuildNumber,
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: AttemptId,
        /// The step.
        step: u32,
    },
    /// A worker's bootstrap script.
    Boot(WorkerName),
}

impl Source {
    /// What the log files call it.
    pub fn log_key(&self) -> LogKey {
        match self {
            Source::Step { attempt, step, .. } => LogKey::Step { attempt: *attempt, step: *step },
            Source::Boot(worker) => LogKey::Boot(worker.clone()),
        }
    }

    /// Whether the log has all that it will ever have.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn is_over(&self, web: &Web) -> anyhow::Result<bool> {
        match self {
            Source::Step { job, attempt, step, .. } => {
                let steps = web.store.steps_of(*attempt).await?;
                let run = steps.iter().find(|run| run.step == *step);
                if run.is_some_and(|run| run.outcome.is_some()) {
                    return Ok(true);
                }
                // A lost worker's step never ends by itself.
                let attempts = web.store.attempts_of(*job).await?;
                let found = attempts.iter().find(|found| found.id.attempt == *attempt);
                Ok(found.is_none_or(|found| is_final(&found.state)))
            }
            Source::Boot(name) => {
                let worker = web.store.worker(name.clone()).await?;
                Ok(worker.is_none_or(|worker| {
                    worker.bootstrapped || worker.status == WorkerStatus::Gone
                }))
            }
        }
    }

    fn is_touched_by(&self, notice: &Notice) -> bool {
        match (self, notice) {
            (
                Source::Step { project, number, .. },
                Notice::Build { project: other, number: other_number, .. },
            ) => project == other && number == other_number,
            (Source::Boot(_), Notice::Fleet) => true,
            (Source::Step { .. }, Notice::Fleet) | (Source::Boot(_), Notice::Build { .. }) => false,
        }
    }
}

/// Whether nothing more will happen to an attempt.
pub fn is_final(state: &AttemptState) -> bool {
    match state {
        AttemptState::Assigned | AttemptState::Started => false,
        AttemptState::Passed
        | AttemptState::Failed
        | AttemptState::Cancelled
        | AttemptState::Infra(_) => true,
    }
}

/// What came next.
#[derive(Debug)]
pub enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing for [`QUIET_AFTER`].
    Quiet,
    /// No more will come.
    End,
    /// The master stops: more may come, from the one that is started next.
    Stopped,
}

/// A reader of one log.
pub struct Tail {
    source: Source,
    key: LogKey,
    offset: u64,
    visible: LogWatch,
    notices: broadcast::Receiver<Notice>,
    stopping: watch::Receiver<bool>,
    is_over: bool,
    /// Whether something happened since `is_over` was last asked.
    ask_again: bool,
}

impl Tail {
    /// Reads from an offset on.
    ///
    /// # Errors
    /// The log files cannot be read.
    pub async fn new(web: &Web, source: Source, offset: u64) -> anyhow::Result<Tail> {
        let key = source.log_key();
        Ok(Tail {
            visible: web.logs.follow(&key).await?,
            notices: web.notices.watch(),
            stopping: web.stopping.clone(),
            is_over: false,
            ask_again: true,
            source,
            key,
            offset,
        })
    }

    /// Where the next piece begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next piece; waits for it.
    ///
    /// # Errors
    /// The store or the log file cannot be read.
    pub async fn next(&mut self, web: &Web) -> anyhow::Result<Piece> {
        loop {
            // Asked before the length is looked at: what it says is over has all its bytes by now.
            if self.ask_again && !self.is_over {
                self.ask_again = false;
                self.is_over = self.source.is_over(web).await?;
            }
            let visible = self.visible.current();
            if self.offset < visible {
                let left = usize::try_from(visible - self.offset).unwrap_or(PIECE_BYTES_MAX);
                let wanted = left.min(PIECE_BYTES_MAX);
                let bytes = web.logs.read_at(&self.key, self.offset, wanted).await?.bytes;
                anyhow::ensure!(!bytes.is_empty(), "the log is shorter than it says");
                self.offset += bytes.len() as u64;
                return Ok(Piece::Bytes(bytes));
            }
            if self.is_over {
                return Ok(Piece::End);
            }
            if *self.stopping.borrow() {
                return Ok(Piece::Stopped);
            }
            if tokio::time::timeout(QUIET_AFTER, self.something_happens()).await.is_err() {
                self.ask_again = true;
                return Ok(Piece::Quiet);
            }
        }
    }

    async fn something_happens(&mut self) {
        tokio::select! {
            _end = self.visible.changed() => {}
            Ok(()) = self.stopping.changed() => {}
            () = touched(&mut self.notices, &self.source) => self.ask_again = true,
        }
    }
}

/// Ends at the next notice that concerns a log, or that might have.
async fn touched(notices: &mut broadcast::Receiver<Notice>, source: &Source) {
    loop {
        match notices.recv().await {
            Ok(notice) if source.is_touched_by(&notice) => return,
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            // The publisher lives as long as the master.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
