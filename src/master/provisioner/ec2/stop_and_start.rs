//! Stopping an instance and starting it again: its disk stays, and with it the key of its agent.

use crate::master::provisioner::LaunchError;
use crate::master::provisioner::StopError;
use crate::master::provisioner::ec2::Ec2Provisioner;
use crate::master::provisioner::ec2::error::ErrorClass;
use crate::master::provisioner::ec2::launch_error;
use crate::master::provisioner::ec2::query::Query;
use crate::model::ids::CloudId;

impl Ec2Provisioner {
    /// Asks for an instance to stop; a listing will show it stopped. Never for spot: a one-time request
    /// cannot be stopped.
    ///
    /// # Errors
    /// In EC2's own words. In a state in which it cannot be stopped it may not be for long: the listing says, and
    /// meanwhile it is told again.
    pub(super) async fn stop_now(&self, cloud_id: &CloudId) -> Result<(), StopError> {
        let query = Query::new("StopInstances").with_list("InstanceId", [cloud_id.as_str()]);
        let answer = self.client.call::<serde::de::IgnoredAny>(&query).await;
        answer.map(drop).map_err(|error| StopError {
            is_final: !matches!(
                error.class,
                ErrorClass::Throttled
                    | ErrorClass::Transient
                    | ErrorClass::NotFound
                    | ErrorClass::WrongState
                    | ErrorClass::Expired
            ),
            sentence: error.sentence,
        })
    }

    /// Asks for a stopped instance to start. Its user-data does not run again.
    ///
    /// # Errors
    /// As a launch: there may be no room, no quota, no permission.
    pub(super) async fn start_now(&self, cloud_id: &CloudId) -> Result<(), LaunchError> {
        let query = Query::new("StartInstances").with_list("InstanceId", [cloud_id.as_str()]);
        let answer = self.client.call::<serde::de::IgnoredAny>(&query).await;
        answer.map(drop).map_err(launch_error)
    }
}
