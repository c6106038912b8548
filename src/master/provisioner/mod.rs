//! Adapter: where machines come from. One file (or two) per provisioner; all must pass
//! `tests/provisioners/contract.rs`.
//!
//! A provisioner obeys and reports; when to start or end a machine is the domain's to decide.

use std::future::Future;
use std::pin::Pin;

use crate::master::domain::event::Machine;
use crate::model::ids::CloudId;
use crate::model::ids::LaunchId;
use crate::model::ids::WorkerName;

pub mod local;
pub mod local_machine;
mod process_tree;

/// What a provisioner's call comes to, in its own time.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A source of machines.
pub trait Provisioner: Send + Sync {
    /// Starts a machine that runs this user-data. The same launch again starts no second one.
    ///
    /// # Errors
    /// See [`LaunchError`]: after any of them there is no machine.
    fn launch(&self, order: LaunchOrder) -> Call<'_, Result<CloudId, LaunchError>>;

    /// Ends the machine of a launch; one that is gone, or never was, counts as ended.
    ///
    /// # Errors
    /// A sentence, when the machine may still be there.
    fn terminate(&self, launch: LaunchId) -> Call<'_, Result<(), String>>;

    /// All machines that are ours.
    ///
    /// # Errors
    /// A sentence; then nothing is known about any of them.
    fn list(&self) -> Call<'_, Result<Vec<Machine>, String>>;
}

/// A machine to start.
#[derive(Clone, Debug)]
pub struct LaunchOrder {
    /// The launch: the idempotency token, and the mark the machine carries.
    pub launch: LaunchId,
    /// Under which name its agent will call.
    pub worker: WorkerName,
    /// What it runs when it is up. Holds the launch's password.
    pub user_data: crate::model::secret::Secret<String>,
    /// The machine ends itself after this, whatever happens.
    pub max_lifetime: std::time::Duration,
}

/// Why there is no machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct LaunchError {
    /// What failed and why, in the provisioner's own words where it has any.
    pub sentence: String,
    /// Whether trying again is pointless until a person has changed something.
    pub needs_a_person: bool,
}
