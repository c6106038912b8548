//! `[pool.ec2]` as it is meant. `config/ec2.rs` makes it of the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::master::provisioner::ec2::prices::Prices;

/// How a pool's instances are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ec2Settings {
    /// As in `eu-west-1`.
    pub region: String,
    /// Only for stand-ins of EC2: scheme, host and port.
    pub endpoint: Option<String>,
    /// The shared credentials file; default: where every AWS program looks.
    pub credentials_file: Option<PathBuf>,
    /// A profile of that file; default: the usual chain.
    pub profile: Option<String>,
    /// What the root disk is made of.
    pub image: Image,
    /// In order of preference; never empty.
    pub instance_types: Vec<String>,
    /// Tried in turn; empty: the default subnet of any zone.
    pub subnets: Vec<String>,
    /// How they are paid for.
    pub market: Market,
    /// For spot: dollars per hour at most; default: the on-demand price, as AWS advises.
    pub max_price: Option<String>,
    /// Ids, or names, which are looked up for each launch; empty: the VPC's default group.
    pub security_groups: Vec<String>,
    /// A key pair for `ssh`, where an admin wants to look.
    pub key_name: Option<String>,
    /// The name of a role's instance profile.
    pub instance_profile: Option<String>,
    /// Whether they have a public address; default: what the subnet says.
    pub public_ip: Option<bool>,
    /// Whether they have an IPv6 address too.
    pub ipv6: bool,
    /// What becomes of a T type that wants more than its share; nothing: it gets it, and one pays.
    pub cpu_credits: Option<CpuCredits>,
    /// Addresses that are there already, one for each seat; empty: none.
    pub elastic_ips: Vec<ElasticIp>,
    /// The root disk, where it is to differ from the image's.
    pub root_disk: Disk,
    /// Disks beside it, made by the launch and ended with the instance, by their devices.
    pub disks: BTreeMap<String, Disk>,
    /// Volumes that are there already.
    pub attached: Vec<Attached>,
    /// On which of Amazon's machines.
    pub placement: Placement,
    /// Beside ours, on everything that a launch makes.
    pub tags: BTreeMap<String, String>,
    /// What the admin says types cost in this region.
    pub prices: Prices,
}

/// What an instance's root disk is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// `ami-…`
    Id(String),
    /// The newest image of these owners whose name fits the pattern.
    Newest {
        /// Account ids, `amazon`, `self`. Never empty: anybody can publish a name.
        owners: Vec<String>,
        /// With `*` and `?`.
        name: String,
    },
}

/// How instances are paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Market {
    /// At the list price.
    OnDemand,
    /// At the price of the moment; may be taken away.
    Spot,
    /// Spot while there is any.
    SpotThenOnDemand,
}

/// What a disk should be; nothing: as the image, the snapshot or EC2 says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// GiB.
    pub size_gb: Option<u32>,
    /// As in `gp3`.
    pub volume_type: Option<String>,
    /// Operations per second.
    pub iops: Option<u32>,
    /// MiB per second.
    pub throughput: Option<u32>,
    /// Whether what is on it is encrypted.
    pub encrypted: Option<bool>,
    /// With which key of KMS: an id, an ARN, or `alias/…`.
    pub kms_key: Option<String>,
    /// What is on it at first: `snap-…`.
    pub snapshot: Option<String>,
}

/// What becomes of a T type that wants more than its share of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuCredits {
    /// It is slowed down.
    Standard,
    /// It gets more, and one pays for it.
    Unlimited,
}

impl CpuCredits {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            CpuCredits::Standard => "standard",
            CpuCredits::Unlimited => "unlimited",
        }
    }
}

/// An address of the account's own. Never made, never given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElasticIp {
    /// Itself: `203.0.113.7`.
    Address(std::net::Ipv4Addr),
    /// By its allocation: `eipalloc-…`.
    Allocation(String),
}

impl std::fmt::Display for ElasticIp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ElasticIp::Address(address) => address.fmt(f),
            ElasticIp::Allocation(id) => id.fmt(f),
        }
    }
}

/// A volume that is there already, for each seat, and where an instance finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// `vol-…`, one for each seat.
    pub volumes: Vec<String>,
    /// As in `/dev/sdf`.
    pub device: String,
}

/// On which of Amazon's machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// As in `eu-west-1a`; nothing: the subnet's, or any.
    pub zone: Option<String>,
    /// With whom a machine is shared.
    pub tenancy: Option<Tenancy>,
    /// A placement group, by its name.
    pub group: Option<String>,
    /// Which part of a partition group.
    pub partition: Option<u32>,
    /// A dedicated host: `h-…`.
    pub host: Option<String>,
}

/// With whom one of Amazon's machines is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenancy {
    /// With anybody.
    Default,
    /// With nobody.
    Dedicated,
    /// It is one of our own.
    Host,
}

impl Tenancy {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Tenancy::Default => "default",
            Tenancy::Dedicated => "dedicated",
            Tenancy::Host => "host",
        }
    }
}

/// Whether a type has credits: T2, T3, T3a, T4g.
pub fn has_cpu_credits(instance_type: &str) -> bool {
    let family = instance_type.split('.').next().unwrap_or_default();
    family.strip_prefix('t').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// One way to ask: a type in a place, paid for in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// As in `c7i.xlarge`.
    pub instance_type: String,
    /// Nothing: the default subnet.
    pub subnet: Option<String>,
    /// Whether it is a spot instance.
    pub is_spot: bool,
}

impl Ec2Settings {
    /// How many instances can have all that is there before them; 0: nothing is.
    pub fn seats(&self) -> u32 {
        let volumes = self.attached.iter().map(|attached| attached.volumes.len());
        let addresses = (!self.elastic_ips.is_empty()).then_some(self.elastic_ips.len());
        let seats = volumes.chain(addresses).min().unwrap_or_default();
        u32::try_from(seats).unwrap_or(u32::MAX)
    }

    /// All ways to ask, the most preferred first: the market before the type before the place, so
    /// that money is saved first and the type an admin wants most is looked for everywhere.
    pub fn candidates(&self) -> Vec<Candidate> {
        let markets: &[bool] = match self.market {
            Market::OnDemand => &[false],
            Market::Spot => &[true],
            Market::SpotThenOnDemand => &[true, false],
        };
        let subnets: Vec<Option<String>> = match self.subnets.is_empty() {
            true => vec![None],
            false => self.subnets.iter().cloned().map(Some).collect(),
        };
        let mut candidates = Vec::new();
        for is_spot in markets {
            for instance_type in &self.instance_types {
                for subnet in &subnets {
                    candidates.push(Candidate {
                        instance_type: instance_type.clone(),
                        subnet: subnet.clone(),
                        is_spot: *is_spot,
                    });
                }
            }
        }
        candidates
    }
}

impl Candidate {
    /// As the domain sees it. Types of one letter share a quota, mostly: `c7i.xlarge` is of `c`.
    pub fn for_domain(&self) -> crate::master::domain::candidates::Candidate {
        let letters = self.instance_type.chars().take_while(char::is_ascii_alphabetic);
        crate::master::domain::candidates::Candidate {
            name: self.to_string(),
            kind: self.instance_type.clone(),
            family: letters.collect(),
            place: self.subnet.clone().unwrap_or_default(),
            is_spot: self.is_spot,
        }
    }
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.instance_type)?;
        if self.is_spot {
            f.write_str(" spot")?;
        }
        match &self.subnet {
            Some(subnet) => write!(f, " in {subnet}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::master::provisioner::ec2) fn sample() -> Ec2Settings {
        Ec2Settings {
            region: "eu-west-1".to_owned(),
            endpoint: None,
            credentials_file: None,
            profile: None,
            image: Image::Id("ami-1".to_owned()),
            instance_types: vec!["c7i.large".to_owned(), "c6i.large".to_owned()],
            subnets: vec!["subnet-a".to_owned(), "subnet-b".to_owned()],
            market: Market::SpotThenOnDemand,
            max_price: None,
            security_groups: vec!["sg-1".to_owned()],
            key_name: None,
            instance_profile: None,
            public_ip: None,
            ipv6: false,
            cpu_credits: None,
            elastic_ips: Vec::new(),
            root_disk: Disk::default(),
            disks: BTreeMap::new(),
            attached: Vec::new(),
            placement: Placement::default(),
            tags: BTreeMap::from([("team".to_owned(), "db".to_owned())]),
            prices: Prices::default(),
        }
    }

    #[test]
    fn a_pool_has_as_many_seats_as_it_has_of_what_it_has_least() {
        assert_eq!(sample().seats(), 0);
        let address = |last| ElasticIp::Address(std::net::Ipv4Addr::new(203, 0, 113, last));
        let elastic_ips = vec![address(7), address(8)];
        let settings = Ec2Settings { elastic_ips, ..sample() };
        assert_eq!(settings.seats(), 2);
        let device = "/dev/sdf".to_owned();
        let attached = vec![Attached { volumes: vec!["vol-1".to_owned()], device }];
        assert_eq!(Ec2Settings { attached, ..settings }.seats(), 1);
    }

    #[test]
    fn only_t_types_have_credits() {
        for (name, has) in [
            ("t3.small", true),
            ("t4g.nano", true),
            ("t2.micro", true),
            ("c7i.large", false),
            ("trn1.2xlarge", false),
            ("", false),
        ] {
            assert_eq!(has_cpu_credits(name), has, "{name}");
        }
    }

    #[test]
    fn candidates_come_in_the_order_in_which_an_admin_would_try_them() {
        let names: Vec<String> = sample().candidates().iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "c7i.large spot in subnet-a",
                "c7i.large spot in subnet-b",
                "c6i.large spot in subnet-a",
                "c6i.large spot in subnet-b",
                "c7i.large in subnet-a",
                "c7i.large in subnet-b",
                "c6i.large in subnet-a",
                "c6i.large in subnet-b",
            ]
        );
    }
}
