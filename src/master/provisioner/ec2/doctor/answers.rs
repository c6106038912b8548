//! EC2's answers that only the doctor reads. Names are the API's own.

use serde::Deserialize;

use crate::master::provisioner::ec2::answers::Items;

/// `DescribeRouteTables`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RouteTables {
    #[serde(default)]
    pub(super) route_table_set: Items<RouteTable>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RouteTable {
    pub(super) route_table_id: String,
    #[serde(default)]
    pub(super) vpc_id: String,
    #[serde(default)]
    pub(super) route_set: Items<Route>,
    #[serde(default)]
    pub(super) association_set: Items<TableAssociation>,
}

/// Where to go with what has this destination. One of the targets is there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Route {
    pub(super) destination_cidr_block: String,
    pub(super) destination_ipv6_cidr_block: String,
    /// `igw-…`, `vgw-…`, `local`.
    pub(super) gateway_id: String,
    /// `active`, or `blackhole`: its target is gone.
    pub(super) state: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TableAssociation {
    pub(super) subnet_id: String,
    /// For every subnet that has no table of its own.
    pub(super) main: bool,
}

/// `DescribeNetworkAcls`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NetworkAcls {
    #[serde(default)]
    pub(super) network_acl_set: Items<NetworkAcl>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NetworkAcl {
    pub(super) network_acl_id: String,
    #[serde(default)]
    pub(super) entry_set: Items<AclEntry>,
    #[serde(default)]
    pub(super) association_set: Items<AclAssociation>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AclEntry {
    /// The first that fits decides.
    pub(super) rule_number: u32,
    /// `-1` is all, `6` is TCP.
    pub(super) protocol: String,
    /// `allow` or `deny`.
    pub(super) rule_action: String,
    pub(super) egress: bool,
    pub(super) cidr_block: String,
    pub(super) port_range: Option<PortRange>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct PortRange {
    pub(super) from: u16,
    pub(super) to: u16,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AclAssociation {
    pub(super) subnet_id: String,
}

/// `DescribeVpcAttribute` of `enableDnsSupport`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DnsSupport {
    pub(super) enable_dns_support: Flag,
}

#[derive(Debug, Deserialize)]
pub(super) struct Flag {
    pub(super) value: bool,
}

/// `DescribeSecurityGroups`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Groups {
    #[serde(default)]
    pub(super) security_group_info: Items<Group>,
}

/// One security group.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Group {
    pub(super) group_id: String,
    #[serde(default)]
    pub(super) vpc_id: String,
    #[serde(default)]
    pub(super) ip_permissions: Items<Permission>,
    #[serde(default)]
    pub(super) ip_permissions_egress: Items<Permission>,
}

/// A rule of a group.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Permission {
    /// `-1` is all, else `tcp`, `udp`, `icmp` or a number.
    pub(super) ip_protocol: String,
    pub(super) from_port: Option<i32>,
    pub(super) to_port: Option<i32>,
}

/// `DescribeInstanceTypes`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstanceTypes {
    #[serde(default)]
    pub(super) instance_type_set: Items<InstanceType>,
}

/// One type.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct InstanceType {
    pub(super) instance_type: String,
    pub(super) processor_info: Processor,
    pub(super) v_cpu_info: Vcpus,
    /// `on-demand`, `spot`.
    pub(super) supported_usage_classes: Items<String>,
    /// It earns credits while it idles, and spends them while it works.
    pub(super) burstable_performance_supported: bool,
    pub(super) network_info: Network,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Processor {
    pub(super) supported_architectures: Items<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Vcpus {
    pub(super) default_v_cpus: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Network {
    /// `unsupported`, `supported`, `required`.
    pub(super) ena_support: String,
}

/// `DescribeInstanceTypeOfferings`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Offerings {
    #[serde(default)]
    pub(super) instance_type_offering_set: Items<Offering>,
}

/// A type in a zone.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Offering {
    pub(super) instance_type: String,
    pub(super) location: String,
}

/// `DescribeImages`, what a launch does not need of it
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageDetails {
    #[serde(default)]
    pub(super) images_set: Items<ImageDetail>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ImageDetail {
    pub(super) ena_support: Option<bool>,
    pub(super) block_device_mapping: Items<ImageDisk>,
    /// After this moment nobody launches it any more but its owner.
    pub(super) deprecation_time: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ImageDisk {
    pub(super) ebs: ImageEbs,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ImageEbs {
    pub(super) encrypted: bool,
}

/// `GetInstanceMetadataDefaults`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MetadataDefaults {
    #[serde(default)]
    pub(super) account_level: MetadataLevel,
}

/// What is not said is not set.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct MetadataLevel {
    pub(super) http_endpoint: String,
    pub(super) http_tokens: String,
}

/// `GetEbsEncryptionByDefault`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EbsEncryption {
    pub(super) ebs_encryption_by_default: bool,
}

/// `GetEbsDefaultKmsKeyId`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EbsKey {
    #[serde(default)]
    pub(super) kms_key_id: String,
}

/// `DescribeVolumes`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Volumes {
    #[serde(default)]
    pub(super) volume_set: Items<Volume>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Volume {
    pub(super) volume_id: String,
    /// GiB.
    pub(super) size: u32,
}

/// Service Quotas' `GetServiceQuota`, which speaks JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceQuota {
    pub(super) quota: QuotaValue,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct QuotaValue {
    pub(super) value: f64,
}
