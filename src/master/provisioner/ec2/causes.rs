//! Who or what ended an instance: EC2's StateReason → a cause, and words for people. Pure.

use crate::master::domain::event::EndCause;
use crate::master::domain::event::LaunchFailure;
use crate::master::provisioner::ec2::answers::Instance;
use crate::model::time::Timestamp;

/// EC2's codes (EC2 API reference, "StateReason"). Client.InternalError is mostly a key of KMS that may
/// not be used.
const CAUSES: &[(&str, EndCause)] = &[
    ("Server.InsufficientInstanceCapacity", EndCause::NoRoom),
    ("Server.SpotInstanceTermination", EndCause::SpotTaken),
    ("Server.SpotInstanceShutdown", EndCause::SpotTaken),
    ("Server.ScheduledStop", EndCause::Retired),
    ("Server.InternalError", EndCause::CloudFault),
    ("Client.VolumeLimitExceeded", EndCause::Limit),
    ("Client.InvalidSnapshot.NotFound", EndCause::DiedAtOnce),
    ("Client.InternalError", EndCause::DiedAtOnce),
    ("Client.InstanceInitiatedShutdown", EndCause::Itself),
    ("Client.UserInitiatedShutdown", EndCause::ByHand),
];

pub(super) fn cause_of(instance: &Instance) -> EndCause {
    let code = instance.state_reason.as_ref().map_or("", |reason| reason.code.as_str());
    let known = CAUSES.iter().find(|(known, _)| *known == code);
    known.map_or(EndCause::Unknown, |(_, cause)| *cause)
}

/// EC2's reason for an end, for people; its message repeats the code. Nothing where it only says what
/// somebody asked for.
pub(super) fn told(instance: &Instance) -> Option<String> {
    let reason = instance.state_reason.as_ref()?;
    let said = if reason.message.is_empty() { &reason.code } else { &reason.message };
    match reason.code.as_str() {
        "" | "Client.UserInitiatedShutdown" => None,
        "Client.InstanceInitiatedShutdown" => Some("the machine shut itself down".to_owned()),
        _ => Some(format!("EC2 ended it: {said}")),
    }
}

/// When somebody asked for its last change of state; nothing: EC2 does not say, as of one that shut itself down.
pub(super) fn asked_at(instance: &Instance) -> Option<Timestamp> {
    let (_, moment) = instance.reason.strip_suffix(" GMT)")?.rsplit_once('(')?;
    let (date, time) = moment.split_once(' ')?;
    format!("{date}T{time}.000Z").parse().ok()
}

/// What a launch failed of whose answer shows that its instance has ended already.
pub(super) fn failure_of(cause: EndCause) -> LaunchFailure {
    match cause {
        EndCause::NoRoom | EndCause::SpotTaken => LaunchFailure::Capacity,
        EndCause::Limit => LaunchFailure::Limit,
        EndCause::DiedAtOnce => LaunchFailure::DiedAtOnce,
        EndCause::Unknown
        | EndCause::Retired
        | EndCause::CloudFault
        | EndCause::Itself
        | EndCause::ByHand => LaunchFailure::Other,
    }
}
