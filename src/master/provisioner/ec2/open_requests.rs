//! Requests for spot instances that stay open though the launch was refused: EC2 would fulfil them later,
//! when nobody waits any more.

use crate::master::domain::event::LaunchFailure;
use crate::master::provisioner::LaunchError;
use crate::master::provisioner::ec2::Ec2Provisioner;
use crate::master::provisioner::ec2::answers::SpotRequestsPage;
use crate::master::provisioner::ec2::error::CallError;
use crate::master::provisioner::ec2::error::ErrorClass;
use crate::master::provisioner::ec2::invalid;
use crate::master::provisioner::ec2::launch_error;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::run_instances;
use crate::master::provisioner::ec2::settings::Image;
use crate::model::ids::LaunchId;

/// The refusal that leaves its request open (EC2 API reference, "Error codes").
const LEAVES_A_REQUEST: &str = "SpotMaxPriceTooLow";

impl Ec2Provisioner {
    /// What a refusal means, when nothing is left of the launch. Where that cannot be made sure, the
    /// outcome counts as unknown: the same launch is tried again before any other.
    pub(super) async fn refused(&self, launch: &LaunchId, error: CallError) -> LaunchError {
        if error.class == ErrorClass::BadImage && matches!(self.settings.image, Image::Id(_)) {
            return invalid(error.sentence);
        }
        if error.code != LEAVES_A_REQUEST {
            return launch_error(error);
        }
        match self.cancel_what_is_open(launch).await {
            Ok(()) => launch_error(error),
            Err(why) => LaunchError {
                sentence: format!("{error}; and its open request cannot be cancelled: {why}"),
                failure: LaunchFailure::Unsettled,
            },
        }
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
