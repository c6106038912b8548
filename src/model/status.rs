//! Statuses: the same words in the store, the API, the pages and on the command line.

use std::fmt;
use std::str::FromStr;

macro_rules! status {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every status there is.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<$name, UnknownWord> {
                match word {
                    $($word => Ok($name::$variant),)*
                    other => Err(UnknownWord { word: other.to_owned() }),
                }
            }
        }
    };
}

/// A word that is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown status \"{word}\"")]
pub struct UnknownWord {
    /// What was read.
    pub word: String,
}

status!(
    /// Where a build stands.
    BuildStatus {
        /// No job of it has started.
        Queued = "queued",
        /// A job of it has started.
        Running = "running",
        /// Every job passed or was skipped.
        Passed = "passed",
        /// A job failed, or the pipeline file is broken.
        Failed = "failed",
        /// Somebody cancelled it.
        Cancelled = "cancelled",
        /// A job could not be carried out, through no fault of the change.
        Infra = "infra",
    }
);

status!(
    /// Where a job stands.
    JobStatus {
        /// A job it needs is not done.
        Waiting = "waiting",
        /// It could run, and waits for a worker.
        Queued = "queued",
        /// A worker has it.
        Running = "running",
        /// Every step that had to pass did.
        Passed = "passed",
        /// A step failed or ran out of time.
        Failed = "failed",
        /// Somebody cancelled it.
        Cancelled = "cancelled",
        /// It could not be carried out, through no fault of the change.
        Infra = "infra",
        /// A job it needs did not pass.
        Skipped = "skipped",
    }
);

status!(
    /// Where a worker stands.
    WorkerStatus {
        /// Its instance was asked for; its agent has not called.
        Starting = "starting",
        /// Its agent is connected and runs the pool's bootstrap script.
        Bootstrapping = "bootstrapping",
        /// Ready and without a job.
        Idle = "idle",
        /// It has a job.
        Busy = "busy",
        /// It finishes its job and takes no other.
        Draining = "draining",
        /// Its agent has not been heard of for too long.
        Lost = "lost",
        /// Ended for good.
        Gone = "gone",
    }
);

status!(
    /// What is to become of a worker.
    WorkerFate {
        /// It takes jobs.
        Serves = "serves",
        /// Its machine is kept without running, and is started again for it.
        Rests = "rests",
        /// It finishes the job it has, and ends.
        Drains = "drains",
        /// It was told to end; only its lease, or its machine's end, is waited for.
        Ends = "ends",
    }
);

status!(
    /// Where an instance stands.
    InstanceStatus {
        /// Asked for; the provisioner has not answered.
        Requested = "requested",
        /// Accepted by the provisioner.
        Pending = "pending",
        /// Up.
        Running = "running",
        /// Being stopped, with its disk kept.
        Stopping = "stopping",
        /// Stopped, with its disk kept.
        Stopped = "stopped",
        /// Being ended.
        Terminating = "terminating",
        /// Ended.
        Terminated = "terminated",
        /// The launch failed: there never was a machine.
        Failed = "failed",
    }
);

impl BuildStatus {
    /// Whether nothing more will happen to it by itself.
    pub fn is_final(self) -> bool {
        match self {
            BuildStatus::Queued | BuildStatus::Running => false,
            BuildStatus::Passed
            | BuildStatus::Failed
            | BuildStatus::Cancelled
            | BuildStatus::Infra => true,
        }
    }
}

impl JobStatus {
    /// Whether nothing more will happen to it by itself.
    pub fn is_final(self) -> bool {
        match self {
            JobStatus::Waiting | JobStatus::Queued | JobStatus::Running => false,
            JobStatus::Passed
            | JobStatus::Failed
            | JobStatus::Cancelled
            | JobStatus::Infra
            | JobStatus::Skipped => true,
        }
    }
}

impl InstanceStatus {
    /// Whether no machine is there, nor can one still come of it.
    pub fn is_final(self) -> bool {
        match self {
            InstanceStatus::Terminated | InstanceStatus::Failed => true,
            InstanceStatus::Requested
            | InstanceStatus::Pending
            | InstanceStatus::Running
            | InstanceStatus::Stopping
            | InstanceStatus::Stopped
            | InstanceStatus::Terminating => false,
        }
    }

    /// Whether a machine may run, or come to run without being asked: it counts against what a pool may have.
    pub fn may_run(self) -> bool {
        match self {
            InstanceStatus::Stopped | InstanceStatus::Terminated | InstanceStatus::Failed => false,
            InstanceStatus::Requested
            | InstanceStatus::Pending
            | InstanceStatus::Running
            | InstanceStatus::Stopping
            | InstanceStatus::Terminating => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_as_its_status() {
        for status in JobStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(*status));
        }
        assert!("Passed".parse::<JobStatus>().is_err());
    }
}
