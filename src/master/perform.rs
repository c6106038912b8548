//! One match: each `Action` to the adapter that does it. What comes of it returns as an `Event`.
//!
//! Nothing here waits: what takes time runs in a task of its own. Nothing here decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::error;
use tracing::info;
use tracing::warn;

use crate::master::agents::Agents;
use crate::master::change_source::ChangeSource;
use crate::master::domain::decision::Action;
use crate::master::domain::event::Event;
use crate::master::inbox::Inbox;
use crate::master::provisioner::LaunchOrder;
use crate::master::provisioner::Provisioner;
use crate::master::store::Store;
use crate::model::ids::BuildNumber;
use crate::model::ids::InstanceId;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;
use crate::model::secret::Secret;
use crate::runtime::clock;

/// Makes the user-data of a launch: pool, worker, launch → text.
pub(crate) type UserDataOf =
    Arc<dyn Fn(&PoolName, &WorkerName, &LaunchId) -> Secret<String> + Send + Sync>;

/// A pool's way to machines.
pub(crate) struct PoolProvisioner {
    /// Where its machines come from.
    pub(crate) provisioner: Arc<dyn Provisioner>,
    /// Its machines end themselves after this.
    pub(crate) max_lifetime: Duration,
}

/// The adapters, as the event loop reaches them.
pub(crate) struct Performer {
    pub(crate) inbox: Inbox,
    pub(crate) store: Store,
    pub(crate) agents: Agents,
    pub(crate) changes: ChangeSource,
    pub(crate) pools: BTreeMap<PoolName, PoolProvisioner>,
    pub(crate) user_data: UserDataOf,
}

impl Performer {
    /// Does one thing, or starts it.
    pub(crate) fn perform(&self, action: Action) {
        match action {
            Action::ResolveChange(change) => {
                let changes = self.changes.clone();
                tokio::spawn(async move { changes.resolve(change).await });
            }
            Action::LoadBuild { project, number } => self.load_build(project, number),
            Action::Launch { instance, launch, pool, worker } => {
                self.launch(instance, launch, pool, worker);
            }
            Action::Terminate { instance, launch, pool, cloud_id: _ } => {
                self.terminate(instance, launch, pool);
            }
            Action::ListInstances(pool) => self.list(pool),
            Action::Tell { worker, connection, message } => {
                self.agents.tell(&worker, connection, message);
            }
            Action::Disconnect { connection, sentence } => {
                self.agents.disconnect(connection, sentence);
            }
            Action::Alarm(sentence) => error!("{sentence}"),
        }
    }

    /// Ends every connection, so that each agent greets the domain again.
    pub(crate) fn disconnect_all(&self, sentence: &str) {
        self.agents.close_all(sentence);
    }

    fn load_build(&self, project: ProjectName, number: BuildNumber) {
        let (inbox, store) = (self.inbox.clone(), self.store.clone());
        tokio::spawn(async move {
            let found = match store.load_build(project.clone(), number).await {
                Ok(found) => found.map(Box::new),
                Err(why) => {
                    error!(project.name = %project, "cannot read build {project}/{number}: {why:#}");
                    None
                }
            };
            inbox.send(Event::BuildLoaded { project, number, found }).await;
        });
    }

    fn launch(&self, instance: InstanceId, launch: LaunchId, pool: PoolName, worker: WorkerName) {
        let inbox = self.inbox.clone();
        let Some(found) = self.pools.get(&pool) else {
            let sentence = format!("pool \"{pool}\" has no provisioner");
            tokio::spawn(async move {
                let failed = Event::LaunchFailed { instance, sentence, needs_a_person: true };
                inbox.send(failed).await;
            });
            return;
        };
        let provisioner = Arc::clone(&found.provisioner);
        let user_data = (self.user_data)(&pool, &worker, &launch);
        let max_lifetime = found.max_lifetime;
        tokio::spawn(async move {
            let order = LaunchOrder { launch, worker: worker.clone(), user_data, max_lifetime };
            let event = match provisioner.launch(order).await {
                Ok(cloud_id) => {
                    info!(worker.name = %worker, "started {cloud_id} for worker {worker}");
                    Event::InstanceAccepted { instance, cloud_id }
                }
                Err(why) => {
                    warn!(worker.name = %worker, "cannot start a machine for {worker}: {why}");
                    let (sentence, needs_a_person) = (why.sentence, why.needs_a_person);
                    Event::LaunchFailed { instance, sentence, needs_a_person }
                }
            };
            inbox.send(event).await;
        });
    }

    fn terminate(&self, instance: Option<InstanceId>, launch: LaunchId, pool: PoolName) {
        let Some(found) = self.pools.get(&pool) else {
            // Its row outlived its pool: the domain asks again, and an admin reads this.
            error!("cannot end launch {launch}: pool \"{pool}\" is no longer configured");
            return;
        };
        let (inbox, provisioner) = (self.inbox.clone(), Arc::clone(&found.provisioner));
        tokio::spawn(async move {
            match provisioner.terminate(launch.clone()).await {
                Ok(()) => {
                    if let Some(instance) = instance {
                        inbox.send(Event::InstanceEnded { instance, sentence: None }).await;
                    }
                }
                Err(why) => warn!("cannot end launch {launch} yet: {why}"),
            }
        });
    }

    fn list(&self, pool: PoolName) {
        let Some(found) = self.pools.get(&pool) else {
            return;
        };
        let (inbox, provisioner) = (self.inbox.clone(), Arc::clone(&found.provisioner));
        let asked_at = clock::now();
        tokio::spawn(async move {
            let event = match provisioner.list().await {
                Ok(machines) => Event::CloudListed { pool, asked_at, machines },
                Err(sentence) => {
                    warn!(pool.name = %pool, "cannot list the machines of pool {pool}: {sentence}");
                    Event::CloudUnlisted { pool, sentence }
                }
            };
            inbox.send(event).await;
        });
    }
}
