//! `volumes` and `attach_volumes`: what was typed → disks that a launch makes, and volumes that are there.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::master::config::meaning::Owner;
use crate::master::config::meaning::Reading;
use crate::master::config::typed::AttachFile;
use crate::master::config::typed::VolumeFile;
use crate::master::provisioner::ec2::settings::Attached;
use crate::master::provisioner::ec2::settings::Disk;
use crate::runtime::config_file::node::NodeId;
use crate::runtime::config_file::placed::At;
use crate::runtime::config_file::suggest;

/// Nothing larger is made by a slip: what EBS gives at most for the usual volume types, in GiB.
const DISK_GB_MAX: u32 = 16 * 1024;

/// Disks beside the root disk, made or attached, at most: what every type of instance takes.
const DISKS_MAX: usize = 20;

/// Operations per second that EBS gives at most (io2 Block Express).
const IOPS_MAX: u32 = 256_000;

/// MiB per second that EBS gives at most (gp3).
const THROUGHPUT_MAX: u32 = 2000;

/// The word for the root disk, whatever the image calls it.
const ROOT: &str = "root";

/// The types of EBS volumes (EBS user guide, "Amazon EBS volume types").
const TYPES: &[&str] = &["gp3", "gp2", "io1", "io2", "st1", "sc1", "standard"];

/// Those among them that nothing boots from.
const NO_ROOT_TYPES: &[&str] = &["st1", "sc1"];

/// The disks of a pool's instances.
#[derive(Debug, Default)]
pub(super) struct Disks {
    pub(super) root: Disk,
    pub(super) beside: BTreeMap<String, Disk>,
    pub(super) attached: Vec<Attached>,
}

/// All of them. `max_instances` of a pool are as many sets of volumes.
pub(super) fn of(
    reading: &mut Reading<'_>,
    owner: Owner<'_>,
    volumes: Vec<At<VolumeFile>>,
    attach: Vec<At<AttachFile>>,
    max_instances: u32,
) -> Disks {
    let mut disks = Disks::default();
    let mut taken = BTreeSet::new();
    if let Some(At { id, .. }) = volumes.get(DISKS_MAX) {
        let what = format!("more than {DISKS_MAX} volumes");
        reading.wrong(*id, what, "an instance takes no more");
    }
    for At { id, value } in volumes {
        let device = value.device.clone();
        take_device(reading, &device.value, device.id, &mut taken);
        let disk = disk(reading, id, value);
        match device.value == ROOT {
            true => disks.root = disk,
            false => {
                if disk.size_gb.is_none() && disk.snapshot.is_none() {
                    let hint = "write size_gb = 100, or snapshot = \"snap-…\"";
                    reading.wrong(id, "a disk beside the root disk needs a size", hint);
                }
                disks.beside.insert(device.value, disk);
            }
        }
    }
    for At { id, value } in attach {
        if value.device.value == ROOT {
            let hint = "name a free one such as \"/dev/sdf\"; the root disk is made by the launch";
            reading.wrong(value.device.id, "no volume can be attached as the root disk", hint);
        }
        take_device(reading, &value.device.value, value.device.id, &mut taken);
        let volumes = value.id.value.0;
        for volume in &volumes {
            if !has_digits(volume, "vol-") {
                let what = format!("\"{volume}\" is not the id of a volume");
                reading.wrong(value.id.id, what, "write one such as \"vol-0123456789abcdef0\"");
            } else {
                let hint = "a volume is on one instance, in one place";
                reading.take(value.id.id, owner, volume, hint);
            }
        }
        one_for_each(reading, id, "attach_volumes", volumes.len(), max_instances);
        disks.attached.push(Attached { volumes, device: value.device.value });
    }
    disks
}

/// What is there once is for one instance; a list has one for each that there may be.
pub(super) fn one_for_each(
    reading: &mut Reading<'_>,
    at: NodeId,
    key: &str,
    count: usize,
    max_instances: u32,
) {
    if usize::try_from(max_instances).is_ok_and(|most| most <= count) {
        return;
    }
    let what = format!("{key} names {count} for max_instances = {max_instances}");
    let hint = "name one for each instance in a list, or lower max_instances";
    reading.wrong(at, what, hint);
}

/// Whether it is an id of the kind that begins so.
pub(super) fn has_digits(text: &str, start: &str) -> bool {
    let digits = text.strip_prefix(start).unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn take_device(reading: &mut Reading<'_>, device: &str, at: NodeId, taken: &mut BTreeSet<String>) {
    let name = device.strip_prefix("/dev/").unwrap_or_default();
    let letters = name.strip_prefix("sd").or(name.strip_prefix("xvd")).unwrap_or_default();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_device = letters.starts_with(|c: char| c.is_ascii_lowercase())
        && letters.len() <= 3
        && letters.chars().all(fits);
    if device != ROOT && !is_device {
        let what = format!("\"{device}\" is not a device");
        reading.wrong(at, what, "write \"root\", or one from \"/dev/sdf\" to \"/dev/sdp\"");
    } else if !taken.insert(device.to_owned()) {
        let what = format!("{device} is named twice");
        reading.wrong(at, what, "give each disk a device of its own");
    }
}

fn disk(reading: &mut Reading<'_>, at: NodeId, typed: VolumeFile) -> Disk {
    let is_root = typed.device.value == ROOT;
    let kind = typed.volume_type.as_ref().map(|kind| kind.value.as_str());
    if let Some(size) = typed.size_gb
        && !(1..=DISK_GB_MAX).contains(&size)
    {
        let what = format!("a disk of {size} GiB cannot be made");
        reading.wrong(at, what, format!("write a size from 1 to {DISK_GB_MAX}"));
    }
    if let Some(At { id, value }) = &typed.volume_type {
        if !TYPES.contains(&value.as_str()) {
            let hint = suggest::hint(value, TYPES).unwrap_or_else(|| "write \"gp3\"".to_owned());
            reading.wrong(*id, format!("\"{value}\" is not a type of volumes"), hint);
        } else if is_root && NO_ROOT_TYPES.contains(&value.as_str()) {
            let what = format!("no instance boots from a volume of type {value}");
            reading.wrong(*id, what, "write \"gp3\"");
        }
    }
    if let Some(At { id, value }) = typed.iops {
        if !matches!(kind, Some("gp3" | "io1" | "io2")) {
            let hint = "write type = \"gp3\", \"io1\" or \"io2\", or take it out";
            reading.wrong(id, "iops is for volumes of type gp3, io1 and io2", hint);
        }
        if !(100..=IOPS_MAX).contains(&value) {
            let what = format!("iops must be from 100 to {IOPS_MAX}, not {value}");
            reading.wrong(id, what, "gp3 has 3000 by itself");
        }
    }
    if typed.iops.is_none() && matches!(kind, Some("io1" | "io2")) {
        reading.wrong(at, "volumes of type io1 and io2 need iops", "write as in iops = 4000");
    }
    if let Some(At { id, value }) = typed.throughput {
        if kind != Some("gp3") {
            let hint = "write type = \"gp3\", or take it out";
            reading.wrong(id, "throughput is for volumes of type gp3", hint);
        }
        if !(125..=THROUGHPUT_MAX).contains(&value) {
            let what = format!("throughput must be from 125 to {THROUGHPUT_MAX}, not {value}");
            reading.wrong(id, what, "MiB per second; gp3 has 125 by itself");
        }
    }
    if let Some(At { id, value }) = &typed.kms_key {
        if typed.encrypted == Some(false) {
            let hint = "take encrypted = false out";
            reading.wrong(*id, "a kms_key is for a volume that is encrypted", hint);
        }
        if value.is_empty() || value.chars().any(|c| c.is_whitespace() || c.is_control()) {
            let hint = "write an id, an ARN, or \"alias/…\"";
            reading.wrong(*id, format!("{value:?} is not a key of KMS"), hint);
        }
    }
    if let Some(At { id, value }) = &typed.snapshot {
        if is_root {
            let hint = "the image says what is on the root disk; choose another `ami`";
            reading.wrong(*id, "the root disk cannot have a snapshot of its own", hint);
        } else if !has_digits(value, "snap-") {
            let what = format!("\"{value}\" is not the id of a snapshot");
            reading.wrong(*id, what, "write one such as \"snap-0123456789abcdef0\"");
        }
    }
    Disk {
        size_gb: typed.size_gb,
        volume_type: typed.volume_type.map(|kind| kind.value),
        iops: typed.iops.map(|iops| iops.value),
        throughput: typed.throughput.map(|throughput| throughput.value),
        // A key without a word about it means that it is used.
        encrypted: typed.encrypted.or(typed.kms_key.is_some().then_some(true)),
        kms_key: typed.kms_key.map(|key| key.value),
        snapshot: typed.snapshot.map(|snapshot| snapshot.value),
    }
}
