//! EC2's answers, as far as we read them. Names are the API's own.

use serde::Deserialize;

/// A list: `<x><item>…</item></x>`; a missing one is empty.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Items<T> {
    #[serde(default = "Vec::new")]
    pub(super) item: Vec<T>,
}

impl<T> Default for Items<T> {
    fn default() -> Items<T> {
        Items { item: Vec::new() }
    }
}

/// `RunInstances`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Launched {
    #[serde(default)]
    pub(super) instances_set: Items<Instance>,
}

/// `DescribeInstances`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstancesPage {
    #[serde(default)]
    pub(super) reservation_set: Items<Reservation>,
    pub(super) next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reservation {
    #[serde(default)]
    pub(super) instances_set: Items<Instance>,
}

/// One instance.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Instance {
    pub(super) instance_id: String,
    pub(super) instance_state: State,
    /// Of its last start.
    #[serde(default)]
    pub(super) launch_time: Option<String>,
    #[serde(default)]
    pub(super) state_reason: Option<StateReason>,
    /// Who caused its last change of state, and mostly when: "User initiated (2026-01-31 23:59:59 GMT)". The
    /// model of the API calls it StateTransitionReason.
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) client_token: String,
    #[serde(default)]
    pub(super) tag_set: Items<Tag>,
}

impl Instance {
    pub(super) fn tag(&self, key: &str) -> Option<&str> {
        tag_of(&self.tag_set.item, key)
    }
}

/// The value of a tag.
pub(super) fn tag_of<'t>(tags: &'t [Tag], key: &str) -> Option<&'t str> {
    tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct State {
    pub(super) name: String,
}

/// Why an instance is in its state.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StateReason {
    #[serde(default)]
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Tag {
    pub(super) key: String,
    #[serde(default)]
    pub(super) value: String,
}

/// `DescribeSpotInstanceRequests`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpotRequestsPage {
    #[serde(default)]
    pub(super) spot_instance_request_set: Items<SpotRequest>,
    pub(super) next_token: Option<String>,
}

/// A request for a spot instance.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpotRequest {
    pub(super) spot_instance_request_id: String,
    #[serde(default)]
    pub(super) state: String,
    #[serde(default)]
    pub(super) tag_set: Items<Tag>,
}

/// `DescribeImages`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Images {
    #[serde(default)]
    pub(super) images_set: Items<FoundImage>,
}

/// One image.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FoundImage {
    pub(super) image_id: String,
    #[serde(default)]
    pub(super) creation_date: String,
    #[serde(default)]
    pub(super) image_state: String,
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(default)]
    pub(super) name: String,
    pub(super) root_device_name: Option<String>,
    #[serde(default)]
    pub(super) block_device_mapping: Items<Device>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) device_name: String,
    pub(super) ebs: Option<Ebs>,
}

/// A disk of an image.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ebs {
    /// GiB.
    pub(super) volume_size: Option<u32>,
}

/// `GetConsoleOutput`
#[derive(Debug, Deserialize)]
pub(super) struct Console {
    /// Base64; what base64 is broken into lines by is left to whoever decodes.
    pub(super) output: Option<String>,
}

/// `DescribeSubnets`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subnets {
    #[serde(default)]
    pub(super) subnet_set: Items<Subnet>,
}

/// One subnet.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subnet {
    pub(super) subnet_id: String,
    #[serde(default)]
    pub(super) vpc_id: String,
    #[serde(default)]
    pub(super) availability_zone: String,
    #[serde(default)]
    pub(super) map_public_ip_on_launch: bool,
    #[serde(default)]
    pub(super) available_ip_address_count: u32,
    /// It has no IPv4 at all.
    #[serde(default)]
    pub(super) ipv6_native: bool,
}

/// `DescribeSpotPriceHistory`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpotPrices {
    #[serde(default)]
    pub(super) spot_price_history_set: Items<SpotPrice>,
}

/// What a type has cost in one zone from some moment on.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpotPrice {
    #[serde(default)]
    pub(super) availability_zone: String,
    /// Dollars per hour.
    #[serde(default)]
    pub(super) spot_price: String,
    #[serde(default)]
    pub(super) timestamp: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_instances_is_read_with_its_tags_and_reasons() {
        let page: InstancesPage = quick_xml::de::from_str(
            r#"<?xml version="1.0" encoding="UTF-8"?>
            <DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
              <requestId>r</requestId>
              <reservationSet><item><reservationId>r-1</reservationId><instancesSet>
                <item><instanceId>i-1</instanceId>
                  <instanceState><code>48</code><name>terminated</name></instanceState>
                  <stateReason><code>Client.InstanceInitiatedShutdown</code><message>m</message></stateReason>
                  <tagSet><item><key>busybee:launch</key><value>L1</value></item></tagSet></item>
                <item><instanceId>i-2</instanceId>
                  <instanceState><code>0</code><name>pending</name></instanceState></item>
              </instancesSet></item></reservationSet>
              <nextToken>more</nextToken>
            </DescribeInstancesResponse>"#,
        )
        .expect("it is what EC2 sends");
        let found = &page.reservation_set.item[0].instances_set.item;
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].tag("busybee:launch"), Some("L1"));
        assert_eq!(found[1].tag("busybee:launch"), None);
        assert_eq!(page.next_token.as_deref(), Some("more"));
    }

    #[test]
    fn an_empty_list_is_a_list() {
        let page: InstancesPage = quick_xml::de::from_str(
            "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>",
        )
        .expect("it is what EC2 sends");
        assert!(page.reservation_set.item.is_empty());
    }
}
