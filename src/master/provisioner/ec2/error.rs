//! What EC2's refusals mean: its codes → classes, each with an answer of its own.
//!
//! The HTTP status says nothing: lack of capacity and throttling come as 5xx as well (EC2 API
//! reference, "Error codes for the Amazon EC2 API").

/// What a failed call means for whoever made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorClass {
    /// There is no room for this type, in this place, at this price: take another.
    Capacity,
    /// A subnet has no address left: take another.
    SubnetFull,
    /// This type does not exist in this place.
    Unsupported,
    /// The account may not have more spot instances.
    SpotQuota,
    /// The account may not have more instances of this kind.
    Quota,
    /// The account may not have more of what an instance is made of, or may not have any yet.
    Limit,
    /// We may not do this at all.
    Denied,
    /// The credentials were good and have run out: load them again, once.
    Expired,
    /// The request is wrong, or names what does not exist.
    Invalid,
    /// There is no such subnet.
    BadSubnet,
    /// There is no such image (any more).
    BadImage,
    /// Too many calls: the same again, later. It was certainly not carried out.
    Throttled,
    /// Something failed: it may have been carried out, or not.
    Transient,
    /// What it is about is in another state just now: look again, decide again.
    WrongState,
    /// The token was used for another request: look up what it started.
    Settle,
    /// What the token started has ended already.
    Gone,
    /// There is no such instance, or it is too young to be seen.
    NotFound,
}

/// Why a call failed, with AWS's own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub(super) struct CallError {
    /// What it means.
    pub class: ErrorClass,
    /// The code, or empty where there was no answer.
    pub code: String,
    /// For people: what was asked, what the answer was.
    pub sentence: String,
}

impl CallError {
    /// From an answer of EC2 that is not a success. `body` is whatever came.
    pub(super) fn from_answer(action: &str, status: u16, body: &str) -> CallError {
        let code = first_text(body, "Code").unwrap_or_default();
        let message = first_text(body, "Message").unwrap_or_default();
        let class = classify(&code, status);
        let sentence = match (code.as_str(), message.as_str()) {
            ("", _) => format!("EC2 answered {action} with HTTP {status} and no code"),
            (code, "") => format!("EC2 refused {action}: {code}"),
            (code, message) => format!("EC2 refused {action}: {code}: {message}"),
        };
        CallError { class, code, sentence }
    }

    /// From an answer that is not a success, of a service that speaks JSON.
    pub(super) fn from_json(action: &str, status: u16, body: &str) -> CallError {
        let said: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        let text = |name: &str| said.get(name).and_then(|text| text.as_str()).unwrap_or_default();
        let code = text("__type").rsplit('#').next().unwrap_or_default();
        let code = code.strip_suffix("Exception").unwrap_or(code);
        let message = if text("message").is_empty() { text("Message") } else { text("message") };
        let sentence = match code {
            "" => format!("AWS answered {action} with HTTP {status} and no code"),
            code => format!("AWS refused {action}: {code}: {message}"),
        };
        CallError { class: classify(code, status), code: code.to_owned(), sentence }
    }

    /// Whether it may be about the keys alone: they have run out, or somebody has put others in their place.
    pub(super) fn is_about_keys(&self) -> bool {
        self.class == ErrorClass::Expired
            || self.code.starts_with("AuthFailure")
            || OF_KEYS.contains(&self.code.as_str())
    }

    /// No answer came.
    pub(super) fn no_answer(action: &str, why: &str) -> CallError {
        let sentence = format!("EC2 did not answer {action}: {why}");
        CallError { class: ErrorClass::Transient, code: String::new(), sentence }
    }

    /// An answer that we do not understand.
    pub(super) fn unreadable(action: &str, why: impl std::fmt::Display) -> CallError {
        let sentence = format!("EC2's answer to {action} is not what it should be: {why}");
        CallError { class: ErrorClass::Transient, code: String::new(), sentence }
    }
}

/// The class of a code; the status only where the code says nothing to us.
pub(super) fn classify(code: &str, status: u16) -> ErrorClass {
    let by_name = CODES.iter().find(|(codes, _)| codes.contains(&code));
    if let Some((_, class)) = by_name {
        return *class;
    }
    let by_start = STARTS.iter().find(|(start, _)| code.starts_with(start));
    match (by_start, status) {
        (Some((_, class)), _) => *class,
        (None, 429) => ErrorClass::Throttled,
        (None, 400..500) => ErrorClass::Invalid,
        (None, _) => ErrorClass::Transient,
    }
}

/// Codes by their whole name. Sources: EC2 API reference, "Error codes"; EC2 user guide,
/// "Troubleshoot instance launch issues".
const CODES: &[(&[&str], ErrorClass)] = &[
    (
        &[
            "InsufficientInstanceCapacity",
            "InsufficientHostCapacity",
            "InsufficientReservedInstanceCapacity",
            "InsufficientVolumeCapacity",
            "InsufficientCapacity",
            "UnfulfillableCapacity",
            "ReservationCapacityExceeded",
            "VolumeTypeNotAvailableInZone",
            "SpotMaxPriceTooLow",
        ],
        ErrorClass::Capacity,
    ),
    (&["InsufficientFreeAddressesInSubnet"], ErrorClass::SubnetFull),
    (&["Unsupported"], ErrorClass::Unsupported),
    (&["MaxSpotInstanceCountExceeded"], ErrorClass::SpotQuota),
    (&["VcpuLimitExceeded", "InstanceLimitExceeded", "ResourceLimitExceeded"], ErrorClass::Quota),
    (
        &[
            "VolumeLimitExceeded",
            "MaxIOPSLimitExceeded",
            "NetworkInterfaceLimitExceeded",
            "AttachmentLimitExceeded",
            "AddressLimitExceeded",
            "PendingVerification",
        ],
        ErrorClass::Limit,
    ),
    (
        &[
            "UnauthorizedOperation",
            "AccessDenied",
            "InvalidClientTokenId",
            "SignatureDoesNotMatch",
            "MissingAuthenticationToken",
            "OptInRequired",
            "Blocked",
            "AccountDisabled",
            "OperationNotPermitted",
            "TagPolicyViolation",
        ],
        ErrorClass::Denied,
    ),
    (&["ExpiredToken", "RequestExpired", "InvalidSecurity.RequestHasExpired"], ErrorClass::Expired),
    (&["IdempotentParameterMismatch"], ErrorClass::Settle),
    (&["IdempotentInstanceTerminated"], ErrorClass::Gone),
    (&["InvalidInstanceID.NotFound"], ErrorClass::NotFound),
    (
        &[
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "RequestResourceCountExceeded",
        ],
        ErrorClass::Throttled,
    ),
    (
        &[
            "InternalError",
            "InternalFailure",
            "ServerInternal",
            "Unavailable",
            "ServiceUnavailable",
            "RetryableError",
        ],
        ErrorClass::Transient,
    ),
    (
        &["IncorrectInstanceState", "IncorrectState", "VolumeInUse", "Resource.AlreadyAssociated"],
        ErrorClass::WrongState,
    ),
    (&["InvalidSubnetID.NotFound"], ErrorClass::BadSubnet),
    (
        &[
            "UnsupportedOperation",
            "InvalidBlockDeviceMapping",
            "InvalidKeyPair.NotFound",
            "InvalidGroup.NotFound",
            "InvalidVolume.ZoneMismatch",
            "TagLimitExceeded",
        ],
        ErrorClass::Invalid,
    ),
];

/// What is said of keys that are not known (any more), beside `AuthFailure`.
const OF_KEYS: [&str; 3] =
    ["InvalidClientTokenId", "SignatureDoesNotMatch", "MissingAuthenticationToken"];

/// Families of codes, by their beginning.
const STARTS: &[(&str, ErrorClass)] = &[
    ("AuthFailure", ErrorClass::Denied),
    ("InvalidAMIID.", ErrorClass::BadImage),
    ("Invalid", ErrorClass::Invalid),
    ("Missing", ErrorClass::Invalid),
];

/// The text of the first element of this name, wherever it stands: errors come in several shapes
/// (`Response/Errors/Error`, `ErrorResponse/Error`).
fn first_text(xml: &str, name: &str) -> Option<String> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut text = None;
    loop {
        match reader.read_event().ok()? {
            quick_xml::events::Event::Start(start) if start.local_name().as_ref() == name => {
                text = Some(String::new());
            }
            quick_xml::events::Event::Text(part) => {
                if let Some(text) = &mut text {
                    text.push_str(&part);
                }
            }
            quick_xml::events::Event::GeneralRef(reference) => {
                if let Some(text) = &mut text {
                    let known = quick_xml::escape::resolve_predefined_entity(&reference);
                    text.push_str(known.unwrap_or(""));
                }
            }
            quick_xml::events::Event::End(end) if end.local_name().as_ref() == name => {
                return text;
            }
            quick_xml::events::Event::Eof => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of what EC2 answers, as it was agreed on: a code in another class is a change of what
    /// follows from it.
    #[test]
    fn every_code_has_the_class_that_says_what_follows() {
        for (class, codes) in [
            (
                ErrorClass::Capacity,
                "InsufficientInstanceCapacity InsufficientHostCapacity \
                 InsufficientReservedInstanceCapacity InsufficientVolumeCapacity \
                 InsufficientCapacity UnfulfillableCapacity ReservationCapacityExceeded \
                 VolumeTypeNotAvailableInZone SpotMaxPriceTooLow",
            ),
            (ErrorClass::SubnetFull, "InsufficientFreeAddressesInSubnet"),
            (ErrorClass::Unsupported, "Unsupported"),
            (ErrorClass::SpotQuota, "MaxSpotInstanceCountExceeded"),
            (ErrorClass::Quota, "VcpuLimitExceeded InstanceLimitExceeded ResourceLimitExceeded"),
            (
                ErrorClass::Limit,
                "VolumeLimitExceeded MaxIOPSLimitExceeded NetworkInterfaceLimitExceeded \
                 AttachmentLimitExceeded AddressLimitExceeded PendingVerification",
            ),
            (
                ErrorClass::Denied,
                "UnauthorizedOperation AccessDenied AuthFailure AuthFailure.ServiceLinkedRole \
                 InvalidClientTokenId SignatureDoesNotMatch MissingAuthenticationToken \
                 OptInRequired Blocked AccountDisabled OperationNotPermitted TagPolicyViolation",
            ),
            (ErrorClass::Expired, "ExpiredToken RequestExpired InvalidSecurity.RequestHasExpired"),
            (
                ErrorClass::Invalid,
                "InvalidParameterValue InvalidParameterCombination MissingParameter \
                 UnsupportedOperation InvalidBlockDeviceMapping InvalidKeyPair.NotFound \
                 InvalidGroup.NotFound InvalidVolume.ZoneMismatch TagLimitExceeded",
            ),
            (ErrorClass::BadSubnet, "InvalidSubnetID.NotFound"),
            (ErrorClass::BadImage, "InvalidAMIID.NotFound InvalidAMIID.Unavailable"),
            (ErrorClass::Throttled, "RequestLimitExceeded Throttling RequestResourceCountExceeded"),
            (
                ErrorClass::Transient,
                "InternalError InternalFailure ServerInternal Unavailable ServiceUnavailable \
                 RetryableError",
            ),
            (ErrorClass::Settle, "IdempotentParameterMismatch"),
            (ErrorClass::Gone, "IdempotentInstanceTerminated"),
            (ErrorClass::NotFound, "InvalidInstanceID.NotFound"),
            (
                ErrorClass::WrongState,
                "IncorrectInstanceState IncorrectState VolumeInUse Resource.AlreadyAssociated",
            ),
        ] {
            for code in codes.split_whitespace() {
                for status in [400, 403, 500, 503] {
                    assert_eq!(classify(code, status), class, "{code} with {status}");
                }
            }
        }
    }

    #[test]
    fn the_code_decides_and_not_the_status() {
        assert_eq!(classify("InsufficientInstanceCapacity", 500), ErrorClass::Capacity);
        assert_eq!(classify("RequestLimitExceeded", 503), ErrorClass::Throttled);
        assert_eq!(classify("AuthFailure.UnauthorizedRegion", 401), ErrorClass::Denied);
        assert_eq!(classify("InvalidAMIID.NotFound", 400), ErrorClass::BadImage);
        assert_eq!(classify("InvalidClientTokenId", 403), ErrorClass::Denied);
        assert_eq!(classify("InvalidInstanceID.NotFound", 400), ErrorClass::NotFound);
        assert_eq!(classify("NobodyHasSeenThis", 400), ErrorClass::Invalid);
        assert_eq!(classify("NobodyHasSeenThis", 500), ErrorClass::Transient);
        assert_eq!(classify("", 502), ErrorClass::Transient);
        assert_eq!(classify("", 429), ErrorClass::Throttled);
    }

    #[test]
    fn a_refusal_is_told_in_awss_own_words() {
        let body = "<?xml version=\"1.0\"?><Response><Errors><Error>\
            <Code>UnauthorizedOperation</Code><Message>You may not &amp; shall not.</Message>\
            </Error></Errors><RequestID>1</RequestID></Response>";
        let error = CallError::from_answer("RunInstances", 403, body);
        assert_eq!(error.class, ErrorClass::Denied);
        assert_eq!(
            error.sentence,
            "EC2 refused RunInstances: UnauthorizedOperation: You may not & shall not."
        );
    }

    #[test]
    fn an_answer_that_is_no_xml_is_a_passing_failure() {
        let error = CallError::from_answer("RunInstances", 502, "<html>bad gateway");
        assert_eq!(error.class, ErrorClass::Transient);
        assert_eq!(error.sentence, "EC2 answered RunInstances with HTTP 502 and no code");
    }

    #[test]
    fn no_code_stands_in_two_classes() {
        let mut all: Vec<&str> =
            CODES.iter().flat_map(|(codes, _)| codes.iter().copied()).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
