//! The REST API's JSON: what the master answers and what clients send. One spelling for both ends.
//!
//! Everything lives under [`PREFIX`]. `PROJECT`, `JOB` and `NAME` are percent-encoded in paths and
//! queries. Times are RFC 3339 UTC with milliseconds, as text. An unknown query key or an unknown
//! key of a body is an error; a client must tolerate keys it does not know in answers.
//!
//! | method and path below `/api/v1` | query or body | answer |
//! |---|---|---|
//! | `GET /projects` | | [`project::ProjectList`] |
//! | `GET /builds` | [`build::BuildQuery`] | [`build::BuildList`], newest first, over all projects |
//! | `GET /projects/PROJECT/builds` | [`build::BuildQuery`] | [`build::BuildList`], newest first |
//! | `POST /projects/PROJECT/builds` | [`build::StartBuild`] | 201 [`build::BuildRef`], once the ref is resolved |
//! | `GET /projects/PROJECT/builds/N` | | [`build::Build`], steps included |
//! | `POST /projects/PROJECT/builds/N/cancel` | | [`Done`] |
//! | `POST /projects/PROJECT/builds/N/retry` | [`build::RetryBuild`] | [`Done`] |
//! | `GET /projects/PROJECT/builds/N/log` | [`log::LogQuery`] | raw bytes, see [`log`] |
//! | `GET /projects/PROJECT/builds/N/events` | | SSE: see [`event`] |
//! | `GET /events` | | SSE of everything: see [`event`] |
//! | `GET /workers` | [`fleet::WorkerQuery`] | [`fleet::WorkerList`] |
//! | `POST /workers` | [`fleet::AddWorker`] | 201 [`fleet::WorkerAdded`]: the only time its password is shown |
//! | `GET /workers/NAME` | | [`fleet::Worker`] |
//! | `POST /workers/NAME/drain`, `POST /workers/NAME/stop` | | [`Done`] |
//! | `GET /workers/NAME/log` | [`log::BootLogQuery`] | its boot log, raw bytes |
//! | `GET /pools` | | [`fleet::PoolList`] |
//! | `POST /pools/NAME/pause`, `POST /pools/NAME/resume` | | [`Done`] |
//! | `GET /instances` | [`fleet::InstanceQuery`] | [`fleet::InstanceList`]: the ledger, newest first |
//! | `GET /instances/ID` | | [`fleet::Instance`] |
//!
//! Beside it: `GET /healthz` (200 `ok`), `GET /schema/pipeline.v1.json`.
//!
//! A POST without a body may send none or `{}`. Every refusal is an [`Error`] with its HTTP
//! status: 400 `invalid`, 401 `unauthorized` (no token or a wrong one), 403 `forbidden` (host or
//! origin), 404 `not_found`, 409 `conflict`, 503 `unavailable`, 500 `internal`.
//!
//! The token goes into `Authorization: Bearer …`; over the Unix socket and for reading from
//! loopback none is needed.

use serde::Deserialize;
use serde::Serialize;

pub mod build;
pub mod event;
pub mod fleet;
pub mod log;
pub mod project;

/// Where the API begins.
pub const PREFIX: &str = "/api/v1";

/// It is so now. Printed as `{"done":true}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Always true: a refusal is an [`Error`].
    pub done: bool,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What, why, and what to do; a sentence for people.
    pub error: String,
    /// Of what kind; for programs.
    pub kind: ErrorKind,
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// What was asked for is wrong in itself.
    Invalid,
    /// A token is needed, or the one given is wrong.
    Unauthorized,
    /// This caller may not, whatever the token: a strange `Host`, another origin.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// It cannot be done as things stand.
    Conflict,
    /// Something outside did not answer, or the master is stopping.
    Unavailable,
    /// The master's own fault.
    Internal,
    /// A kind that this client does not know yet.
    #[serde(other)]
    Unknown,
}
