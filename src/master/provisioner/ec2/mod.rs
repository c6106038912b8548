//! Adapter: machines that are EC2 instances.
//!
//! A launch is resolved first (which image is the newest now?), its whole request is remembered, and
//! only then it is sent, with the launch as its ClientToken: the same request again starts no second
//! instance. What is ours is known by its tags.

mod answers;
mod belongings;
pub mod budget;
mod causes;
mod client;
mod credentials;
mod disks;
pub mod doctor;
mod equip;
mod error;
mod kept;
mod listing;
pub mod marked;
mod open_requests;
pub mod prices;
mod query;
mod run_instances;
pub mod settings;
mod spot_prices;
mod stop_and_start;
mod surroundings;

pub use crate::master::provisioner::ec2::client::Patience;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tracing::error;

use crate::master::domain::decision::Urgency;
use crate::master::domain::event::LaunchFailure;
use crate::master::domain::event::Machine;
use crate::master::domain::event::MachineState;
use crate::master::provisioner::Call;
use crate::master::provisioner::Ending;
use crate::master::provisioner::EquipOrder;
use crate::master::provisioner::LaunchError;
use crate::master::provisioner::LaunchOrder;
use crate::master::provisioner::PrepareOrder;
use crate::master::provisioner::Prepared;
use crate::master::provisioner::Provisioner;
use crate::master::provisioner::StopError;
use crate::master::provisioner::ec2::answers::Console;
use crate::master::provisioner::ec2::answers::FoundImage;
use crate::master::provisioner::ec2::answers::Images;
use crate::master::provisioner::ec2::answers::Instance;
use crate::master::provisioner::ec2::answers::InstancesPage;
use crate::master::provisioner::ec2::answers::Launched;
use crate::master::provisioner::ec2::budget::Budgets;
use crate::master::provisioner::ec2::client::Client;
use crate::master::provisioner::ec2::credentials::CredentialsFrom;
use crate::master::provisioner::ec2::equip::Belongings;
use crate::master::provisioner::ec2::error::CallError;
use crate::master::provisioner::ec2::error::ErrorClass;
use crate::master::provisioner::ec2::kept::Kept;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::run_instances::Facts;
use crate::master::provisioner::ec2::settings::Candidate;
use crate::master::provisioner::ec2::settings::Ec2Settings;
use crate::master::provisioner::ec2::settings::Image;
use crate::master::provisioner::ec2::spot_prices::SpotPrices;
use crate::model::ids::CloudId;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::money::Money;

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
    /// The pools of the file, where those are known: what carries another's mark is not ours.
    pools: Vec<PoolName>,
    spot_prices: SpotPrices,
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
        let (pools, spot_prices) = (Vec::new(), SpotPrices::default());
        Ok(Ec2Provisioner { client, settings, candidates, master, pool, pools, spot_prices })
    }

    /// One of these pools of its master, which share what their accounts may call. What carries the
    /// mark of a pool that is none of them is found as well, and so is ended.
    #[must_use]
    pub fn among(self, pools: &[PoolName], budgets: &Budgets) -> Ec2Provisioner {
        let client = self.client.clone().within(budgets.of(&self.settings));
        Ec2Provisioner { client, pools: pools.to_vec(), ..self }
    }

    /// With another patience than EC2 itself needs: for stand-ins on this computer.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Ec2Provisioner {
        Ec2Provisioner { client: self.client.with_patience(patience), ..self }
    }

    async fn prepare_now(&self, order: PrepareOrder) -> Result<Prepared, LaunchError> {
        let candidate = self.candidates.get(order.candidate as usize);
        let candidate = candidate.or(self.candidates.first()).ok_or_else(|| LaunchError {
            sentence: format!("pool \"{}\" names no instance type", self.pool),
            failure: LaunchFailure::Invalid,
        })?;
        let image = self.image_for(&candidate.instance_type).await;
        let image = image.map_err(|error| match error.class {
            // It was looked up just now.
            ErrorClass::BadImage => invalid(error.sentence),
            _ => launch_error(error),
        })?;
        let Belongings { equipment, zone, names } = self.belongings(order.seat).await?;
        let surroundings = self.surroundings(candidate, zone).await?;
        let query = run_instances::request(&Facts {
            settings: &self.settings,
            candidate,
            image: &image,
            groups: &surroundings.groups,
            zone: surroundings.zone.as_deref(),
            master: &self.master,
            pool: &self.pool,
            launch: &order.launch,
            worker: &order.worker,
            expires_at: order.expires_at,
            user_data: &order.user_data,
        });
        let request = Kept::new(query, equipment).write();
        let request =
            request.map_err(|sentence| LaunchError { sentence, failure: LaunchFailure::Other })?;
        let what = std::iter::once(format!("{candidate}, {}", image.image_id)).chain(names);
        let what = what.collect::<Vec<_>>().join(", ");
        let price_per_hour = self.price_per_hour(candidate).await;
        Ok(Prepared { request, what, price_per_hour })
    }

    /// What an hour of a candidate costs as things stand. Spot is never dearer than the list, and that is
    /// taken where EC2 does not say.
    async fn price_per_hour(&self, candidate: &Candidate) -> Option<Money> {
        let settings = &self.settings;
        let listed = settings.prices.per_hour(&settings.region, &candidate.instance_type);
        if !candidate.is_spot {
            return listed;
        }
        let price = self.spot_prices.per_hour(&self.client, candidate).await.or(listed);
        let most = settings.max_price.as_deref().and_then(|price| Money::parse(price).ok());
        price.map(|price| most.map_or(price, |most| price.min(most))).or(most)
    }

    async fn launch_now(&self, order: LaunchOrder) -> Result<CloudId, LaunchError> {
        let (stored, _) = Kept::read(&order.request).map_err(invalid)?.into_parts();
        let query = run_instances::ready(stored, |text| order.fill_in(text)).map_err(invalid)?;
        let answer: Result<Launched, CallError> = self.client.call(&query).await;
        match answer {
            Ok(launched) => self.accepted(&order.launch, launched.instances_set.item).await,
            Err(error) => match error.class {
                ErrorClass::Settle => {
                    // The request is kept so that this cannot be.
                    error!("a mistake of busybee's own: {error}");
                    self.settle(&order.launch, error).await
                }
                // The call may have been carried out all the same.
                ErrorClass::Transient => self.settle(&order.launch, error).await,
                ErrorClass::BadImage if matches!(self.settings.image, Image::Id(_)) => {
                    Err(invalid(error.sentence))
                }
                _ => self.refused(&order.launch, error).await,
            },
        }
    }

    /// The same request as a launch's, dry: it proves that we may, not that there is room.
    async fn probe_now(&self, order: PrepareOrder) -> Result<(), LaunchError> {
        let prepared = self.prepare_now(order).await?;
        let stored: Query = serde_json::from_str(&prepared.request)
            .map_err(|why| invalid(format!("cannot read a request that was just made: {why}")))?;
        let query = run_instances::ready(stored, str::to_owned).map_err(invalid)?;
        let dry = query.with("DryRun", "true");
        match self.client.call::<serde::de::IgnoredAny>(&dry).await {
            Ok(_) => Ok(()),
            Err(error) if error.code == doctor::WOULD_WORK => Ok(()),
            Err(error) => Err(launch_error(error)),
        }
    }

    /// What the answer to a launch says: an instance, or one that has ended at once.
    async fn accepted(
        &self,
        launch: &LaunchId,
        instances: Vec<Instance>,
    ) -> Result<CloudId, LaunchError> {
        match instances.into_iter().next() {
            Some(instance) => found(instance),
            None => {
                let error = CallError::unreadable("RunInstances", "it names no instance");
                self.settle(launch, error).await
            }
        }
    }

    /// Finds what a token started, when the call itself does not say.
    async fn settle(&self, launch: &LaunchId, error: CallError) -> Result<CloudId, LaunchError> {
        match self.by_token(launch).await {
            Ok(Some(instance)) => found(instance),
            Ok(None) | Err(_) => Err(launch_error(error)),
        }
    }

    /// The instance that a launch's token started, if it is to be seen yet.
    async fn by_token(&self, launch: &LaunchId) -> Result<Option<Instance>, CallError> {
        // One that an older version sent was the launch alone.
        let token = run_instances::token(&self.master, launch);
        let tokens = [token.as_str(), launch.as_str()];
        let query = Query::new("DescribeInstances").with_filter(1, "client-token", &tokens);
        let page: InstancesPage = self.client.call(&query).await?;
        Ok(instances_of(page).next())
    }

    async fn terminate_now(
        &self,
        launch: &LaunchId,
        cloud_id: Option<CloudId>,
        urgency: Urgency,
    ) -> Result<Ending, String> {
        if cloud_id.is_none() {
            // The pool may have been one of spot instances when this was asked for.
            match self.cancel_what_is_open(launch).await {
                Err(why) if why.class == ErrorClass::Denied && !self.uses_spot() => {}
                cancelled => cancelled.map_err(|error| error.sentence)?,
            }
        }
        let id = match cloud_id {
            Some(id) => id.0,
            // The call that started it may have been lost, or not have been seen everywhere yet; or it
            // waits for room on the spot market, and would come when nobody wants it any more.
            None => match self.by_token(launch).await.map_err(|error| error.sentence)? {
                Some(instance) => instance.instance_id,
                None => return Ok(Ending::NotSeen),
            },
        };
        // One id in each call: one that is not known would spoil it for all others.
        let query = Query::new("TerminateInstances").with_list("InstanceId", [id.as_str()]);
        match self.client.call::<serde::de::IgnoredAny>(&with_urgency(query, urgency)).await {
            Ok(_) => Ok(Ending::UnderWay),
            Err(error) => match error.class {
                ErrorClass::NotFound => Ok(Ending::NotSeen),
                ErrorClass::Denied | ErrorClass::Invalid => Ok(Ending::Refused(error.sentence)),
                _ => Err(error.sentence),
            },
        }
    }

    /// The image that the most preferred way to launch is to use now.
    async fn image(&self) -> Result<FoundImage, CallError> {
        let first = self.candidates.first().map(|candidate| candidate.instance_type.as_str());
        self.image_for(first.unwrap_or_default()).await
    }

    /// The image that a launch of this type is to use now.
    async fn image_for(&self, instance_type: &str) -> Result<FoundImage, CallError> {
        let query = Query::new("DescribeImages");
        let query = match &self.settings.image {
            Image::Id(id) => query.with_list("ImageId", [id.as_str()]),
            Image::Newest { owners, name } => query
                .with_list("Owner", owners.iter().map(String::as_str))
                .with_filter(1, "name", &[name])
                .with_filter(2, "state", &["available"]),
        };
        let found: Images = self.client.call(&query).await?;
        newest(found.images_set.item, architecture_of(instance_type)).ok_or_else(|| CallError {
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

    fn probe(&self, order: PrepareOrder) -> Call<'_, Result<(), LaunchError>> {
        Box::pin(self.probe_now(order))
    }

    fn equip(&self, order: EquipOrder) -> Call<'_, Result<(), LaunchError>> {
        Box::pin(async move { self.equip_now(&order).await })
    }

    fn terminate_by(
        &self,
        launch: LaunchId,
        cloud_id: Option<CloudId>,
        urgency: Urgency,
    ) -> Call<'_, Result<Ending, String>> {
        Box::pin(async move { self.terminate_now(&launch, cloud_id, urgency).await })
    }

    fn stop(&self, cloud_id: CloudId) -> Call<'_, Result<(), StopError>> {
        Box::pin(async move { self.stop_now(&cloud_id).await })
    }

    fn start(&self, cloud_id: CloudId) -> Call<'_, Result<(), LaunchError>> {
        Box::pin(async move { self.start_now(&cloud_id).await })
    }

    fn list(&self) -> Call<'_, Result<Vec<Machine>, String>> {
        Box::pin(async move { self.list_now().await.map_err(|error| error.sentence) })
    }

    fn open_requests(&self) -> Call<'_, Result<Vec<LaunchId>, String>> {
        Box::pin(async move { self.open_requests_now().await.map_err(|error| error.sentence) })
    }

    fn console(&self, _launch: LaunchId, cloud_id: CloudId) -> Call<'_, Result<String, String>> {
        Box::pin(async move { self.console_now(&cloud_id).await })
    }
}

fn instances_of(page: InstancesPage) -> impl Iterator<Item = Instance> {
    page.reservation_set.item.into_iter().flat_map(|reservation| reservation.instances_set.item)
}

/// What a launch's token has started.
fn found(instance: Instance) -> Result<CloudId, LaunchError> {
    if listing::state_of(&instance) != MachineState::Ended {
        return Ok(CloudId(instance.instance_id));
    }
    let sentence = causes::told(&instance);
    Err(LaunchError {
        sentence: sentence.unwrap_or_else(|| format!("{} ended at once", instance.instance_id)),
        failure: causes::failure_of(causes::cause_of(&instance)),
    })
}

/// `SkipOsShutdown` cuts the power; `Force` does so where a shutdown has begun and hangs (EC2 API
/// reference, "TerminateInstances").
fn with_urgency(query: Query, urgency: Urgency) -> Query {
    match urgency {
        Urgency::Orderly => query,
        Urgency::AtOnce => query.with("SkipOsShutdown", "true"),
        Urgency::Forced => query.with("Force", "true").with("SkipOsShutdown", "true"),
    }
}

fn invalid(sentence: String) -> LaunchError {
    LaunchError { sentence, failure: LaunchFailure::Invalid }
}

/// The image that was made last, of those for this architecture where there is any: a name may stand for
/// several. Dates are RFC 3339 in UTC, so their order is that of their text.
fn newest(images: Vec<FoundImage>, architecture: &str) -> Option<FoundImage> {
    images.into_iter().max_by(|one, other| {
        let key = |image: &FoundImage| image.architecture == architecture;
        (key(one), &one.creation_date, &one.image_id).cmp(&(
            key(other),
            &other.creation_date,
            &other.image_id,
        ))
    })
}

/// What a type's processor is, by its name: a `g` behind the generation is Amazon's own (EC2 user guide,
/// "Naming conventions").
fn architecture_of(instance_type: &str) -> &'static str {
    let family = instance_type.split('.').next().unwrap_or_default();
    let (_, capabilities) = family.split_once(|c: char| c.is_ascii_digit()).unwrap_or_default();
    match family == "a1" || capabilities.contains('g') {
        true => "arm64",
        false => "x86_64",
    }
}

/// What a failed call means for a launch.
fn launch_error(error: CallError) -> LaunchError {
    let failure = match error.class {
        ErrorClass::Capacity => LaunchFailure::Capacity,
        ErrorClass::SubnetFull => LaunchFailure::PlaceFull,
        ErrorClass::Unsupported => LaunchFailure::Unsupported,
        ErrorClass::BadSubnet => LaunchFailure::NoSuchPlace,
        ErrorClass::BadImage => LaunchFailure::ImageGone,
        ErrorClass::SpotQuota => LaunchFailure::SpotQuota,
        ErrorClass::Quota => LaunchFailure::Quota,
        ErrorClass::Limit => LaunchFailure::Limit,
        ErrorClass::Denied | ErrorClass::Expired => LaunchFailure::Denied,
        ErrorClass::Invalid | ErrorClass::NotFound => LaunchFailure::Invalid,
        ErrorClass::Throttled
        | ErrorClass::Transient
        | ErrorClass::Settle
        | ErrorClass::WrongState => LaunchFailure::Unsettled,
        ErrorClass::Gone => LaunchFailure::Other,
    };
    LaunchError { sentence: error.sentence, failure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::provisioner::ec2::answers::Items;

    #[test]
    fn the_power_is_cut_where_nothing_is_trusted_and_forced_where_a_shutdown_hangs() {
        let asked = |urgency| with_urgency(Query::new("TerminateInstances"), urgency);
        assert_eq!(asked(Urgency::Orderly), Query::new("TerminateInstances"));
        assert_eq!(asked(Urgency::AtOnce).get("SkipOsShutdown"), Some("true"));
        assert_eq!(asked(Urgency::AtOnce).get("Force"), None);
        assert_eq!(asked(Urgency::Forced).get("Force"), Some("true"));
    }

    #[test]
    fn the_newest_image_is_one_that_the_type_can_run() {
        let image = |id: &str, date: &str, architecture: &str| FoundImage {
            image_id: id.to_owned(),
            creation_date: date.to_owned(),
            image_state: "available".to_owned(),
            architecture: architecture.to_owned(),
            name: String::new(),
            root_device_name: None,
            block_device_mapping: Items::default(),
        };
        let images = vec![
            image("ami-1", "2026-01-01T00:00:00.000Z", "x86_64"),
            image("ami-2", "2026-02-01T00:00:00.000Z", "x86_64"),
            image("ami-3", "2026-03-01T00:00:00.000Z", "arm64"),
        ];
        let of = |kind: &str| {
            let found = newest(images.clone(), architecture_of(kind));
            found.map(|image| image.image_id).unwrap_or_default()
        };
        for kind in ["c7i.large", "m5dn.xlarge", "g5.xlarge", "t3a.small", "p4d.24xlarge"] {
            assert_eq!(of(kind), "ami-2", "{kind}");
        }
        for kind in ["c7g.large", "t4g.small", "im4gn.large", "g5g.xlarge", "a1.large"] {
            assert_eq!(of(kind), "ami-3", "{kind}");
        }
        let only = newest(images[..1].to_vec(), "arm64").map(|image| image.image_id);
        assert_eq!(only.as_deref(), Some("ami-1"), "a doctor says what is wrong with it");
    }
}
