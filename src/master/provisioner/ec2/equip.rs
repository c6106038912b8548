//! An instance's own address and volumes: chosen before its launch, given to it after.
//!
//! Nothing here makes, releases, detaches or takes away: an address or a volume that somebody else has
//! is an error of the launch, told with who has it.

use std::collections::BTreeSet;

use crate::master::domain::event::LaunchFailure;
use crate::master::domain::event::MachineState;
use crate::master::provisioner::EquipOrder;
use crate::master::provisioner::LaunchError;
use crate::master::provisioner::ec2::Ec2Provisioner;
use crate::master::provisioner::ec2::answers::Instance;
use crate::master::provisioner::ec2::answers::InstancesPage;
use crate::master::provisioner::ec2::belongings::Address;
use crate::master::provisioner::ec2::belongings::Addresses;
use crate::master::provisioner::ec2::belongings::InstanceWithCards;
use crate::master::provisioner::ec2::belongings::Volume;
use crate::master::provisioner::ec2::belongings::Volumes;
use crate::master::provisioner::ec2::belongings::WithCards;
use crate::master::provisioner::ec2::error::ErrorClass;
use crate::master::provisioner::ec2::instances_of;
use crate::master::provisioner::ec2::kept::Equipment;
use crate::master::provisioner::ec2::kept::Kept;
use crate::master::provisioner::ec2::kept::KeptVolume;
use crate::master::provisioner::ec2::launch_error;
use crate::master::provisioner::ec2::listing;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::run_instances;
use crate::master::provisioner::ec2::settings::ElasticIp;
use crate::model::ids::PoolName;

/// What belongs to a seat, and where that binds its instance to.
#[derive(Debug, Default)]
pub(super) struct Belongings {
    pub(super) equipment: Equipment,
    /// The zone of its volumes.
    pub(super) zone: Option<String>,
    /// Its address and volumes, for people.
    pub(super) names: Vec<String>,
}

fn failed(failure: LaunchFailure, sentence: String) -> LaunchError {
    LaunchError { sentence, failure }
}

impl Ec2Provisioner {
    /// What an instance in this seat is to get. Nothing is launched for what somebody else has.
    pub(super) async fn belongings(&self, seat: Option<u32>) -> Result<Belongings, LaunchError> {
        let Some(seat) = seat.and_then(|seat| usize::try_from(seat).ok()) else {
            return Ok(Belongings::default());
        };
        let mut equipment = Equipment::default();
        let mut names = Vec::new();
        if let Some(wanted) = self.settings.elastic_ips.get(seat) {
            let address = self.address(wanted).await?;
            if let Some(holder) = address.holder() {
                return Err(self.taken(&address.public_ip, holder).await);
            }
            names.push(address.public_ip);
            equipment.allocation = Some(address.allocation_id);
        }
        for attached in &self.settings.attached {
            if let Some(id) = attached.volumes.get(seat) {
                let (id, device) = (id.clone(), attached.device.clone());
                names.push(id.clone());
                equipment.volumes.push(KeptVolume { id, device });
            }
        }
        let mut zones = BTreeSet::new();
        for volume in self.volumes(&equipment.volumes).await? {
            if let Some(attachment) = volume.attachment() {
                return Err(self.taken(&volume.volume_id, &attachment.instance_id).await);
            }
            if volume.status == "error" || volume.status.starts_with("delet") {
                let sentence = format!("volume {} is {}", volume.volume_id, volume.status);
                return Err(failed(LaunchFailure::Invalid, sentence));
            }
            zones.insert(volume.availability_zone);
        }
        if zones.len() > 1 {
            let zones: Vec<String> = zones.into_iter().collect();
            let sentence = format!(
                "the volumes of one instance are in {}: no instance is in two zones",
                zones.join(" and ")
            );
            return Err(failed(LaunchFailure::Invalid, sentence));
        }
        Ok(Belongings { equipment, zone: zones.pop_first(), names })
    }

    /// Gives an instance what was chosen for it. The same again changes nothing.
    pub(super) async fn equip_now(&self, order: &EquipOrder) -> Result<(), LaunchError> {
        let kept = Kept::read(&order.request);
        let kept = kept.map_err(|why| failed(LaunchFailure::Invalid, why))?;
        let (_, equipment) = kept.into_parts();
        let id = order.cloud_id.as_str();
        let instance = self.with_cards(id).await?;
        let state = instance.instance_state.name.as_str();
        if !matches!(state, "pending" | "running") {
            let sentence = format!("{id} is {state}, before it had its address and volumes");
            return Err(failed(LaunchFailure::Other, sentence));
        }
        if let Some(allocation) = &equipment.allocation {
            self.associate(allocation, id, &instance).await?;
        }
        for volume in &equipment.volumes {
            // Volumes are taken by an instance that is up alone.
            if state != "running" {
                let sentence = format!("{id} is not up yet");
                return Err(failed(LaunchFailure::Unsettled, sentence));
            }
            self.attach(volume, id).await?;
        }
        Ok(())
    }

    async fn with_cards(&self, id: &str) -> Result<InstanceWithCards, LaunchError> {
        let query = Query::new("DescribeInstances").with_list("InstanceId", [id]);
        let unseen = || failed(LaunchFailure::Unsettled, format!("{id} cannot be seen yet"));
        match self.client.call::<WithCards>(&query).await {
            Ok(page) => page.into_instance().ok_or_else(unseen),
            Err(error) if error.class == ErrorClass::NotFound => Err(unseen()),
            Err(error) => Err(launch_error(error)),
        }
    }

    async fn associate(
        &self,
        allocation: &str,
        id: &str,
        instance: &InstanceWithCards,
    ) -> Result<(), LaunchError> {
        let address = self.address(&ElasticIp::Allocation(allocation.to_owned())).await?;
        if address.is_on(id, instance.card()) {
            return Ok(());
        }
        if let Some(holder) = address.holder() {
            return Err(self.taken(&address.public_ip, holder).await);
        }
        // By its card, which is there before the instance is up: so the address is there before the
        // agent calls.
        let query = Query::new("AssociateAddress").with("AllocationId", allocation);
        let query = match instance.card() {
            Some(card) => query.with("NetworkInterfaceId", card),
            None => query.with("InstanceId", id),
        };
        // Or it would be taken, silently, from whoever has it.
        let query = query.with("AllowReassociation", "false");
        let answer = self.client.call::<serde::de::IgnoredAny>(&query).await;
        answer.map(drop).map_err(launch_error)
    }

    async fn attach(&self, wanted: &KeptVolume, id: &str) -> Result<(), LaunchError> {
        let found = self.volumes(std::slice::from_ref(wanted)).await?;
        let attachment = found.first().and_then(Volume::attachment);
        match attachment.map(|found| (found.instance_id.as_str(), found.status.as_str())) {
            Some((holder, "attached" | "busy")) if holder == id => return Ok(()),
            Some((holder, status)) if holder == id => {
                let sentence = format!("volume {} is {status} to {id}", wanted.id);
                return Err(failed(LaunchFailure::Unsettled, sentence));
            }
            Some((holder, _)) => return Err(self.taken(&wanted.id, holder).await),
            None => {}
        }
        let query = Query::new("AttachVolume")
            .with("VolumeId", &wanted.id)
            .with("InstanceId", id)
            .with("Device", &wanted.device);
        let answer = self.client.call::<Attaching>(&query).await.map_err(launch_error)?;
        match answer.status.as_str() {
            "attached" => Ok(()),
            status => {
                let sentence = format!("volume {} is {status} to {id}", wanted.id);
                Err(failed(LaunchFailure::Unsettled, sentence))
            }
        }
    }

    /// What somebody else has.
    async fn taken(&self, what: &str, holder: &str) -> LaunchError {
        let query = Query::new("DescribeInstances")
            .with_filter(1, &format!("tag:{}", run_instances::TAG_MASTER), &[&self.master])
            .with_filter(2, "instance-id", &[holder]);
        let found = self.client.call::<InstancesPage>(&query).await;
        let found = found.ok().and_then(|page| instances_of(page).next());
        held(format!("{what} is taken by {holder}"), found.as_ref(), &self.pool)
    }

    /// An elastic IP of the account's.
    pub(super) async fn address(&self, wanted: &ElasticIp) -> Result<Address, LaunchError> {
        let query = Query::new("DescribeAddresses");
        let query = match wanted {
            ElasticIp::Address(address) => query.with_list("PublicIp", [&*address.to_string()]),
            ElasticIp::Allocation(id) => query.with_list("AllocationId", [id.as_str()]),
        };
        let found: Addresses = self.client.call(&query).await.map_err(launch_error)?;
        let region = &self.settings.region;
        found.addresses_set.item.into_iter().next().ok_or_else(|| {
            let sentence = format!("the account has no elastic IP {wanted} in {region}");
            failed(LaunchFailure::Invalid, sentence)
        })
    }

    pub(super) async fn volumes(&self, wanted: &[KeptVolume]) -> Result<Vec<Volume>, LaunchError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let ids = wanted.iter().map(|volume| volume.id.as_str());
        let query = Query::new("DescribeVolumes").with_list("VolumeId", ids);
        let found: Volumes = self.client.call(&query).await.map_err(launch_error)?;
        let found = found.volume_set.item;
        match wanted.iter().find(|id| !found.iter().any(|volume| volume.volume_id == id.id)) {
            Some(missing) => {
                let sentence = format!("EC2 knows no volume {}", missing.id);
                Err(failed(LaunchFailure::Invalid, sentence))
            }
            None => Ok(found),
        }
    }
}

/// What follows where an address or a volume is taken; `ours` is its holder, if that is this master's. One
/// that ends lets go of it soon, and one of this pool's is about to end; from others nothing is taken.
fn held(sentence: String, ours: Option<&Instance>, pool: &PoolName) -> LaunchError {
    let Some(holder) = ours else { return failed(LaunchFailure::Other, sentence) };
    let is_ending = match listing::state_of(holder) {
        MachineState::Ending | MachineState::Ended => true,
        MachineState::Starting
        | MachineState::Running
        | MachineState::Stopping
        | MachineState::Stopped => false,
    };
    if is_ending {
        return failed(LaunchFailure::Unsettled, format!("{sentence}, which is ending"));
    }
    match holder.tag(run_instances::TAG_POOL) {
        Some(other) if other != pool.as_str() => {
            failed(LaunchFailure::Other, format!("{sentence} of this master's pool \"{other}\""))
        }
        Some(_) | None => failed(LaunchFailure::Unsettled, format!("{sentence} of this pool")),
    }
}

/// `AttachVolume`
#[derive(Debug, serde::Deserialize)]
struct Attaching {
    #[serde(default)]
    status: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::provisioner::ec2::answers::Items;
    use crate::master::provisioner::ec2::answers::State;
    use crate::master::provisioner::ec2::answers::Tag;

    #[test]
    fn who_has_something_is_said_to_end_only_where_it_does() {
        let told = |state: &str, pool: &str| {
            let (key, value) = (run_instances::TAG_POOL.to_owned(), pool.to_owned());
            let holder = Instance {
                instance_id: "i-1".to_owned(),
                launch_time: None,
                reason: String::new(),
                instance_state: State { name: state.to_owned() },
                state_reason: None,
                client_token: String::new(),
                tag_set: Items { item: vec![Tag { key, value }] },
            };
            let LaunchError { sentence, failure } =
                held("vol-1 is taken by i-1".to_owned(), Some(&holder), &"linux".into());
            (sentence, failure)
        };
        for (state, pool, sentence, failure) in [
            ("shutting-down", "linux", ", which is ending", LaunchFailure::Unsettled),
            ("shutting-down", "arm", ", which is ending", LaunchFailure::Unsettled),
            ("running", "linux", " of this pool", LaunchFailure::Unsettled),
            ("running", "arm", " of this master's pool \"arm\"", LaunchFailure::Other),
        ] {
            let expected = (format!("vol-1 is taken by i-1{sentence}"), failure);
            assert_eq!(told(state, pool), expected, "{state} {pool}");
        }
        let strange = held("vol-1 is taken by i-9".to_owned(), None, &"linux".into());
        assert_eq!(strange.sentence, "vol-1 is taken by i-9");
        assert_eq!(strange.failure, LaunchFailure::Other);
    }
}
