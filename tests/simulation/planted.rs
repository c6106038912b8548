//! Mistakes that are made on purpose, to see that the laws notice them. They are made here, in what
//! drives the real machines; production code knows nothing of them.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    Nothing,
    /// Actions are done before the records are safe.
    ActBeforeCommit,
    /// A commit is lost and nobody notices.
    CommitDropped,
    /// A restart forgets what was given to workers.
    AssignmentsForgotten,
    /// A restart takes what waits to be given out again for given out already.
    ReassignForgotten,
    /// A restart takes what waits for its turn in a concurrency group for what has it.
    LineForgotten,
    /// The agent is told that its log is safe as soon as it is written.
    AckBeforeDurable,
    /// A supervisor goes on with its job when its lease is over.
    LeaseIgnored,
    /// The master counts leases and graces with a clock that somebody sets.
    ClockTrusted,
    /// No budget is kept.
    BudgetForgotten,
    /// A late result counts for whatever the job's newest attempt is.
    FenceIgnored,
    /// An end of a build is not told to who watches.
    NoticeDropped,
    /// The end of a worker is decided, and its machine is not ended.
    TerminationForgotten,
    /// Machines that are stopped are kept for ever.
    StoppedForgotten,
}
