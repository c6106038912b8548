//! The disks of a request: those of the image, the root disk as the pool wants it, and disks beside it.
//!
//! Every disk that a launch makes goes with its instance, whatever the image says. Pure.

use crate::master::provisioner::ec2::answers::FoundImage;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::settings::Disk;
use crate::master::provisioner::ec2::settings::Ec2Settings;

/// The request, with all of its disks.
pub(super) fn with_disks(query: Query, settings: &Ec2Settings, image: &FoundImage) -> Query {
    let mut query = query;
    for ((device, disk), index) in all(settings, image).into_iter().zip(1..) {
        let key = |part: &str| format!("BlockDeviceMapping.{index}.{part}");
        let number = |value: Option<u32>| value.map(|value| value.to_string());
        let encrypted = disk.encrypted.map(|yes| if yes { "true" } else { "false" });
        query = query
            .with(key("DeviceName"), device)
            .with(key("Ebs.DeleteOnTermination"), "true")
            .with_opt(key("Ebs.SnapshotId"), disk.snapshot.as_deref())
            .with_opt(key("Ebs.VolumeSize"), number(disk.size_gb).as_deref())
            .with_opt(key("Ebs.VolumeType"), disk.volume_type.as_deref())
            .with_opt(key("Ebs.Iops"), number(disk.iops).as_deref())
            .with_opt(key("Ebs.Throughput"), number(disk.throughput).as_deref())
            .with_opt(key("Ebs.Encrypted"), encrypted)
            .with_opt(key("Ebs.KmsKeyId"), disk.kms_key.as_deref());
    }
    query
}

/// Why the root disk could not be made as the pool wants it: it is named by its role and by its device as
/// well, and only the image tells that this is one disk.
pub(super) fn root_twice(settings: &Ec2Settings, image: &FoundImage) -> Option<String> {
    let root = image.root_device_name.as_deref()?;
    let is_twice = settings.disks.contains_key(root) && settings.root_disk != Disk::default();
    is_twice.then(|| {
        let image = &image.image_id;
        format!(
            "volumes names the root disk twice: as \"root\", and as {root}, which it is in {image}"
        )
    })
}

/// Every disk with its device, the image's first; one of the pool's stands for the image's of its device.
fn all(settings: &Ec2Settings, image: &FoundImage) -> Vec<(String, Disk)> {
    let of_image = image.block_device_mapping.item.iter();
    let of_image = of_image
        .filter_map(|disk| Some((disk.device_name.as_str(), disk.ebs.as_ref()?.volume_size)));
    let mut known: Vec<(&str, Option<u32>)> = of_image.collect();
    let root = image.root_device_name.as_deref();
    if let Some(root) = root.filter(|root| !known.iter().any(|(name, _)| name == root)) {
        known.insert(0, (root, None));
    }
    let mut disks = Vec::new();
    for (device, size_gb) in &known {
        let by_device = settings.disks.get(*device).cloned();
        let wanted = match Some(*device) == root {
            true => by_device.unwrap_or_else(|| settings.root_disk.clone()),
            false => by_device.unwrap_or_default(),
        };
        // A size of the image's is said again only where it is the image's disk.
        let size_gb = wanted.size_gb.or(size_gb.filter(|_| wanted.snapshot.is_none()));
        disks.push(((*device).to_owned(), Disk { size_gb, ..wanted }));
    }
    let beside = settings.disks.iter();
    let beside = beside.filter(|(device, _)| !known.iter().any(|(name, _)| name == device));
    disks.extend(beside.map(|(device, disk)| (device.clone(), disk.clone())));
    disks
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::master::provisioner::ec2::answers::Device;
    use crate::master::provisioner::ec2::answers::Ebs;
    use crate::master::provisioner::ec2::answers::Items;
    use crate::master::provisioner::ec2::settings::tests::sample;

    /// One with a root disk of 8 GiB, and a place for a disk of the machine itself.
    pub(in crate::master::provisioner::ec2) fn image() -> FoundImage {
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

    fn asked(settings: &Ec2Settings, image: &FoundImage) -> Query {
        with_disks(Query::new("RunInstances"), settings, image)
    }

    #[test]
    fn the_root_disk_is_found_by_its_role_and_not_by_its_name() {
        let root_disk = Disk {
            size_gb: Some(40),
            volume_type: Some("gp3".to_owned()),
            iops: Some(6000),
            throughput: Some(500),
            encrypted: Some(true),
            kms_key: Some("alias/ci".to_owned()),
            snapshot: None,
        };
        let query = asked(&Ec2Settings { root_disk, ..sample() }, &image());
        for (name, value) in [
            ("DeviceName", "/dev/xvda"),
            ("Ebs.DeleteOnTermination", "true"),
            ("Ebs.VolumeSize", "40"),
            ("Ebs.VolumeType", "gp3"),
            ("Ebs.Iops", "6000"),
            ("Ebs.Throughput", "500"),
            ("Ebs.Encrypted", "true"),
            ("Ebs.KmsKeyId", "alias/ci"),
        ] {
            assert_eq!(query.get(&format!("BlockDeviceMapping.1.{name}")), Some(value), "{name}");
        }
        let as_the_image = asked(&sample(), &image());
        assert_eq!(as_the_image.get("BlockDeviceMapping.1.Ebs.VolumeSize"), Some("8"));
        assert_eq!(as_the_image.get("BlockDeviceMapping.1.Ebs.Encrypted"), None);
        assert_eq!(as_the_image.get("BlockDeviceMapping.2.DeviceName"), None, "no disk of ours");
    }

    #[test]
    fn disks_beside_the_root_go_with_the_instance_too() {
        let cache = Disk { size_gb: Some(100), ..Disk::default() };
        let data = Disk { snapshot: Some("snap-1".to_owned()), ..Disk::default() };
        let disks = BTreeMap::from([("/dev/sdf".to_owned(), cache), ("/dev/sdg".to_owned(), data)]);
        let query = asked(&Ec2Settings { disks, ..sample() }, &image());
        for (name, value) in [
            ("2.DeviceName", "/dev/sdf"),
            ("2.Ebs.DeleteOnTermination", "true"),
            ("2.Ebs.VolumeSize", "100"),
            ("3.DeviceName", "/dev/sdg"),
            ("3.Ebs.DeleteOnTermination", "true"),
            ("3.Ebs.SnapshotId", "snap-1"),
        ] {
            assert_eq!(query.get(&format!("BlockDeviceMapping.{name}")), Some(value), "{name}");
        }
        assert_eq!(query.get("BlockDeviceMapping.3.Ebs.VolumeSize"), None);
    }

    #[test]
    fn a_root_disk_that_is_named_by_its_device_is_as_large_as_the_pool_wants_it() {
        let larger = Disk { size_gb: Some(100), ..Disk::default() };
        let disks = BTreeMap::from([("/dev/xvda".to_owned(), larger.clone())]);
        let by_device = Ec2Settings { disks, ..sample() };
        let query = asked(&by_device, &image());
        assert_eq!(query.get("BlockDeviceMapping.1.DeviceName"), Some("/dev/xvda"));
        assert_eq!(query.get("BlockDeviceMapping.1.Ebs.VolumeSize"), Some("100"));
        assert_eq!(query.get("BlockDeviceMapping.2.DeviceName"), None, "it is told once");
        assert_eq!(root_twice(&by_device, &image()), None);
        let by_role = Ec2Settings { root_disk: larger.clone(), ..sample() };
        assert_eq!(root_twice(&by_role, &image()), None);
        let both = Ec2Settings { root_disk: larger, ..by_device };
        let told = root_twice(&both, &image()).expect("which of them is meant?");
        assert!(told.contains("\"root\"") && told.contains("/dev/xvda"), "{told}");
    }

    #[test]
    fn a_disk_of_the_image_is_told_once_and_as_the_pool_wants_it() {
        let mut image = image();
        image.block_device_mapping.item.push(Device {
            device_name: "/dev/sdf".to_owned(),
            ebs: Some(Ebs { volume_size: Some(20) }),
        });
        let larger = Disk { size_gb: Some(50), ..Disk::default() };
        let disks = BTreeMap::from([("/dev/sdf".to_owned(), larger)]);
        let query = asked(&Ec2Settings { disks, ..sample() }, &image);
        assert_eq!(query.get("BlockDeviceMapping.2.DeviceName"), Some("/dev/sdf"));
        assert_eq!(query.get("BlockDeviceMapping.2.Ebs.VolumeSize"), Some("50"));
        assert_eq!(query.get("BlockDeviceMapping.3.DeviceName"), None);
    }
}
