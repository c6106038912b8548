//! Answers that are none, and refusals: each as a sentence, and with how the process must end.

use std::error::Error;
use std::time::Duration;

use reqwest::Response;
use reqwest::StatusCode;

use crate::api;
use crate::api::ErrorKind;
use crate::client::exit::Exit;
use crate::client::exit::Failure;
use crate::client::screen::visible;

/// Lets a good answer through, and makes anything else a sentence.
///
/// # Errors
/// The master refuses, or what answers is no master.
pub async fn accept(shown: &str, response: Response) -> Result<Response, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    if let Some(place) = response.headers().get("location") {
        let place = visible(&String::from_utf8_lossy(place.as_bytes()));
        return Err(not_a_master(shown, &format!("that it has moved to {place}")));
    }
    let text = response.text().await.unwrap_or_default();
    match serde_json::from_str::<api::Error>(&text) {
        Ok(refusal) => Err(refused(&refusal)),
        Err(_) if is_gateway(status) => Err(Failure::unreachable(format!(
            "cannot reach the master at {shown}: whatever stands in front of it says {status}"
        ))),
        Err(_) => Err(not_a_master(shown, &status.to_string())),
    }
}

/// The master's own words, and how the process must end.
fn refused(refusal: &api::Error) -> Failure {
    let exit = match refusal.kind {
        ErrorKind::Invalid
        | ErrorKind::Unauthorized
        | ErrorKind::Forbidden
        | ErrorKind::NotFound
        | ErrorKind::Conflict => Exit::Wrong,
        // Nothing is wrong with what was asked for; unknown kinds mean the same, to be safe.
        ErrorKind::Unavailable | ErrorKind::Internal | ErrorKind::Unknown => Exit::Infra,
    };
    let hint = match refusal.kind {
        ErrorKind::Unauthorized => {
            "; --token or BUSYBEE_TOKEN gives it, --config does without on the master's own machine"
        }
        _ => "",
    };
    Failure { exit, sentence: format!("{}{hint}", refusal.error.trim_end()) }
}

/// Whether a proxy says that it cannot reach who stands behind it.
fn is_gateway(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Something answers, but not as a master does.
pub fn not_a_master(shown: &str, said: &str) -> Failure {
    Failure::unreachable(format!(
        "cannot reach a master at {shown}: what answers there says {said}, which is not how \
         Busybee answers; is the address right?"
    ))
}

/// The answer's beginning did not come in time.
pub fn silent(shown: &str, waited: Duration) -> Failure {
    Failure::unreachable(format!(
        "cannot reach the master at {shown}: no answer in {} s; look at its own log",
        waited.as_secs()
    ))
}

/// No answer came. `acts`: what was asked for may have been done all the same.
pub fn unanswered(shown: &str, error: &reqwest::Error, acts: bool) -> Failure {
    let cause = deepest_cause(error);
    let advice = if cause.contains("certificate") {
        "; --ca FILE names the authority to trust: the master's own is ca.pem in its data \
         directory"
    } else if error.is_connect() {
        "; is it running, and is that where it listens?"
    } else if acts {
        "; what was asked for may have been done all the same: look before asking again"
    } else {
        ""
    };
    Failure::unreachable(format!("cannot reach the master at {shown}: {cause}{advice}"))
}

/// What was wrong in the first place: libraries wrap it several times.
pub fn deepest_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
