//! Refusals: which HTTP status each kind has, and how it reads as JSON. For people router.rs
//! dresses the same thing as a page.

use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::api::Error;
use crate::api::ErrorKind;
use crate::master::domain::decision::Refusal;
use crate::master::domain::decision::RefusalKind;
use crate::master::logs::error::LogError;

/// Why a request got nothing: a kind for programs, a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Of what kind.
    pub kind: ErrorKind,
    /// What, why, and what to do.
    pub sentence: String,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(kind: ErrorKind, sentence: impl Into<String>) -> Problem {
        Problem { kind, sentence: sentence.into() }
    }

    /// There is no such thing.
    pub fn not_found(sentence: impl Into<String>) -> Problem {
        Problem::new(ErrorKind::NotFound, sentence)
    }

    /// What was asked for is wrong in itself.
    pub fn invalid(sentence: impl Into<String>) -> Problem {
        Problem::new(ErrorKind::Invalid, sentence)
    }

    /// The HTTP status of its kind.
    pub fn status(&self) -> StatusCode {
        match self.kind {
            ErrorKind::Invalid => StatusCode::BAD_REQUEST,
            ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Internal | ErrorKind::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let kind = match refusal.kind {
            RefusalKind::NotFound => ErrorKind::NotFound,
            RefusalKind::Conflict => ErrorKind::Conflict,
            RefusalKind::Invalid => ErrorKind::Invalid,
            RefusalKind::Unavailable => ErrorKind::Unavailable,
        };
        Problem::new(kind, refusal.sentence)
    }
}

/// What the store or a log file could not give: logged here, and not told to strangers.
impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Problem {
        tracing::error!(error = format!("{error:#}"), "failed to answer a request: {error:#}");
        let sentence = "the master failed to read what this needs; its log says why";
        Problem::new(ErrorKind::Internal, sentence)
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Problem {
        anyhow::Error::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Error { error: self.sentence.clone(), kind: self.kind };
        let mut response = (self.status(), axum::Json(body)).into_response();
        if self.kind == ErrorKind::Unauthorized {
            let challenge = axum::http::HeaderValue::from_static("Bearer realm=\"busybee\"");
            response.headers_mut().insert(axum::http::header::WWW_AUTHENTICATE, challenge);
        }
        // For router.rs, which makes a page of it where people look.
        response.extensions_mut().insert(self);
        response
    }
}
