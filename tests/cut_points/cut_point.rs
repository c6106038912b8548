//! The places of a conversation at which a connection can be cut, by name.

use busybee::model::attempt::AttemptOutcome;
use busybee::model::attempt::LogOwner;
use busybee::wire::message::FromAgent;
use busybee::wire::message::FromMaster;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::relay::Message;
use crate::relay::When;

/// A chunk that is longer than a TLS record: cut in the middle, a part of it is there.
const LONG_CHUNK_BYTES: usize = 32 * 1024;

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CutPoint {
    BeforeTls,
    InsideClientHello,
    AfterTls,
    HelloLost,
    InsideHello,
    WelcomeLost,
    InsideWelcome,
    WelcomeSeen,
    InventoryLost,
    InsideInventory,
    InventorySeen,
    BootstrapLost,
    BootstrapSeen,
    InsideBootLog,
    BootstrapResultLost,
    BootstrapResultSeen,
    RunAttemptLost,
    InsideRunAttempt,
    RunAttemptSeen,
    AttemptAcceptedLost,
    AttemptAcceptedSeen,
    StepStartedLost,
    LogChunkLost,
    InsideLogChunk,
    LogChunkSeen,
    LogAckLost,
    LogAckSeen,
    StepResultLost,
    InsideStepResult,
    StepResultSeen,
    AttemptResultLost,
    AttemptResultSeen,
    ResultAckLost,
    ResultAckSeen,
    HeartbeatAckLost,
    CancelLost,
    CancelSeen,
    CancelledResultLost,
}

/// All of them, with what is so when the connection is gone. `docs/reliability.md` has this table.
pub(crate) const CUT_POINTS: [(CutPoint, &str); 38] = {
    use CutPoint as At;
    [
        (At::BeforeTls, "the connection was accepted, and not a byte was read"),
        (At::InsideClientHello, "half of the agent's first TLS record is there"),
        (At::AfterTls, "TLS is through, and nobody has greeted"),
        (At::HelloLost, "the agent has greeted, and the master does not know"),
        (At::InsideHello, "half of the greeting is there"),
        (At::WelcomeLost, "the master has bound the agent's key, and the agent does not know"),
        (At::InsideWelcome, "half of the welcome is there"),
        (At::WelcomeSeen, "the agent has pinned its master, and has said no more"),
        (At::InventoryLost, "the master waits to hear what the agent has"),
        (At::InsideInventory, "half of the inventory is there"),
        (At::InventorySeen, "the master knows what the agent has, and its answer is lost"),
        (At::BootstrapLost, "the master believes that the script was started"),
        (At::BootstrapSeen, "the script runs while the agent is away"),
        (At::InsideBootLog, "half a chunk of the boot log is there"),
        (At::BootstrapResultLost, "the script has passed, and the master does not know"),
        (At::BootstrapResultSeen, "the worker is ready, and away"),
        (At::RunAttemptLost, "the job was given out, and the agent never heard of it"),
        (At::InsideRunAttempt, "half of the job is there"),
        (At::RunAttemptSeen, "the job runs, and the master does not know"),
        (At::AttemptAcceptedLost, "the agent has said that the job runs, to nobody"),
        (At::AttemptAcceptedSeen, "both know that the job runs"),
        (At::StepStartedLost, "the master does not know which step runs"),
        (At::LogChunkLost, "a chunk of a log was sent, and nothing of it has arrived"),
        (At::InsideLogChunk, "half a chunk of a log is there"),
        (At::LogChunkSeen, "a chunk was written, and nobody was told"),
        (At::LogAckLost, "a chunk is durable, and the agent does not know"),
        (At::LogAckSeen, "the agent knows what is durable, and more is under way"),
        (At::StepResultLost, "a step has ended, and the master does not know"),
        (At::InsideStepResult, "half of a step's result is there"),
        (At::StepResultSeen, "a step's result counts, and the next one runs"),
        (At::AttemptResultLost, "the job has ended, and the master does not know"),
        (At::AttemptResultSeen, "the job's result counts, and the agent does not know"),
        (At::ResultAckLost, "the master has said that the result counts, to nobody"),
        (At::ResultAckSeen, "both are done with the job"),
        (At::HeartbeatAckLost, "the agent does not know that its lease goes on"),
        (At::CancelLost, "the job was cancelled, and runs on"),
        (At::CancelSeen, "the job is being ended, and the master waits to hear of it"),
        (At::CancelledResultLost, "the job was ended, and the master does not know"),
    ]
};

impl CutPoint {
    /// Whether this is the message, and where it is cut.
    pub(crate) fn at(self, message: &Message) -> Option<When> {
        use CutPoint as At;
        use FromAgent as Up;
        use FromMaster as Down;
        use When::After;
        use When::Before;
        use When::Inside;
        match message {
            Message::Up(said) => match (self, said) {
                (At::HelloLost, Up::Hello(_)) => Some(Before),
                (At::InsideHello, Up::Hello(_)) => Some(Inside),
                (At::InventoryLost, Up::Inventory(_)) => Some(Before),
                (At::InsideInventory, Up::Inventory(_)) => Some(Inside),
                (At::InventorySeen, Up::Inventory(_)) => Some(After),
                (At::InsideBootLog, Up::LogChunk(chunk)) if chunk.owner == LogOwner::Boot => {
                    Some(Inside)
                }
                (At::BootstrapResultLost, Up::BootstrapResult { .. }) => Some(Before),
                (At::BootstrapResultSeen, Up::BootstrapResult { .. }) => Some(After),
                (At::AttemptAcceptedLost, Up::AttemptAccepted(_)) => Some(Before),
                (At::AttemptAcceptedSeen, Up::AttemptAccepted(_)) => Some(After),
                (At::StepStartedLost, Up::StepStarted { .. }) => Some(Before),
                (_, Up::LogChunk(chunk)) if chunk.frame.len() < LONG_CHUNK_BYTES => None,
                (At::LogChunkLost, Up::LogChunk(_)) => Some(Before),
                (At::InsideLogChunk, Up::LogChunk(_)) => Some(Inside),
                (At::LogChunkSeen, Up::LogChunk(_)) => Some(After),
                (At::StepResultLost, Up::StepResult(_)) => Some(Before),
                (At::InsideStepResult, Up::StepResult(_)) => Some(Inside),
                (At::StepResultSeen, Up::StepResult(_)) => Some(After),
                (At::AttemptResultLost, Up::AttemptResult { .. }) => Some(Before),
                (At::AttemptResultSeen, Up::AttemptResult { .. }) => Some(After),
                (
                    At::CancelledResultLost,
                    Up::AttemptResult { outcome: AttemptOutcome::Cancelled, .. },
                ) => Some(Before),
                _ => None,
            },
            Message::Down(said) => match (self, said) {
                (At::WelcomeLost, Down::Welcome(_)) => Some(Before),
                (At::InsideWelcome, Down::Welcome(_)) => Some(Inside),
                (At::WelcomeSeen, Down::Welcome(_)) => Some(After),
                (At::BootstrapLost, Down::Bootstrap(_)) => Some(Before),
                (At::BootstrapSeen, Down::Bootstrap(_)) => Some(After),
                (At::RunAttemptLost, Down::RunAttempt(_)) => Some(Before),
                (At::InsideRunAttempt, Down::RunAttempt(_)) => Some(Inside),
                (At::RunAttemptSeen, Down::RunAttempt(_)) => Some(After),
                (At::LogAckLost, Down::LogAck { owner: LogOwner::Step { .. }, .. }) => Some(Before),
                (At::LogAckSeen, Down::LogAck { owner: LogOwner::Step { .. }, .. }) => Some(After),
                (At::ResultAckLost, Down::Forget(_)) => Some(Before),
                (At::ResultAckSeen, Down::Forget(_)) => Some(After),
                (At::HeartbeatAckLost, Down::HeartbeatAck { .. }) => Some(Before),
                (At::CancelLost, Down::Cancel(_)) => Some(Before),
                (At::CancelSeen, Down::Cancel(_)) => Some(After),
                _ => None,
            },
        }
    }

    /// Whether somebody cancels the build.
    pub(crate) fn is_cancelled(self) -> bool {
        matches!(self, CutPoint::CancelLost | CutPoint::CancelSeen | CutPoint::CancelledResultLost)
    }

    /// Whether this connection is cut before there is a message.
    pub(crate) async fn cuts_opening(self, stream: &mut TcpStream) -> bool {
        match self {
            CutPoint::BeforeTls => true,
            CutPoint::InsideClientHello => {
                let mut half = [0; 64];
                stream.read_exact(&mut half).await.expect("an agent begins with TLS");
                true
            }
            _ => false,
        }
    }
}
