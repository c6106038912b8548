//! How a command ends: the exit codes, and the one kind of failure that commands return.

use std::fmt;

use crate::model::status::BuildStatus;

/// Why a process ends with the code it does. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or the build passed.
    Done,
    /// The build failed, or the thing asked for is wrong.
    Wrong,
    /// The command line itself is wrong.
    Usage,
    /// The build was cancelled.
    Cancelled,
    /// The build could not be carried out.
    Infra,
    /// The master cannot be reached.
    Unreachable,
    /// The person pressed Ctrl-C: what shells expect of SIGINT.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Wrong => 1,
            Exit::Usage => 2,
            Exit::Cancelled => 3,
            Exit::Infra => 4,
            Exit::Unreachable => 5,
            Exit::Interrupted => 130,
        }
    }

    /// How to end once a build has. One that has not ended is nobody's failure.
    pub fn of_build(status: BuildStatus) -> Exit {
        match status {
            BuildStatus::Queued | BuildStatus::Running | BuildStatus::Passed => Exit::Done,
            BuildStatus::Failed => Exit::Wrong,
            BuildStatus::Cancelled => Exit::Cancelled,
            BuildStatus::Infra => Exit::Infra,
        }
    }
}

/// A command could not do what it was asked to.
#[derive(Debug)]
pub struct Failure {
    /// With which code to end.
    pub exit: Exit,
    /// What we were doing, to which thing, why it failed, what to do.
    pub sentence: String,
}

impl Failure {
    /// The thing asked for is wrong.
    pub fn wrong(sentence: impl Into<String>) -> Failure {
        Failure { exit: Exit::Wrong, sentence: sentence.into() }
    }

    /// The command line lacks something, or contradicts itself.
    pub fn usage(sentence: impl Into<String>) -> Failure {
        Failure { exit: Exit::Usage, sentence: sentence.into() }
    }

    /// The master does not answer.
    pub fn unreachable(sentence: impl Into<String>) -> Failure {
        Failure { exit: Exit::Unreachable, sentence: sentence.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_contract() {
        let check = |status: BuildStatus, code: u8| {
            assert_eq!(Exit::of_build(status).code(), code, "{status}");
        };
        check(BuildStatus::Passed, 0);
        check(BuildStatus::Failed, 1);
        check(BuildStatus::Cancelled, 3);
        check(BuildStatus::Infra, 4);
        assert_eq!((Exit::Usage.code(), Exit::Unreachable.code()), (2, 5));
    }
}
