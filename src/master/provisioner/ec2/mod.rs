//! Adapter: machines that are EC2 instances.
//!
//! A launch is resolved first (which image is the newest now?), its whole request is remembered, and
//! only then it is sent, with the launch as its ClientToken: the same request again starts no second
//! instance. What is ours is known by its tags.

mod answers;
mod client;
mod credentials;
pub mod doctor;
mod error;
pub mod marked;
mod open_requests;
pub mod prices;
mod query;
mod run_instances;
pub mod settings;
mod stop_and_start;

pub use crate::master::provisioner::ec2::client::Patience;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::master::domain::event::LaunchFailure;
use crate::master::domain::event::Machine;
use crate::master::domain::event::MachineState;
use crate::master::provisioner::Call;
use crate::master::provisioner::Ending;
use crate::master::provisioner::LaunchError;
use crate::master::provisioner::LaunchOrder;
use crate::master::provisioner::PrepareOrder;
use crate::master::provisioner::Prepared;
use crate::master::provisioner::Provisioner;
use crate::master::provisioner::ec2::answers::Console;
use crate::master::provisioner::ec2::answers::FoundImage;
use crate::master::provisioner::ec2::answers::Images;
use crate::master::provisioner::ec2::answers::Instance;
use crate::master::provisioner::ec2::answers::InstancesPage;
use crate::master::provisioner::ec2::answers::Launched;
use crate::master::provisioner::ec2::client::Client;
use crate::master::provisioner::ec2::credentials::CredentialsFrom;
use crate::master::provisioner::ec2::error::CallError;
use crate::master::provisioner::ec2::error::ErrorClass;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::run_instances::Facts;
use crate::master::provisioner::ec2::settings::Candidate;
use crate::master::provisioner::ec2::settings::Ec2Settings;
use crate::master::provisioner::ec2::settings::Image;
use crate::model::ids::CloudId;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;

/// Instances of one page: what EC2 gives at most.
const PAGE: &str = "1000";

/// Pages of one listing, at most: ten times the machines that a pool may have.
const PAGES_MAX: usize = 100;

/// Starts instances for one pool.
#[derive(Clone)]
pub struct Ec2Provisioner {
    client: Client,
    settings: Ec2Settings,
    candidates: Vec<Candidate>,
    /// This master's id: what our tags carry.
    master: String,
    pool: PoolName,
}

impl Ec2Provisioner {
    /// For one pool of the master with this id. Asks nothing yet.
    ///
    /// # Errors
    /// When HTTPS cannot be set up on this machine.
    pub fn new(
        settings: Ec2Settings,
        master: String,
        pool: PoolName,
    ) -> anyhow::Result<Ec2Provisioner> {
        let client = Client::new(
            &settings.region,
            settings.endpoint.as_deref(),
            CredentialsFrom {
                file: settings.credentials_file.clone(),
                profile: settings.profile.clone(),
            },
        )?;
        let candidates = settings.candidates();
        Ok(Ec2Provisioner { client, settings, candidates, master, pool })
    }

    /// With another patience than EC2 itself needs: for stand-ins on this computer.
    pub fn with_patience(self, patience: Patience) -> Ec2Provisioner {
        Ec2Provisioner { client: self.client.with_patience(patience), ..self }
    }

    async fn prepare_now(&self, order: PrepareOrder) -> Result<Prepared, LaunchError> {
        let candidate = self.candidates.get(order.candidate as usize);
        let candidate = candidate.or(self.candidates.first()).ok_or_else(|| LaunchError {
            sentence: format!("pool \"{}\" names no instance type", self.pool),
            failure: LaunchFailure::Invalid,
        })?;
        let image = self.image().await.map_err(launch_error)?;
        let query = run_instances::request(&Facts {
            settings: &self.settings,
            candidate,
            image: &image,
            master: &self.master,
            pool: &self.pool,
            launch: &order.launch,
            worker: &order.worker,
            expires_at: order.expires_at,
            user_data: &order.user_data,
        });
        let request = serde_json::to_string(&query).map_err(|why| LaunchError {
            sentence: format!("cannot write the request down: {why}"),
            failure: LaunchFailure::Other,
        })?;
        let what = format!("{candidate}, {}", image.image_id);
        Ok(Prepared { request, what })
    }

    async fn launch_now(&self, order: LaunchOrder) -> Result<CloudId, LaunchError> {
        let invalid = |sentence: String| LaunchError { sentence, failure: LaunchFailure::Invalid };
        let stored: Query = serde_json::from_str(&order.request)
            .map_err(|why| invalid(format!("cannot read the request that was kept: {why}")))?;
        let query = run_instances::ready(stored, |text| order.fill_in(text)).map_err(invalid)?;
        let answer: Result<Launched, CallError> = self.client.call(&query).await;
        match answer {
            Ok(launched) => self.accepted(&order.launch, launched.instances_set.item).await,
            Err(error) if error.class == ErrorClass::Settle => {
                self.settle(&order.launch, error).await
            }
            Err(error) => Err(self.refused(&order.launch, error).await),
        }
    }

    /// What the answer to a launch says: an instance, or one that has ended at once.
    async fn accepted(
        &self,
        launch: &LaunchId,
        instances: Vec<Instance>,
    ) -> Result<CloudId, LaunchError> {
        match instances.into_iter().next() {
            Some(instance) if state_of(&instance) == MachineState::Ended => Err(LaunchError {
                sentence: ended_because(&instance)
                    .unwrap_or_else(|| format!("{} ended at once", instance.instance_id)),
                failure: LaunchFailure::Other,
            }),
            Some(instance) => Ok(CloudId(instance.instance_id)),
            None => {
                let error = CallError::unreadable("RunInstances", "it names no instance");
                self.settle(launch, error).await
            }
        }
    }

    /// Finds what a token started, when the call itself does not say.
    async fn settle(&self, launch: &LaunchId, error: CallError) -> Result<CloudId, LaunchError> {
        let found = self.by_token(launch).await.map_err(launch_error)?;
        match found {
            Some(instance) => Ok(CloudId(instance.instance_id)),
            None => Err(launch_error(error)),
        }
    }

    /// The instance that a launch's token started, if it is to be seen yet.
    async fn by_token(&self, launch: &LaunchId) -> Result<Option<Instance>, CallError> {
        let query =
            Query::new("DescribeInstances").with_filter(1, "client-token", &[launch.as_str()]);
        let page: InstancesPage = self.client.call(&query).await?;
        Ok(instances_of(page).next())
    }

    async fn terminate_now(
        &self,
        launch: &LaunchId,
        cloud_id: Option<CloudId>,
    ) -> Result<Ending, String> {
        let id = match cloud_id {
            Some(id) => id.0,
            // The call that started it may have been lost, or not have been seen everywhere yet.
            None => match self.by_token(launch).await.map_err(|error| error.sentence)? {
                Some(instance) => instance.instance_id,
                None => return Ok(Ending::NotSeen),
            },
        };
        // One id in each call: one that is not known would spoil it for all others.
        let query = Query::new("TerminateInstances").with_list("InstanceId", [id.as_str()]);
        match self.client.call::<serde::de::IgnoredAny>(&query).await {
            Ok(_) => Ok(Ending::UnderWay),
            Err(error) if error.class == ErrorClass::NotFound => Ok(Ending::NotSeen),
            Err(error) => Err(error.sentence),
        }
    }

    /// Everything of this master and pool, in whatever state; EC2 shows what has ended for an hour.
    async fn list_now(&self) -> Result<Vec<Machine>, CallError> {
        let query = Query::new("DescribeInstances")
            .with_filter(1, &format!("tag:{}", run_instances::TAG_MASTER), &[&self.master])
            .with_filter(2, &format!("tag:{}", run_instances::TAG_POOL), &[self.pool.as_str()])
            .with("MaxResults", PAGE);
        let mut machines = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let query = query.clone().with_opt("NextToken", next.as_deref());
            let mut page: InstancesPage = self.client.call(&query).await?;
            next = page.next_token.take().filter(|token| !token.is_empty());
            machines.extend(instances_of(page).filter_map(|instance| machine(&instance)));
            if next.is_none() {
                return Ok(machines);
            }
        }
        Err(CallError::unreadable("DescribeInstances", "its pages do not end"))
    }

    /// The image that a launch is to use now.
    async fn image(&self) -> Result<FoundImage, CallError> {
        let query = Query::new("DescribeImages");
        let query = match &self.settings.image {
            Image::Id(id) => query.with_list("ImageId", [id.as_str()]),
            Image::Newest { owners, name } => query
                .with_list("Owner", owners.iter().map(String::as_str))
                .with_filter(1, "name", &[name])
                .with_filter(2, "state", &["available"]),
        };
        let found: Images = self.client.call(&query).await?;
        newest(found.images_set.item).ok_or_else(|| CallError {
            class: ErrorClass::Invalid,
            code: String::new(),
            sentence: match &self.settings.image {
                Image::Id(id) => format!("EC2 knows no image {id} in {}", self.settings.region),
                Image::Newest { owners, name } => format!(
                    "no image in {} has a name like \"{name}\" and an owner of {}",
                    self.settings.region,
                    owners.join(", ")
                ),
            },
        })
    }

    async fn console_now(&self, cloud_id: &CloudId) -> Result<String, String> {
        // The newest there is, of what can give it; else what was posted last.
        let query = Query::new("GetConsoleOutput").with("InstanceId", cloud_id.as_str());
        let newest = self.client.call::<Console>(&query.clone().with("Latest", "true")).await;
        let console = match newest {
            Ok(console) => console,
            Err(_) => self.client.call(&query).await.map_err(|error| error.sentence)?,
        };
        let coded: String = console.output.unwrap_or_default().split_whitespace().collect();
        let bytes = STANDARD.decode(coded);
        let bytes = bytes.map_err(|why| format!("the console output is not base64: {why}"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Provisioner for Ec2Provisioner {
    fn prepare(&self, order: PrepareOrder) -> Call<'_, Result<Prepared, LaunchError>> {
        Box::pin(self.prepare_now(order))
    }

    fn launch(&self, order: LaunchOrder) -> Call<'_, Result<CloudId, LaunchError>> {
        Box::pin(self.launch_now(order))
    }

    fn terminate(
        &self,
        launch: LaunchId,
        cloud_id: Option<CloudId>,
    ) -> Call<'_, Result<Ending, String>> {
        Box::pin(async move { self.terminate_now(&launch, cloud_id).await })
    }

    fn list(&self) -> Call<'_, Result<Vec<Machine>, String>> {
        Box::pin(async move { self.list_now().await.map_err(|error| error.sentence) })
    }

    fn console(&self, _launch: LaunchId, cloud_id: CloudId) -> Call<'_, Result<String, String>> {
        Box::pin(async move { self.console_now(&cloud_id).await })
    }
}

fn instances_of(page: InstancesPage) -> impl Iterator<Item = Instance> {
    page.reservation_set.item.into_iter().flat_map(|reservation| reservation.instances_set.item)
}

/// An instance as the domain sees it; nothing where it does not carry a launch.
fn machine(instance: &Instance) -> Option<Machine> {
    let launch = instance.tag(run_instances::TAG_LAUNCH)?;
    let state = state_of(instance);
    Some(Machine {
        cloud_id: CloudId(instance.instance_id.clone()),
        launch: LaunchId::from(launch),
        state,
        reason: (state != MachineState::Running).then(|| ended_because(instance)).flatten(),
    })
}

/// A state that we do not know is a machine that one pays for.
fn state_of(instance: &Instance) -> MachineState {
    match instance.instance_state.name.as_str() {
        "pending" => MachineState::Starting,
        "shutting-down" => MachineState::Ending,
        "stopping" | "stopped" => MachineState::Stopped,
        "terminated" => MachineState::Ended,
        _ => MachineState::Running,
    }
}

/// EC2's reason for an end; its message repeats the code.
fn ended_because(instance: &Instance) -> Option<String> {
    let reason = instance.state_reason.as_ref()?;
    let said = if reason.message.is_empty() { &reason.code } else { &reason.message };
    match reason.code.as_str() {
        "" => None,
        "Client.InstanceInitiatedShutdown" => Some("the machine shut itself down".to_owned()),
        "Client.UserInitiatedShutdown" => None,
        _ => Some(format!("EC2 ended it: {said}")),
    }
}

/// The image that was made last. Dates are RFC 3339 in UTC, so their order is that of their text.
fn newest(images: Vec<FoundImage>) -> Option<FoundImage> {
    images.into_iter().max_by(|one, other| {
        (&one.creation_date, &one.image_id).cmp(&(&other.creation_date, &other.image_id))
    })
}

/// What a failed call means for a launch.
fn launch_error(error: CallError) -> LaunchError {
    let failure = match error.class {
        ErrorClass::Capacity => LaunchFailure::Capacity,
        ErrorClass::Unsupported => LaunchFailure::Unsupported,
        ErrorClass::Quota => LaunchFailure::Quota,
        ErrorClass::Denied | ErrorClass::Expired => LaunchFailure::Denied,
        ErrorClass::Invalid | ErrorClass::NotFound => LaunchFailure::Invalid,
        ErrorClass::Throttled | ErrorClass::Transient | ErrorClass::Settle => {
            LaunchFailure::Unsettled
        }
        ErrorClass::Gone => LaunchFailure::Other,
    };
    LaunchError { sentence: error.sentence, failure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::provisioner::ec2::answers::Items;
    use crate::master::provisioner::ec2::answers::State;
    use crate::master::provisioner::ec2::answers::StateReason;
    use crate::master::provisioner::ec2::answers::Tag;

    fn instance(state: &str, reason: Option<&str>) -> Instance {
        let (key, value) = ("busybee:launch".to_owned(), "L1".to_owned());
        Instance {
            instance_id: "i-1".to_owned(),
            instance_state: State { name: state.to_owned() },
            state_reason: reason.map(|code| StateReason {
                code: code.to_owned(),
                message: format!("{code}: so it is"),
            }),
            tag_set: Items { item: vec![Tag { key, value }] },
        }
    }

    #[test]
    fn a_state_that_nobody_has_heard_of_is_one_that_costs_money() {
        assert_eq!(state_of(&instance("hibernating", None)), MachineState::Running);
        assert_eq!(state_of(&instance("terminated", None)), MachineState::Ended);
    }

    #[test]
    fn an_end_is_told_with_ec2s_own_reason() {
        let spot = instance("terminated", Some("Server.SpotInstanceTermination"));
        let reason = machine(&spot).and_then(|machine| machine.reason);
        let told = "EC2 ended it: Server.SpotInstanceTermination: so it is";
        assert_eq!(reason.as_deref(), Some(told));
        let own = instance("terminated", Some("Client.InstanceInitiatedShutdown"));
        let reason = machine(&own).and_then(|machine| machine.reason);
        assert_eq!(reason.as_deref(), Some("the machine shut itself down"));
    }

    #[test]
    fn what_carries_no_launch_is_none_of_ours() {
        let mut foreign = instance("running", None);
        foreign.tag_set.item.clear();
        assert_eq!(machine(&foreign), None);
    }
}
