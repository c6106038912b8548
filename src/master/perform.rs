//! One match: each `Action` to the adapter that does it. What comes of it returns as an `Event`.
//!
//! Nothing here waits: what takes time runs in a task of its own. Nothing here decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::error;
use tracing::info;
use tracing::warn;

use crate::master::agents::Agents;
use crate::master::change_source::ChangeSource;
use crate::master::console_log;
use crate::master::domain::decision::Action;
use crate::master::domain::decision::Urgency;
use crate::master::domain::event::Event;
use crate::master::domain::event::LaunchFailure;
use crate::master::inbox::Inbox;
use crate::master::logs::LogStore;
use crate::master::mail::Mailer;
use crate::master::provisioner::Ending;
use crate::master::provisioner::EquipOrder;
use crate::master::provisioner::LaunchError;
use crate::master::provisioner::LaunchOrder;
use crate::master::provisioner::PrepareOrder;
use crate::master::provisioner::Prepared;
use crate::master::provisioner::Provisioner;
use crate::master::provisioner::StopError;
use crate::master::store::Store;
use crate::model::ids::BuildNumber;
use crate::model::ids::CloudId;
use crate::model::ids::InstanceId;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;
use crate::model::secret::Secret;
use crate::runtime::clock;

/// A machine's end does not wait longer than this for what it has written to its console.
const CONSOLE_TIMEOUT: Duration = Duration::from_secs(20);

/// What machines are told at their start.
pub(crate) trait Briefing: Send + Sync {
    /// The user-data of a worker, without its password.
    fn user_data(&self, pool: &PoolName, worker: &WorkerName) -> String;

    /// The password of a launch.
    fn password(&self, launch: &LaunchId) -> Secret<String>;
}

/// The adapters, as the event loop reaches them.
pub(crate) struct Performer {
    pub(crate) inbox: Inbox,
    pub(crate) store: Store,
    pub(crate) agents: Agents,
    pub(crate) changes: ChangeSource,
    pub(crate) logs: LogStore,
    pub(crate) mailer: Mailer,
    pub(crate) pools: BTreeMap<PoolName, Arc<dyn Provisioner>>,
    pub(crate) briefing: Arc<dyn Briefing>,
    /// How often the domain was loaded.
    pub(crate) loads: Arc<AtomicU64>,
}

/// The domain that asked for something. One that was loaded meanwhile has asked again, perhaps by another
/// clock: what counts is what that came to, and the answer to the one before would be taken for it.
struct AskingDomain {
    inbox: Inbox,
    loads: Arc<AtomicU64>,
    asked_in: u64,
}

impl AskingDomain {
    /// Tells it what came of that, if it is the present one.
    async fn tell(&self, event: Event) {
        if self.loads.load(Ordering::Relaxed) == self.asked_in {
            self.inbox.send(event).await;
        }
    }
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
            Action::Prepare { instance, launch, pool, worker, candidate, seat, expires_at } => {
                let user_data = self.briefing.user_data(&pool, &worker);
                let order = PrepareOrder { launch, worker, candidate, seat, user_data, expires_at };
                self.prepare(instance, &pool, order);
            }
            Action::Launch { instance, launch, pool, worker, request } => {
                let password = self.briefing.password(&launch);
                let order = LaunchOrder { launch, request, password };
                self.launch(instance, &pool, worker, order);
            }
            Action::Equip { instance, launch, pool, cloud_id, request } => {
                self.equip(instance, &pool, EquipOrder { launch, cloud_id, request });
            }
            Action::Stop { instance, launch, pool, cloud_id } => {
                self.stop(instance, launch, &pool, cloud_id);
            }
            Action::Start { instance, launch, pool, cloud_id } => {
                self.start(instance, launch, &pool, cloud_id);
            }
            Action::Terminate { instance, launch, pool, cloud_id, console_for, urgency } => {
                self.terminate(instance, launch, pool, (cloud_id, urgency), console_for);
            }
            Action::Probe { pool, launch, worker, expires_at } => {
                let user_data = self.briefing.user_data(&pool, &worker);
                let seat = None;
                let order =
                    PrepareOrder { launch, worker, candidate: 0, seat, user_data, expires_at };
                self.probe(pool, order);
            }
            Action::KeepConsole { launch, pool, cloud_id, worker } => {
                let Some(provisioner) = self.pools.get(&pool).cloned() else { return };
                let logs = self.logs.clone();
                tokio::spawn(async move {
                    keep_console(&*provisioner, &logs, launch, cloud_id, &worker).await;
                });
            }
            Action::ListInstances(pool) => self.list(pool),
            Action::Tell { worker, connection, message } => {
                self.agents.tell(&worker, connection, message);
            }
            Action::Disconnect { connection, sentence } => {
                self.agents.disconnect(connection, sentence);
            }
            Action::Alarm(sentence) => error!("{sentence}"),
            Action::Mail { to, subject, text } => self.mailer.send(to, subject, text),
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

    fn prepare(&self, instance: InstanceId, pool: &PoolName, order: PrepareOrder) {
        let domain = self.asking_domain();
        let provisioner = self.provisioner(pool);
        tokio::spawn(async move {
            let prepared = match provisioner {
                Ok(provisioner) => provisioner.prepare(order).await,
                Err(why) => Err(why),
            };
            let event = match prepared {
                Ok(Prepared { request, what, price_per_hour }) => {
                    Event::LaunchPrepared { instance, request, what, price_per_hour }
                }
                Err(LaunchError { sentence, failure }) => {
                    warn!("cannot settle what to launch: {sentence}");
                    Event::LaunchFailed { instance, sentence, failure }
                }
            };
            domain.tell(event).await;
        });
    }

    fn launch(
        &self,
        instance: InstanceId,
        pool: &PoolName,
        worker: WorkerName,
        order: LaunchOrder,
    ) {
        let domain = self.asking_domain();
        let provisioner = self.provisioner(pool);
        tokio::spawn(async move {
            let launched = match provisioner {
                Ok(provisioner) => provisioner.launch(order).await,
                Err(why) => Err(why),
            };
            let event = match launched {
                Ok(cloud_id) => {
                    info!(worker.name = %worker, "started {cloud_id} for worker {worker}");
                    Event::InstanceAccepted { instance, cloud_id }
                }
                Err(LaunchError { sentence, failure }) => {
                    warn!(worker.name = %worker, "cannot start a machine for {worker}: {sentence}");
                    Event::LaunchFailed { instance, sentence, failure }
                }
            };
            domain.tell(event).await;
        });
    }

    fn equip(&self, instance: InstanceId, pool: &PoolName, order: EquipOrder) {
        let domain = self.asking_domain();
        let provisioner = self.provisioner(pool);
        tokio::spawn(async move {
            let equipped = match provisioner {
                Ok(provisioner) => provisioner.equip(order).await,
                Err(why) => Err(why),
            };
            let event = match equipped {
                Ok(()) => Event::InstanceEquipped { instance },
                Err(LaunchError { sentence, failure }) => {
                    if failure != LaunchFailure::Unsettled {
                        warn!("cannot give a machine what belongs to it: {sentence}");
                    }
                    Event::EquipFailed { instance, sentence, failure }
                }
            };
            domain.tell(event).await;
        });
    }

    fn stop(&self, instance: InstanceId, launch: LaunchId, pool: &PoolName, cloud_id: CloudId) {
        let Some(provisioner) = self.pools.get(pool).cloned() else {
            // The domain asks again a few times, and then for its end.
            error!("cannot stop launch {launch}: pool \"{pool}\" is no longer configured");
            return;
        };
        let domain = self.asking_domain();
        tokio::spawn(async move {
            let Err(StopError { sentence, is_final }) = provisioner.stop(cloud_id).await else {
                return;
            };
            warn!("cannot stop launch {launch}: {sentence}");
            if is_final {
                domain.tell(Event::StopFailed { instance, sentence }).await;
            }
        });
    }

    fn start(&self, instance: InstanceId, launch: LaunchId, pool: &PoolName, cloud_id: CloudId) {
        let domain = self.asking_domain();
        let provisioner = self.provisioner(pool);
        tokio::spawn(async move {
            let started = match provisioner {
                Ok(provisioner) => provisioner.start(cloud_id.clone()).await,
                Err(why) => Err(why),
            };
            let event = match started {
                Ok(()) => Event::InstanceAccepted { instance, cloud_id },
                Err(LaunchError { sentence, failure }) => {
                    warn!("cannot start launch {launch} again: {sentence}");
                    Event::LaunchFailed { instance, sentence, failure }
                }
            };
            domain.tell(event).await;
        });
    }

    fn asking_domain(&self) -> AskingDomain {
        let asked_in = self.loads.load(Ordering::Relaxed);
        AskingDomain { inbox: self.inbox.clone(), loads: self.loads.clone(), asked_in }
    }

    fn provisioner(&self, pool: &PoolName) -> Result<Arc<dyn Provisioner>, LaunchError> {
        self.pools.get(pool).cloned().ok_or_else(|| LaunchError {
            sentence: format!("pool \"{pool}\" has no provisioner"),
            failure: LaunchFailure::Invalid,
        })
    }

    fn terminate(
        &self,
        instance: Option<InstanceId>,
        launch: LaunchId,
        pool: PoolName,
        (cloud_id, urgency): (Option<CloudId>, Urgency),
        console_for: Option<WorkerName>,
    ) {
        let Some(provisioner) = self.pools.get(&pool).cloned() else {
            // Its row outlived its pool: the domain asks again, and an admin reads this.
            error!("cannot end launch {launch}: pool \"{pool}\" is no longer configured");
            return;
        };
        let (inbox, logs) = (self.inbox.clone(), self.logs.clone());
        tokio::spawn(async move {
            if let (Some(worker), Some(cloud_id)) = (console_for, cloud_id.clone()) {
                keep_console(&*provisioner, &logs, launch.clone(), cloud_id, &worker).await;
            }
            match provisioner.terminate_by(launch.clone(), cloud_id, urgency).await {
                Ok(Ending::Gone) => {
                    if let Some(instance) = instance {
                        inbox.send(Event::InstanceEnded { instance, sentence: None }).await;
                    }
                }
                Ok(Ending::UnderWay | Ending::NotSeen) => {}
                Ok(Ending::Refused(sentence)) => {
                    warn!("cannot end launch {launch}: {sentence}");
                    if let Some(instance) = instance {
                        inbox.send(Event::EndRefused { instance, sentence }).await;
                    }
                }
                Err(why) => warn!("cannot end launch {launch} yet: {why}"),
            }
        });
    }

    /// Asks whether a pool that was refused may launch again.
    fn probe(&self, pool: PoolName, order: PrepareOrder) {
        let Some(provisioner) = self.pools.get(&pool).cloned() else { return };
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            let failure = provisioner.probe(order).await.err().map(|error| {
                info!(pool.name = %pool, "a dry run for pool {pool}: {error}");
                error.failure
            });
            inbox.send(Event::Probed { pool, failure }).await;
        });
    }

    fn list(&self, pool: PoolName) {
        let Some(provisioner) = self.pools.get(&pool).cloned() else {
            return;
        };
        let domain = self.asking_domain();
        let asked_at = clock::now();
        tokio::spawn(async move {
            let event = match provisioner.list().await {
                Ok(machines) => Event::CloudListed { pool: pool.clone(), asked_at, machines },
                Err(sentence) => {
                    warn!(pool.name = %pool, "cannot list the machines of pool {pool}: {sentence}");
                    Event::CloudUnlisted { pool: pool.clone(), sentence }
                }
            };
            domain.tell(event).await;
            match provisioner.open_requests().await {
                Ok(launches) if launches.is_empty() => {}
                Ok(launches) => domain.tell(Event::RequestsOpen { pool, launches }).await,
                Err(why) => warn!("cannot list the open requests of pool {pool}: {why}"),
            }
        });
    }
}

/// Reads a machine's console into its worker's boot log.
async fn keep_console(
    provisioner: &dyn Provisioner,
    logs: &LogStore,
    launch: LaunchId,
    cloud_id: CloudId,
    worker: &WorkerName,
) {
    let console = provisioner.console(launch, cloud_id);
    match tokio::time::timeout(CONSOLE_TIMEOUT, console).await {
        Ok(Ok(text)) => console_log::keep(logs, worker, &text).await,
        Ok(Err(why)) => warn!("cannot read the console of {worker}: {why}"),
        Err(_) => warn!("cannot read the console of {worker} in time"),
    }
}
