//! Adapter: where machines come from. One file (or two) per provisioner; all must pass
//! `tests/provisioners/contract.rs`.
//!
//! A provisioner obeys and reports; when to start or end a machine is the domain's to decide.

use std::future::Future;
use std::pin::Pin;

use crate::master::domain::decision::Urgency;
use crate::master::domain::event::LaunchFailure;
use crate::master::domain::event::Machine;
use crate::model::ids::CloudId;
use crate::model::ids::LaunchId;
use crate::model::ids::WorkerName;
use crate::model::money::Money;
use crate::model::secret::Secret;
use crate::model::time::Timestamp;

pub mod ec2;
pub mod local;
pub mod local_machine;
mod process_tree;

/// What stands for the password in user-data that is kept. No name and no address can hold it: it has
/// spaces.
pub const PASSWORD_PLACE: &str = "@the password@";

/// What a provisioner's call comes to, in its own time.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A source of machines.
pub trait Provisioner: Send + Sync {
    /// Settles what a launch will ask for. Asks for nothing yet.
    ///
    /// # Errors
    /// See [`LaunchError`].
    fn prepare(&self, order: PrepareOrder) -> Call<'_, Result<Prepared, LaunchError>>;

    /// Starts the machine of a request that was prepared. The same launch again starts no second one.
    ///
    /// # Errors
    /// See [`LaunchError`]: after any of them but [`LaunchFailure::Unsettled`] there is no machine.
    fn launch(&self, order: LaunchOrder) -> Call<'_, Result<CloudId, LaunchError>>;

    /// Whether the launch of a request could be accepted now. Starts nothing.
    ///
    /// # Errors
    /// See [`LaunchError`].
    fn probe(&self, order: PrepareOrder) -> Call<'_, Result<(), LaunchError>> {
        let prepared = self.prepare(order);
        Box::pin(async move { prepared.await.map(drop) })
    }

    /// Sees to it that all that belongs to a machine is there: an address, volumes. The same again
    /// changes nothing.
    ///
    /// # Errors
    /// See [`LaunchError`]: [`LaunchFailure::Unsettled`] where it is worth another look later.
    fn equip(&self, _order: EquipOrder) -> Call<'_, Result<(), LaunchError>> {
        // Most clouds' machines have nothing that was there before them.
        Box::pin(async { Ok(()) })
    }

    /// Ends the machine of a launch, in order.
    ///
    /// # Errors
    /// A sentence, when nothing is known of what came of it.
    fn terminate(
        &self,
        launch: LaunchId,
        cloud_id: Option<CloudId>,
    ) -> Call<'_, Result<Ending, String>> {
        self.terminate_by(launch, cloud_id, Urgency::Orderly)
    }

    /// Ends the machine of a launch; it is given as much time for it as `urgency` says.
    ///
    /// # Errors
    /// A sentence, when nothing is known of what came of it.
    fn terminate_by(
        &self,
        launch: LaunchId,
        cloud_id: Option<CloudId>,
        urgency: Urgency,
    ) -> Call<'_, Result<Ending, String>>;

    /// Asks for a machine to be stopped, with its disk kept; a listing will show it so.
    ///
    /// # Errors
    /// See [`StopError`].
    fn stop(&self, _cloud_id: CloudId) -> Call<'_, Result<(), StopError>> {
        let sentence = "machines of this provisioner cannot be stopped".to_owned();
        Box::pin(async { Err(StopError { sentence, is_final: true }) })
    }

    /// Starts a machine that was stopped. One that runs already is no error.
    ///
    /// # Errors
    /// See [`LaunchError`]: after any of them but [`LaunchFailure::Unsettled`] it has not started.
    fn start(&self, _cloud_id: CloudId) -> Call<'_, Result<(), LaunchError>> {
        let sentence = "machines of this provisioner cannot be started again".to_owned();
        Box::pin(async { Err(LaunchError { sentence, failure: LaunchFailure::Other }) })
    }

    /// All machines that are ours.
    ///
    /// # Errors
    /// A sentence; then nothing is known about any of them.
    fn list(&self) -> Call<'_, Result<Vec<Machine>, String>>;

    /// The launches that still wait for a machine though nobody may: it would come at any time.
    ///
    /// # Errors
    /// A sentence; then nothing is known about any of them.
    fn open_requests(&self) -> Call<'_, Result<Vec<LaunchId>, String>> {
        // Most clouds accept or refuse.
        Box::pin(async { Ok(Vec::new()) })
    }

    /// What a machine has written to its console.
    ///
    /// # Errors
    /// A sentence, when that cannot be had.
    fn console(&self, launch: LaunchId, cloud_id: CloudId) -> Call<'_, Result<String, String>>;
}

/// What came of asking for a machine's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is gone, or never was.
    Gone,
    /// It is ending; a listing will show it gone.
    UnderWay,
    /// It cannot be seen, which proves nothing yet.
    NotSeen,
    /// It may not be ended, or not by us, for this reason: it goes on, and a person must look.
    Refused(String),
}

/// A machine that will be asked for.
#[derive(Clone, Debug)]
pub struct PrepareOrder {
    /// The launch: the idempotency token, and the mark the machine carries.
    pub launch: LaunchId,
    /// Under which name its agent will call.
    pub worker: WorkerName,
    /// Which of the pool's candidates.
    pub candidate: u32,
    /// Whose address and volumes it gets, where its pool has any.
    pub seat: Option<u32>,
    /// What it runs when it is up, but for its password.
    pub user_data: String,
    /// When nobody can want it any more.
    pub expires_at: Timestamp,
}

/// A request that can be sent, now and after any number of restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The whole of it, but for the password.
    pub request: String,
    /// What it asks for, for people.
    pub what: String,
    /// What an hour of it costs, as far as is known.
    pub price_per_hour: Option<Money>,
}

/// A machine to start.
#[derive(Clone, Debug)]
pub struct LaunchOrder {
    /// The launch: the idempotency token, and the mark the machine carries.
    pub launch: LaunchId,
    /// What [`Provisioner::prepare`] gave.
    pub request: String,
    /// The launch's password, which the request lacks.
    pub password: Secret<String>,
}

impl LaunchOrder {
    /// User-data with its password. Holds a secret from here on.
    pub fn fill_in(&self, user_data: &str) -> String {
        user_data.replacen(PASSWORD_PLACE, self.password.reveal(), 1)
    }
}

/// A machine that is to have all that belongs to it.
#[derive(Clone, Debug)]
pub struct EquipOrder {
    /// The launch.
    pub launch: LaunchId,
    /// What the provisioner calls the machine.
    pub cloud_id: CloudId,
    /// What [`Provisioner::prepare`] gave.
    pub request: String,
}

/// Why there is no machine, or none that is known of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct LaunchError {
    /// What failed and why, in the provisioner's own words where it has any.
    pub sentence: String,
    /// What follows from it.
    pub failure: LaunchFailure,
}

/// Why a machine was not stopped, or is not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct StopError {
    /// What failed and why, in the provisioner's own words where it has any.
    pub sentence: String,
    /// Whether the same again would be refused again.
    pub is_final: bool,
}

/// Something that a doctor looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// What was found; a sentence without a full stop.
    pub what: String,
    /// What to do; empty where all is well.
    pub fix: String,
}

/// How something is that a doctor looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, but is probably not meant.
    Doubtful,
    /// Builds will not run.
    Bad,
}

impl Finding {
    /// All is well.
    pub fn good(what: String) -> Finding {
        Finding { verdict: Verdict::Good, what, fix: String::new() }
    }

    /// It works, but is probably not meant.
    pub fn doubtful(what: String, fix: &str) -> Finding {
        Finding { verdict: Verdict::Doubtful, what, fix: fix.to_owned() }
    }

    /// Builds will not run.
    pub fn bad(what: String, fix: &str) -> Finding {
        Finding { verdict: Verdict::Bad, what, fix: fix.to_owned() }
    }
}
