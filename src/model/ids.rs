//! Identities: newtypes, so that a job's number is never taken for a build's.

use std::fmt;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> $name {
                $name(text.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// A build, over all projects. People see [`BuildNumber`].
    BuildId
);
number_id!(
    /// A build's number within its project, from 1 and without gaps: what people say and URLs hold.
    BuildNumber
);
number_id!(
    /// A job of one build.
    JobId
);
number_id!(
    /// One try of a job. Never used twice, not even for another job.
    AttemptId
);
number_id!(
    /// A row of the ledger: one launch, whether or not a machine came of it.
    InstanceId
);
number_id!(
    /// A change waiting to become a build.
    ChangeId
);
number_id!(
    /// One accepted connection of an agent, unique for the life of a master process.
    ConnectionId
);
number_id!(
    /// Grows each time a job is given to a worker; what carries an older one is stale.
    Fence
);

name_id!(
    /// A project's name, from the master's file.
    ProjectName
);
name_id!(
    /// A pool's name, from the master's file.
    PoolName
);
name_id!(
    /// A worker's name: `BB_NAME`. Never used twice.
    WorkerName
);
name_id!(
    /// A job's name within its pipeline: `[a-z0-9_-]{1,64}`.
    JobName
);
name_id!(
    /// One launch of one worker, random hex: from it the password is derived, by it a cloud's tag names us.
    LaunchId
);
name_id!(
    /// What the provisioner calls an instance (`i-0123…`; for `local` a process id and its start).
    CloudId
);
name_id!(
    /// A full commit hash, lower-case hex.
    Commit
);
name_id!(
    /// A full ref: `refs/heads/main`, `refs/tags/v1`.
    RefName
);

impl RefName {
    /// `main` of `refs/heads/main`; nothing for a tag.
    pub fn branch(&self) -> Option<&str> {
        self.0.strip_prefix("refs/heads/")
    }

    /// `v1` of `refs/tags/v1`; nothing for a branch.
    pub fn tag(&self) -> Option<&str> {
        self.0.strip_prefix("refs/tags/")
    }
}

impl Commit {
    /// The first twelve characters: enough to tell commits apart on a page.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}
