//! Requests for spot instances that stay open though the launch was refused: EC2 would fulfil them later,
//! when nobody waits any more.

use crate::master::domain::event::LaunchFailure;
use crate::master::provisioner::LaunchError;
use crate::master::provisioner::ec2::Ec2Provisioner;
use crate::master::provisioner::ec2::answers::SpotRequest;
use crate::master::provisioner::ec2::answers::SpotRequestsPage;
use crate::master::provisioner::ec2::answers::tag_of;
use crate::master::provisioner::ec2::error::CallError;
use crate::master::provisioner::ec2::found;
use crate::master::provisioner::ec2::launch_error;
use crate::master::provisioner::ec2::listing;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::run_instances;
use crate::master::provisioner::ec2::settings::Market;
use crate::model::ids::CloudId;
use crate::model::ids::LaunchId;

/// The refusal that leaves its request open (EC2 API reference, "Error codes").
const LEAVES_A_REQUEST: &str = "SpotMaxPriceTooLow";

impl Ec2Provisioner {
    /// What a refusal means, when nothing is left of the launch; or the instance that its request had brought
    /// before it was cancelled. Where that cannot be made sure, the outcome counts as unknown: the same launch
    /// is tried again before any other.
    pub(super) async fn refused(
        &self,
        launch: &LaunchId,
        error: CallError,
    ) -> Result<CloudId, LaunchError> {
        if error.code != LEAVES_A_REQUEST {
            return Err(launch_error(error));
        }
        let settled = match self.cancel_what_is_open(launch).await {
            Ok(()) => self.by_token(launch).await,
            Err(why) => Err(why),
        };
        match settled {
            Ok(Some(instance)) => found(instance),
            Ok(None) => Err(launch_error(error)),
            Err(why) => Err(LaunchError {
                sentence: format!("{error}; and what its open request came to is not known: {why}"),
                failure: LaunchFailure::Unsettled,
            }),
        }
    }

    /// The launches of this pool of which a request is open.
    pub(super) async fn open_requests_now(&self) -> Result<Vec<LaunchId>, CallError> {
        if !self.uses_spot() {
            return Ok(Vec::new());
        }
        let query = Query::new("DescribeSpotInstanceRequests")
            .with_filter(1, &format!("tag:{}", run_instances::TAG_MASTER), &[&self.master])
            .with_filter(2, "state", &["open"]);
        let page: SpotRequestsPage = self.client.call(&query).await?;
        let ours = page.spot_instance_request_set.item.into_iter().filter(|request| {
            let pool = tag_of(&request.tag_set.item, run_instances::TAG_POOL);
            listing::is_ours(pool, &self.pool, &self.pools)
        });
        let launch = |request: SpotRequest| {
            tag_of(&request.tag_set.item, run_instances::TAG_LAUNCH).map(LaunchId::from)
        };
        Ok(ours.filter_map(launch).collect())
    }

    pub(super) fn uses_spot(&self) -> bool {
        self.settings.market != Market::OnDemand
    }

    pub(super) async fn cancel_what_is_open(&self, launch: &LaunchId) -> Result<(), CallError> {
        let query = Query::new("DescribeSpotInstanceRequests")
            .with_filter(1, &format!("tag:{}", run_instances::TAG_LAUNCH), &[launch.as_str()])
            .with_filter(2, "state", &["open"]);
        let page: SpotRequestsPage = self.client.call(&query).await?;
        let open = page.spot_instance_request_set.item;
        if open.is_empty() {
            return Ok(());
        }
        let ids = open.iter().map(|request| request.spot_instance_request_id.as_str());
        self.client.call::<serde::de::IgnoredAny>(&cancel(ids)).await.map(drop)
    }
}

/// Cancels requests; an instance that one of them has brought already stays.
pub(super) fn cancel<'i>(ids: impl IntoIterator<Item = &'i str>) -> Query {
    Query::new("CancelSpotInstanceRequests").with_list("SpotInstanceRequestId", ids)
}
