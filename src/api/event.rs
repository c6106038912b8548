//! What the event streams say: "read again", and where a build stands, but no more of the news itself,
//! so a slow reader misses nothing.
//!
//! The stream begins with one event (so that what happened before is read as well) and sends a
//! comment line now and then to keep the connection. The event's name is `build` or `fleet`, its
//! data the JSON below.

use serde::Deserialize;
use serde::Serialize;

/// The name of an event that says that a build has changed; its data is a [`BuildChanged`].
pub const BUILD: &str = "build";

/// The name of an event that says that a worker, an instance or a pool has changed; its data is `{}`.
pub const FLEET: &str = "fleet";

/// Read this build again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildChanged {
    /// Whose build; nothing, with the number: any may have changed.
    pub project: Option<String>,
    /// Which.
    pub number: Option<u64>,
    /// Where it stands; nothing when any may have changed. The stream of one build ends after a final
    /// one.
    pub status: Option<String>,
}
