//! EC2's answers about what belongs to an instance beside itself: its address, its volumes, its groups.
//! Names are the API's own.

use serde::Deserialize;

use crate::master::provisioner::ec2::answers::Items;
use crate::master::provisioner::ec2::answers::State;

/// `DescribeAddresses`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Addresses {
    #[serde(default)]
    pub(super) addresses_set: Items<Address>,
}

/// An elastic IP.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Address {
    #[serde(default)]
    pub(super) public_ip: String,
    #[serde(default)]
    pub(super) allocation_id: String,
    association_id: Option<String>,
    instance_id: Option<String>,
    network_interface_id: Option<String>,
}

impl Address {
    /// Who has it: an instance, else a network card; nothing: nobody.
    pub(super) fn holder(&self) -> Option<&str> {
        let is_named = |id: &&String| !id.is_empty();
        self.association_id.as_ref().filter(is_named)?;
        let instance = self.instance_id.as_ref().filter(is_named);
        let holder = instance.or(self.network_interface_id.as_ref().filter(is_named));
        Some(holder.map_or("somebody", String::as_str))
    }

    /// Whether this card has it.
    pub(super) fn is_on(&self, instance: &str, card: Option<&str>) -> bool {
        self.holder() == Some(instance)
            || (card.is_some() && self.network_interface_id.as_deref() == card)
    }
}

/// `DescribeVolumes`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Volumes {
    #[serde(default)]
    pub(super) volume_set: Items<Volume>,
}

/// A volume.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Volume {
    pub(super) volume_id: String,
    #[serde(default)]
    pub(super) availability_zone: String,
    /// `creating`, `available`, `in-use`, `error`, …
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) attachment_set: Items<Attachment>,
}

impl Volume {
    /// Who has it, and how far that is; a volume that is being let go of has a holder still.
    pub(super) fn attachment(&self) -> Option<&Attachment> {
        self.attachment_set.item.iter().find(|attachment| attachment.status != "detached")
    }
}

/// Where a volume is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attachment {
    #[serde(default)]
    pub(super) instance_id: String,
    /// `attaching`, `attached`, `detaching`, `busy`.
    #[serde(default)]
    pub(super) status: String,
}

/// `DescribeInstances`, for the instance's cards.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WithCards {
    #[serde(default)]
    reservation_set: Items<ReservationWithCards>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReservationWithCards {
    #[serde(default)]
    instances_set: Items<InstanceWithCards>,
}

/// An instance with its network cards.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstanceWithCards {
    pub(super) instance_state: State,
    #[serde(default)]
    network_interface_set: Items<Card>,
}

/// A network card.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Card {
    #[serde(default)]
    network_interface_id: String,
}

impl WithCards {
    /// The one instance that was asked for.
    pub(super) fn into_instance(self) -> Option<InstanceWithCards> {
        let reservations = self.reservation_set.item.into_iter();
        reservations.flat_map(|reservation| reservation.instances_set.item).next()
    }
}

impl InstanceWithCards {
    /// The card that its launch made: our instances have one.
    pub(super) fn card(&self) -> Option<&str> {
        let cards = self.network_interface_set.item.iter();
        cards.map(|card| card.network_interface_id.as_str()).find(|id| !id.is_empty())
    }
}

/// `DescribeSecurityGroups`, by name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NamedGroups {
    #[serde(default)]
    pub(super) security_group_info: Items<NamedGroup>,
}

/// One security group.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NamedGroup {
    pub(super) group_id: String,
    #[serde(default)]
    pub(super) group_name: String,
    #[serde(default)]
    pub(super) vpc_id: String,
}

/// `DescribeSubnets`, for what a subnet binds an instance to.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SubnetPlaces {
    #[serde(default)]
    pub(super) subnet_set: Items<SubnetPlace>,
}

/// Where a subnet is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SubnetPlace {
    #[serde(default)]
    pub(super) subnet_id: String,
    #[serde(default)]
    pub(super) availability_zone: String,
    #[serde(default)]
    pub(super) vpc_id: String,
    #[serde(default)]
    ipv6_cidr_block_association_set: Items<serde::de::IgnoredAny>,
}

impl SubnetPlace {
    /// Whether its instances can have an IPv6 address.
    pub(super) fn has_ipv6(&self) -> bool {
        !self.ipv6_cidr_block_association_set.item.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_who_has_it() {
        let text = r#"<DescribeAddressesResponse><addressesSet>
            <item><publicIp>203.0.113.7</publicIp><allocationId>eipalloc-1</allocationId>
              <domain>vpc</domain><instanceId/></item>
            <item><publicIp>203.0.113.8</publicIp><allocationId>eipalloc-2</allocationId>
              <instanceId>i-1</instanceId><associationId>eipassoc-1</associationId>
              <networkInterfaceId>eni-1</networkInterfaceId></item>
            <item><publicIp>203.0.113.9</publicIp><allocationId>eipalloc-3</allocationId>
              <associationId>eipassoc-2</associationId>
              <networkInterfaceId>eni-2</networkInterfaceId></item>
          </addressesSet></DescribeAddressesResponse>"#;
        let found: Addresses = quick_xml::de::from_str(text).expect("it is what EC2 sends");
        let found = found.addresses_set.item;
        assert_eq!(found[0].holder(), None);
        assert_eq!(found[1].holder(), Some("i-1"));
        assert_eq!(found[2].holder(), Some("eni-2"));
        assert!(found[1].is_on("i-1", None) && found[2].is_on("i-9", Some("eni-2")));
        assert!(!found[0].is_on("i-1", Some("eni-1")) && !found[1].is_on("i-9", Some("eni-2")));
    }

    #[test]
    fn a_volume_says_where_it_is_and_who_has_it() {
        let text = r#"<DescribeVolumesResponse><volumeSet>
            <item><volumeId>vol-1</volumeId><availabilityZone>eu-west-1a</availabilityZone>
              <status>in-use</status><attachmentSet><item><volumeId>vol-1</volumeId>
              <instanceId>i-1</instanceId><device>/dev/sdf</device><status>attached</status>
              </item></attachmentSet></item>
            <item><volumeId>vol-2</volumeId><status>available</status><attachmentSet/></item>
          </volumeSet></DescribeVolumesResponse>"#;
        let found: Volumes = quick_xml::de::from_str(text).expect("it is what EC2 sends");
        let found = found.volume_set.item;
        let holder = found[0].attachment().map(|attachment| attachment.instance_id.as_str());
        assert_eq!((holder, found[0].availability_zone.as_str()), (Some("i-1"), "eu-west-1a"));
        assert!(found[1].attachment().is_none());
    }

    #[test]
    fn an_instance_says_by_which_card_it_is_reached() {
        let text = r#"<DescribeInstancesResponse><reservationSet><item><instancesSet><item>
            <instanceId>i-1</instanceId><instanceState><code>0</code><name>pending</name>
            </instanceState><networkInterfaceSet><item><networkInterfaceId>eni-1
            </networkInterfaceId></item></networkInterfaceSet></item></instancesSet></item>
            </reservationSet></DescribeInstancesResponse>"#;
        let found: WithCards = quick_xml::de::from_str(text).expect("it is what EC2 sends");
        let instance = found.into_instance().expect("there is one");
        assert_eq!(instance.card().map(str::trim), Some("eni-1"));
    }
}
