//! The request that starts an instance. Pure: the same facts give the same bytes, and those are kept
//! in the launch's row, so that a try whose outcome is unknown is made again exactly.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::master::provisioner::ec2::answers::FoundImage;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::settings::Candidate;
use crate::master::provisioner::ec2::settings::Ec2Settings;
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
        .with_opt("KeyName", settings.key_name.as_deref())
        .with_opt("IamInstanceProfile.Name", settings.instance_profile.as_deref());
    let query = with_network(query, settings, candidate);
    let query = with_disks(query, settings, image);
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

fn with_network(query: Query, settings: &Ec2Settings, candidate: &Candidate) -> Query {
    let public_ip = settings.public_ip.map(|public| if public { "true" } else { "false" });
    query
        .with("NetworkInterface.1.DeviceIndex", "0")
        .with("NetworkInterface.1.DeleteOnTermination", "true")
        .with_opt("NetworkInterface.1.SubnetId", candidate.subnet.as_deref())
        .with_opt("NetworkInterface.1.AssociatePublicIpAddress", public_ip)
        .with_list(
            "NetworkInterface.1.SecurityGroupId",
            settings.security_groups.iter().map(String::as_str),
        )
}

/// Every disk of the image goes with the instance, whatever the image says.
fn with_disks(query: Query, settings: &Ec2Settings, image: &FoundImage) -> Query {
    let of_image = image.block_device_mapping.item.iter();
    let of_image =
        of_image.filter_map(|disk| Some((disk.device_name.as_str(), disk.ebs.as_ref()?)));
    let mut disks: Vec<(&str, Option<u32>)> =
        of_image.map(|(name, ebs)| (name, ebs.volume_size)).collect();
    let root = image.root_device_name.as_deref();
    if let Some(root) = root.filter(|root| !disks.iter().any(|(name, _)| name == root)) {
        disks.insert(0, (root, None));
    }
    let mut query = query;
    for ((name, size), index) in disks.into_iter().zip(1..) {
        let key = |part: &str| format!("BlockDeviceMapping.{index}.{part}");
        let is_root = Some(name) == root;
        let wanted = if is_root { settings.root_disk.size_gb } else { None };
        let size = wanted.or(size).map(|gb| gb.to_string());
        let kind = settings.root_disk.volume_type.as_deref().filter(|_| is_root);
        query = query
            .with(key("DeviceName"), name)
            .with(key("Ebs.DeleteOnTermination"), "true")
            .with_opt(key("Ebs.VolumeSize"), size.as_deref())
            .with_opt(key("Ebs.VolumeType"), kind);
    }
    query
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
    use crate::master::provisioner::ec2::answers::Device;
    use crate::master::provisioner::ec2::answers::Ebs;
    use crate::master::provisioner::ec2::answers::Items;
    use crate::master::provisioner::ec2::settings::RootDisk;
    use crate::master::provisioner::ec2::settings::tests::sample;

    fn image() -> FoundImage {
        let device = |name: &str, ebs| Device { device_name: name.to_owned(), ebs };
        FoundImage {
            image_id: "ami-1".to_owned(),
            creation_date: String::new(),
            image_state: "available".to_owned(),
            architecture: "x86_64".to_owned(),
            name: String::new(),
            root_device_name: Some("/dev/xvda".to_owned()),
            block_device_mapping: Items {
                item: vec![
                    device("/dev/xvda", Some(Ebs { volume_size: Some(8) })),
                    device("/dev/sdb", None),
                ],
            },
        }
    }

    fn asked(settings: &Ec2Settings, candidate: usize) -> Query {
        request(&Facts {
            settings,
            candidate: &settings.candidates()[candidate],
            image: &image(),
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

    #[test]
    fn a_spot_instance_is_asked_for_once_and_its_request_is_tagged_too() {
        let query = asked(&sample(), 0);
        let kind = query.get("InstanceMarketOptions.SpotOptions.SpotInstanceType");
        assert_eq!(kind, Some("one-time"));
        assert_eq!(query.get("InstanceMarketOptions.SpotOptions.MaxPrice"), None);
        assert_eq!(query.get("TagSpecification.4.ResourceType"), Some("spot-instances-request"));
    }

    #[test]
    fn the_root_disk_is_found_by_its_role_and_not_by_its_name() {
        let root_disk = RootDisk { size_gb: Some(40), volume_type: Some("gp3".to_owned()) };
        let query = asked(&Ec2Settings { root_disk, ..sample() }, 0);
        assert_eq!(query.get("BlockDeviceMapping.1.Ebs.VolumeSize"), Some("40"));
        assert_eq!(query.get("BlockDeviceMapping.1.Ebs.VolumeType"), Some("gp3"));
        let as_the_image = asked(&sample(), 0);
        assert_eq!(as_the_image.get("BlockDeviceMapping.1.Ebs.VolumeSize"), Some("8"));
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
