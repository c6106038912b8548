//! The request that starts an instance. Pure: the same facts give the same bytes, and those are kept
//! in the launch's row, so that a try whose outcome is unknown is made again exactly.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::master::provisioner::ec2::answers::FoundImage;
use crate::master::provisioner::ec2::disks;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::settings::Candidate;
use crate::master::provisioner::ec2::settings::CpuCredits;
use crate::master::provisioner::ec2::settings::Ec2Settings;
use crate::master::provisioner::ec2::settings::Tenancy;
use crate::master::provisioner::ec2::settings::has_cpu_credits;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::ids::WorkerName;
use crate::model::time::Timestamp;
use crate::runtime::digest::sha256_hex;

/// The master that an instance belongs to, by its `id`.
pub(super) const TAG_MASTER: &str = "busybee:master";
/// Its launch.
pub(super) const TAG_LAUNCH: &str = "busybee:launch";
/// Its pool.
pub(super) const TAG_POOL: &str = "busybee:pool";
/// Its worker's name, which AWS's console shows first.
pub(super) const TAG_NAME: &str = "Name";
/// The moment after which nobody can still want it, as seconds since 1970. `instance reap` ends it then.
pub(super) const TAG_EXPIRES: &str = "busybee:expires";

/// EC2 takes user-data of 16 KiB, before base64 (EC2 user guide, "Run commands at launch").
const USER_DATA_MAX: usize = 16 * 1024;

/// A launch's ClientToken. Its beginning is the master's: by that an instance is known whose tags
/// somebody has taken off. EC2 takes 64 ASCII characters.
pub(super) fn token(master: &str, launch: &LaunchId) -> String {
    format!("{}{launch}", token_prefix(master))
}

/// How the tokens of a master begin.
pub(super) fn token_prefix(master: &str) -> String {
    let digest = sha256_hex(master.as_bytes());
    format!("busybee-{}-", digest.get(..8).unwrap_or_default())
}

/// All that a launch's request is made of.
pub(super) struct Facts<'f> {
    pub(super) settings: &'f Ec2Settings,
    pub(super) candidate: &'f Candidate,
    pub(super) image: &'f FoundImage,
    /// The ids of its security groups; empty: the VPC's default group.
    pub(super) groups: &'f [String],
    /// The zone that what belongs to it binds it to.
    pub(super) zone: Option<&'f str>,
    pub(super) master: &'f str,
    pub(super) pool: &'f PoolName,
    pub(super) launch: &'f LaunchId,
    pub(super) worker: &'f WorkerName,
    pub(super) expires_at: Timestamp,
    /// Without its password.
    pub(super) user_data: &'f str,
}

/// The whole request but for the password; `UserData` is plain text until [`ready`].
pub(super) fn request(facts: &Facts<'_>) -> Query {
    let Facts { settings, candidate, image, .. } = facts;
    let query = Query::new("RunInstances")
        .with("ClientToken", token(facts.master, facts.launch))
        .with("ImageId", &image.image_id)
        .with("InstanceType", &candidate.instance_type)
        .with("MinCount", "1")
        .with("MaxCount", "1")
        .with("InstanceInitiatedShutdownBehavior", "terminate")
        // Sent always: an account's defaults may switch the endpoint off, and then user-data never
        // runs, or allow version 1.
        .with("MetadataOptions.HttpEndpoint", "enabled")
        .with("MetadataOptions.HttpTokens", "required")
        .with("MetadataOptions.HttpPutResponseHopLimit", "1")
        .with_opt("MetadataOptions.HttpProtocolIpv6", settings.ipv6.then_some("enabled"))
        .with_opt("KeyName", settings.key_name.as_deref())
        .with_opt("IamInstanceProfile.Name", settings.instance_profile.as_deref())
        .with_opt("CreditSpecification.CpuCredits", cpu_credits(settings, candidate));
    let query = with_placement(query, facts);
    let query = with_network(query, facts);
    let query = disks::with_disks(query, settings, image);
    let query = with_market(query, settings, candidate);
    with_tags(query, facts).with("UserData", facts.user_data)
}

/// The request as it is sent: with the password, and its user-data in base64.
///
/// # Errors
/// When the user-data is longer than EC2 takes.
pub(super) fn ready(stored: Query, fill_in: impl FnOnce(&str) -> String) -> Result<Query, String> {
    let mut length = 0;
    let query = stored.replaced("UserData", |text| {
        let text = fill_in(text);
        length = text.len();
        STANDARD.encode(text)
    });
    match length <= USER_DATA_MAX {
        true => Ok(query),
        false => Err(format!("the user-data has {length} bytes; EC2 takes {USER_DATA_MAX}")),
    }
}

/// Said always, as an account's default may be either.
fn cpu_credits(settings: &Ec2Settings, candidate: &Candidate) -> Option<&'static str> {
    let credits = settings.cpu_credits.unwrap_or(CpuCredits::Unlimited);
    has_cpu_credits(&candidate.instance_type).then_some(credits.as_str())
}

fn with_placement(query: Query, facts: &Facts<'_>) -> Query {
    let placement = &facts.settings.placement;
    let partition = placement.partition.map(|number| number.to_string());
    query
        .with_opt("Placement.AvailabilityZone", placement.zone.as_deref().or(facts.zone))
        .with_opt("Placement.Tenancy", placement.tenancy.map(Tenancy::as_str))
        .with_opt("Placement.GroupName", placement.group.as_deref())
        .with_opt("Placement.PartitionNumber", partition.as_deref())
        .with_opt("Placement.HostId", placement.host.as_deref())
}

fn with_network(query: Query, facts: &Facts<'_>) -> Query {
    let Facts { settings, candidate, groups, .. } = facts;
    // One that gets an address of ours must not call under another before it has it.
    let public_ip = settings.public_ip.or((!settings.elastic_ips.is_empty()).then_some(false));
    let public_ip = public_ip.map(|public| if public { "true" } else { "false" });
    query
        .with("NetworkInterface.1.DeviceIndex", "0")
        .with("NetworkInterface.1.DeleteOnTermination", "true")
        .with_opt("NetworkInterface.1.SubnetId", candidate.subnet.as_deref())
        .with_opt("NetworkInterface.1.AssociatePublicIpAddress", public_ip)
        .with_opt("NetworkInterface.1.Ipv6AddressCount", settings.ipv6.then_some("1"))
        .with_list("NetworkInterface.1.SecurityGroupId", groups.iter().map(String::as_str))
}

/// One-time requests only: a persistent one would start instances that nobody asked for.
fn with_market(query: Query, settings: &Ec2Settings, candidate: &Candidate) -> Query {
    if !candidate.is_spot {
        return query;
    }
    query
        .with("InstanceMarketOptions.MarketType", "spot")
        .with("InstanceMarketOptions.SpotOptions.SpotInstanceType", "one-time")
        .with("InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior", "terminate")
        .with_opt("InstanceMarketOptions.SpotOptions.MaxPrice", settings.max_price.as_deref())
}

/// In the same call, on all that it makes: an instance is never without its tags.
fn with_tags(query: Query, facts: &Facts<'_>) -> Query {
    let expires = (facts.expires_at.0 / 1000).to_string();
    let ours = [
        (TAG_NAME, facts.worker.as_str()),
        (TAG_MASTER, facts.master),
        (TAG_LAUNCH, facts.launch.as_str()),
        (TAG_POOL, facts.pool.as_str()),
        (TAG_EXPIRES, &expires),
    ];
    let admins = facts.settings.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let admins = admins.filter(|(key, _)| !ours.iter().any(|(known, _)| known == key));
    let tags: Vec<(&str, &str)> = ours.into_iter().chain(admins).collect();
    let mut resources = vec!["instance", "volume", "network-interface"];
    if facts.candidate.is_spot {
        resources.push("spot-instances-request");
    }
    let mut query = query;
    for (resource, number) in resources.into_iter().zip(1..) {
        query = query.with(format!("TagSpecification.{number}.ResourceType"), resource);
        for ((key, value), index) in tags.iter().zip(1..) {
            let tag = format!("TagSpecification.{number}.Tag.{index}");
            query = query.with(format!("{tag}.Key"), *key).with(format!("{tag}.Value"), *value);
        }
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::provisioner::ec2::disks::tests::image;
    use crate::master::provisioner::ec2::settings::ElasticIp;
    use crate::master::provisioner::ec2::settings::Placement;
    use crate::master::provisioner::ec2::settings::tests::sample;

    fn asked(settings: &Ec2Settings, candidate: usize) -> Query {
        asked_in(settings, candidate, None)
    }

    fn asked_in(settings: &Ec2Settings, candidate: usize, zone: Option<&str>) -> Query {
        request(&Facts {
            settings,
            candidate: &settings.candidates()[candidate],
            image: &image(),
            groups: &["sg-1".to_owned(), "sg-2".to_owned()],
            zone,
            master: "prod",
            pool: &"linux".into(),
            launch: &"L1".into(),
            worker: &"linux-1".into(),
            expires_at: Timestamp(90_500),
            user_data: "#!/bin/sh\nBB_PASSWORD='@@'\n",
        })
    }

    #[test]
    fn what_makes_an_instance_safe_stands_in_every_request() {
        let query = asked(&sample(), 7);
        for (name, value) in [
            ("ClientToken", "busybee-6754af96-L1"),
            ("MaxCount", "1"),
            ("InstanceInitiatedShutdownBehavior", "terminate"),
            ("MetadataOptions.HttpTokens", "required"),
            ("MetadataOptions.HttpPutResponseHopLimit", "1"),
            ("MetadataOptions.HttpEndpoint", "enabled"),
            ("NetworkInterface.1.DeleteOnTermination", "true"),
            ("BlockDeviceMapping.1.DeviceName", "/dev/xvda"),
            ("BlockDeviceMapping.1.Ebs.DeleteOnTermination", "true"),
            ("TagSpecification.1.ResourceType", "instance"),
            ("TagSpecification.1.Tag.2.Value", "prod"),
            ("TagSpecification.1.Tag.5.Value", "90"),
            ("TagSpecification.2.ResourceType", "volume"),
            ("TagSpecification.2.Tag.6.Key", "team"),
            ("InstanceType", "c6i.large"),
            ("NetworkInterface.1.SubnetId", "subnet-b"),
        ] {
            assert_eq!(query.get(name), Some(value), "{name}");
        }
        assert_eq!(query.get("InstanceMarketOptions.MarketType"), None);
        assert_eq!(query.get("BlockDeviceMapping.2.DeviceName"), None, "no disk of ours");
    }

    /// drone-runner-aws read its option for spot, and used it nowhere.
    #[test]
    fn drone_what_is_to_be_spot_is_asked_for_as_spot() {
        let market = |candidate| {
            asked(&sample(), candidate).get("InstanceMarketOptions.MarketType").is_some()
        };
        let candidates = sample().candidates();
        assert!(candidates.iter().any(|candidate| candidate.is_spot));
        for (index, candidate) in candidates.iter().enumerate() {
            assert_eq!(market(index), candidate.is_spot, "{index}");
        }
    }

    /// terraform-aws-github-runner: persistent requests started instances again, and those had no tags.
    #[test]
    fn terraform_a_spot_request_is_for_one_instance_and_has_its_tags() {
        let query = asked(&sample(), 0);
        let kind = query.get("InstanceMarketOptions.SpotOptions.SpotInstanceType");
        assert_eq!(kind, Some("one-time"));
        assert_eq!(query.get("InstanceMarketOptions.SpotOptions.MaxPrice"), None);
        assert_eq!(query.get("TagSpecification.4.ResourceType"), Some("spot-instances-request"));
        for tag in 1..=6 {
            let of = |resource| {
                let tag = format!("TagSpecification.{resource}.Tag.{tag}");
                [query.get(&format!("{tag}.Key")), query.get(&format!("{tag}.Value"))]
            };
            assert!(of(1)[0].is_some() && of(4) == of(1), "{tag}: {:?} {:?}", of(4), of(1));
        }
    }

    #[test]
    fn everything_that_an_instance_can_be_told_is_told() {
        let settings = Ec2Settings {
            instance_types: vec!["t3.small".to_owned()],
            key_name: Some("ops".to_owned()),
            instance_profile: Some("worker".to_owned()),
            ipv6: true,
            cpu_credits: Some(CpuCredits::Standard),
            placement: Placement {
                zone: Some("eu-west-1b".to_owned()),
                tenancy: Some(Tenancy::Host),
                group: Some("near".to_owned()),
                partition: Some(3),
                host: Some("h-1".to_owned()),
            },
            ..sample()
        };
        let query = asked(&settings, 0);
        for (name, value) in [
            ("KeyName", "ops"),
            ("IamInstanceProfile.Name", "worker"),
            ("MetadataOptions.HttpProtocolIpv6", "enabled"),
            ("NetworkInterface.1.Ipv6AddressCount", "1"),
            ("NetworkInterface.1.SecurityGroupId.2", "sg-2"),
            ("CreditSpecification.CpuCredits", "standard"),
            ("Placement.AvailabilityZone", "eu-west-1b"),
            ("Placement.Tenancy", "host"),
            ("Placement.GroupName", "near"),
            ("Placement.PartitionNumber", "3"),
            ("Placement.HostId", "h-1"),
        ] {
            assert_eq!(query.get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn what_is_not_said_is_left_to_ec2_but_for_credits() {
        let query = asked(&sample(), 0);
        for name in [
            "MetadataOptions.HttpProtocolIpv6",
            "NetworkInterface.1.Ipv6AddressCount",
            "NetworkInterface.1.AssociatePublicIpAddress",
            "CreditSpecification.CpuCredits",
            "Placement.AvailabilityZone",
            "Placement.Tenancy",
        ] {
            assert_eq!(query.get(name), None, "{name}");
        }
        let small = Ec2Settings { instance_types: vec!["t3.small".to_owned()], ..sample() };
        let credits = asked(&small, 0);
        assert_eq!(credits.get("CreditSpecification.CpuCredits"), Some("unlimited"));
    }

    #[test]
    fn an_instance_that_gets_an_address_of_ours_has_no_other_before() {
        let address = ElasticIp::Allocation("eipalloc-1".to_owned());
        let settings = Ec2Settings { elastic_ips: vec![address], ..sample() };
        let query = asked(&settings, 0);
        let public_ip = query.get("NetworkInterface.1.AssociatePublicIpAddress");
        assert_eq!(public_ip, Some("false"));
    }

    #[test]
    fn an_instance_is_where_its_volumes_are() {
        let settings = Ec2Settings { subnets: Vec::new(), ..sample() };
        let query = asked_in(&settings, 0, Some("eu-west-1c"));
        assert_eq!(query.get("Placement.AvailabilityZone"), Some("eu-west-1c"));
        assert_eq!(query.get("NetworkInterface.1.SubnetId"), None);
    }

    #[test]
    fn the_password_is_filled_in_at_the_last_moment() {
        let stored = asked(&sample(), 0);
        assert!(stored.get("UserData").is_some_and(|text| text.contains("@@")));
        let ready = ready(stored, |text| text.replace("@@", "secret")).expect("it is short");
        let text = "IyEvYmluL3NoCkJCX1BBU1NXT1JEPSdzZWNyZXQnCg==";
        assert_eq!(ready.get("UserData"), Some(text));
    }

    #[test]
    fn user_data_that_ec2_would_refuse_is_refused_here() {
        let long = "x".repeat(USER_DATA_MAX + 1);
        let why = ready(asked(&sample(), 0), |_| long).expect_err("it is too long");
        assert!(why.contains("16385"), "{why}");
    }
}
