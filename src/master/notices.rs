//! Tells whoever watches that something has changed, after it was committed.
//!
//! A notice says what to read again, not what is in it: a watcher that was too slow misses
//! nothing by reading once more.

use tokio::sync::broadcast;

use crate::model::ids::BuildNumber;
use crate::model::ids::ProjectName;
use crate::model::status::BuildStatus;

/// Notices that a slow watcher may fall behind before it is told to read everything again.
const NOTICES_MAX: usize = 1024;

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A build, its jobs or their steps.
    Build {
        /// Whose.
        project: ProjectName,
        /// Which.
        number: BuildNumber,
        /// Where it stands now. A later notice may already be on its way.
        status: BuildStatus,
    },
    /// A worker, an instance or a pool.
    Fleet,
}

/// Where notices are published and watched. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Notices {
    sender: broadcast::Sender<Notice>,
}

impl Default for Notices {
    fn default() -> Notices {
        Notices { sender: broadcast::channel(NOTICES_MAX).0 }
    }
}

impl Notices {
    /// Tells every watcher there is.
    pub fn publish(&self, notice: Notice) {
        let _nobody_watches = self.sender.send(notice);
    }

    /// From now on, every notice. `Lagged` means: read everything again.
    pub fn watch(&self) -> broadcast::Receiver<Notice> {
        self.sender.subscribe()
    }
}
