//! `[pool.ec2]` as it is meant. `config/ec2.rs` makes it of the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

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
    /// Ids; empty: the VPC's default group.
    pub security_groups: Vec<String>,
    /// A key pair for `ssh`, where an admin wants to look.
    pub key_name: Option<String>,
    /// The name of a role's instance profile.
    pub instance_profile: Option<String>,
    /// Whether they have a public address; default: what the subnet says.
    pub public_ip: Option<bool>,
    /// The root disk, where it is to differ from the image's.
    pub root_disk: RootDisk,
    /// Beside ours, on everything that a launch makes.
    pub tags: BTreeMap<String, String>,
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

/// What the root disk should be; nothing: as the image says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootDisk {
    /// GiB.
    pub size_gb: Option<u32>,
    /// As in `gp3`.
    pub volume_type: Option<String>,
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
            root_disk: RootDisk::default(),
            tags: BTreeMap::from([("team".to_owned(), "db".to_owned())]),
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
