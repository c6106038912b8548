//! What only the cloud knows of a pool's addresses, volumes, groups and IPv6: whether they are there, in
//! zones that fit, and nobody else's.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::master::provisioner::Finding;
use crate::master::provisioner::LaunchError;
use crate::master::provisioner::ec2::Ec2Provisioner;
use crate::master::provisioner::ec2::answers::Instance;
use crate::master::provisioner::ec2::answers::InstancesPage;
use crate::master::provisioner::ec2::belongings::SubnetPlace;
use crate::master::provisioner::ec2::doctor::WOULD_WORK;
use crate::master::provisioner::ec2::error::CallError;
use crate::master::provisioner::ec2::error::ErrorClass;
use crate::master::provisioner::ec2::instances_of;
use crate::master::provisioner::ec2::kept::KeptVolume;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::run_instances;
use crate::master::provisioner::ec2::surroundings::GROUP_ID;

/// The part of the policy that is about it.
const POLICY: &str = "give the master's role or user the statements GiveWhatIsOurs and AddressesAndVolumes \
                      of deploy/iam-policy.json, with your addresses and volumes";

impl Ec2Provisioner {
    /// Looks at what is to belong to instances, where anything is.
    pub(super) async fn belongings_found(&self) -> Vec<Finding> {
        let mut all = Vec::new();
        let found = &mut all;
        let subnets = self.places(found).await;
        self.group_names(&subnets, found).await;
        self.ipv6_of(&subnets, found);
        self.addresses_of_pool(found).await;
        self.volumes_of_pool(&subnets, found).await;
        self.permission_to_give(found).await;
        all
    }

    /// Where the pool's subnets are, if that is asked for by anything.
    async fn places(&self, found: &mut Vec<Finding>) -> Vec<SubnetPlace> {
        let settings = &self.settings;
        let has_names = settings.security_groups.iter().any(|group| !group.starts_with(GROUP_ID));
        let is_wanted = has_names || settings.ipv6 || !settings.attached.is_empty();
        if !is_wanted || settings.subnets.is_empty() {
            return Vec::new();
        }
        let ids: Vec<&str> = settings.subnets.iter().map(String::as_str).collect();
        match self.subnet_places(&ids).await {
            Ok(places) => places,
            Err(LaunchError { sentence, .. }) => {
                found.push(Finding::bad(sentence, "name subnets of this region"));
                Vec::new()
            }
        }
    }

    /// A name must mean one group in the VPC of each subnet.
    async fn group_names(&self, subnets: &[SubnetPlace], found: &mut Vec<Finding>) {
        let names = self.settings.security_groups.iter();
        let names: Vec<&str> =
            names.map(String::as_str).filter(|group| !group.starts_with(GROUP_ID)).collect();
        if names.is_empty() {
            return;
        }
        let vpcs: BTreeSet<&str> = subnets.iter().map(|subnet| subnet.vpc_id.as_str()).collect();
        let vpcs: Vec<Option<&str>> = match vpcs.is_empty() {
            true => vec![None],
            false => vpcs.into_iter().map(Some).collect(),
        };
        for vpc in vpcs {
            let place = vpc.map(|vpc| format!(" in {vpc}")).unwrap_or_default();
            found.push(match self.group_ids(vpc).await {
                Ok(ids) => {
                    let (names, ids) = (names.join(", "), ids.join(", "));
                    Finding::good(format!("the security groups {names}{place} are there: {ids}"))
                }
                Err(why) => Finding::bad(
                    format!("{}{place}", why.sentence),
                    "name groups of the VPC that the subnets are in, or write their ids",
                ),
            });
        }
    }

    fn ipv6_of(&self, subnets: &[SubnetPlace], found: &mut Vec<Finding>) {
        if !self.settings.ipv6 {
            return;
        }
        for subnet in subnets {
            let id = &subnet.subnet_id;
            found.push(match subnet.has_ipv6() {
                true => Finding::good(format!("{id} has IPv6")),
                false => Finding::bad(
                    format!("ipv6 = true, and {id} has no IPv6 block"),
                    "associate one with the subnet and its VPC, name another subnet, or take ipv6 out",
                ),
            });
        }
    }

    async fn addresses_of_pool(&self, found: &mut Vec<Finding>) {
        for wanted in &self.settings.elastic_ips {
            let address = match self.address(wanted).await {
                Ok(address) => address,
                Err(why) => {
                    let fix = "allocate it in this region, or name one that is; see `elastic_ip`";
                    found.push(Finding::bad(why.sentence, fix));
                    continue;
                }
            };
            let holder = match address.holder() {
                Some(holder) => self.stranger(holder).await,
                None => None,
            };
            found.push(match holder {
                None => Finding::good(format!("the elastic IP {} is there", address.public_ip)),
                Some(holder) => Finding::bad(
                    format!(
                        "{} is taken by {holder}, which is none of this master's",
                        address.public_ip
                    ),
                    "disassociate it, or name another: nothing is taken from others",
                ),
            });
        }
    }

    async fn volumes_of_pool(&self, subnets: &[SubnetPlace], found: &mut Vec<Finding>) {
        let mut zones_of_seat: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for attached in &self.settings.attached {
            for (seat, id) in attached.volumes.iter().enumerate() {
                let wanted = KeptVolume { id: id.clone(), device: attached.device.clone() };
                let volume = match self.volumes(std::slice::from_ref(&wanted)).await {
                    Ok(volumes) => volumes.into_iter().next(),
                    Err(why) => {
                        let fix = "name volumes of this region; see `attach_volumes`";
                        found.push(Finding::bad(why.sentence, fix));
                        continue;
                    }
                };
                let Some(volume) = volume else { continue };
                let zone = volume.availability_zone.clone();
                let holder = match volume.attachment() {
                    Some(attachment) => self.stranger(&attachment.instance_id).await,
                    None => None,
                };
                found.push(match (holder, volume.status.as_str()) {
                    (Some(holder), _) => Finding::bad(
                        format!("{id} is attached to {holder}, which is none of this master's"),
                        "detach it, or name another: nothing is taken from others",
                    ),
                    (None, "available" | "in-use") => {
                        Finding::good(format!("volume {id} is there, in {zone}"))
                    }
                    (None, status) => {
                        Finding::bad(format!("volume {id} is {status}"), "name another volume")
                    }
                });
                zones_of_seat.entry(seat).or_default().insert(zone);
            }
        }
        for zones in zones_of_seat.into_values().collect::<BTreeSet<_>>() {
            found.extend(self.about_zones(&zones, subnets));
        }
    }

    /// Whether an instance could be where one instance's volumes are.
    fn about_zones(&self, zones: &BTreeSet<String>, subnets: &[SubnetPlace]) -> Vec<Finding> {
        let all: Vec<&str> = zones.iter().map(String::as_str).collect();
        let [zone] = all.as_slice() else {
            let what = format!("volumes of one instance are in {}", all.join(" and "));
            return vec![Finding::bad(what, "an instance is in one zone: name volumes of one")];
        };
        if let Some(placed) = self.settings.placement.zone.as_ref().filter(|placed| placed != zone)
        {
            let what = format!("the pool is placed in {placed}, and its volumes are in {zone}");
            return vec![Finding::bad(what, "write the volumes' zone, or take zone out")];
        }
        let is_there = |subnet: &&SubnetPlace| subnet.availability_zone == *zone;
        if !subnets.is_empty() && !subnets.iter().any(|subnet| is_there(&subnet)) {
            let what = format!("no subnet of the pool is in {zone}, where its volumes are");
            return vec![Finding::bad(what, "name a subnet of that zone")];
        }
        let others = subnets.iter().filter(|subnet| !is_there(subnet));
        let others = others.map(|SubnetPlace { subnet_id, availability_zone, .. }| {
            Finding::doubtful(
                format!("{subnet_id} is in {availability_zone}, and volumes are in {zone}"),
                "an instance with those volumes is never started there: take the subnet out",
            )
        });
        others.collect()
    }

    /// Who holds something, if that is no instance of this master's.
    async fn stranger(&self, holder: &str) -> Option<String> {
        let query = self.of_this_master().with_filter(2, "instance-id", &[holder]);
        let found = self.client.call::<InstancesPage>(&query).await;
        let is_ours = found.is_ok_and(|page| instances_of(page).next().is_some());
        (!is_ours).then(|| holder.to_owned())
    }

    fn of_this_master(&self) -> Query {
        let tag = format!("tag:{}", run_instances::TAG_MASTER);
        Query::new("DescribeInstances").with_filter(1, &tag, &[&self.master])
    }

    /// Tags allow it, so only an instance that carries them can tell.
    async fn permission_to_give(&self, found: &mut Vec<Finding>) {
        let volume = self.settings.attached.iter().find_map(|attached| {
            let id = attached.volumes.first()?;
            Some(Query::new("AttachVolume").with("VolumeId", id).with("Device", &attached.device))
        });
        let mut dry_runs: Vec<(&str, Query)> = Vec::new();
        dry_runs.extend(volume.map(|query| ("attach volumes", query)));
        if let Some(wanted) = self.settings.elastic_ips.first()
            && let Ok(address) = self.address(wanted).await
        {
            let query = Query::new("AssociateAddress")
                .with("AllocationId", &address.allocation_id)
                .with("AllowReassociation", "false");
            dry_runs.push(("associate addresses", query));
        }
        if dry_runs.is_empty() {
            return;
        }
        let query = self.of_this_master().with_filter(2, "instance-state-name", &["running"]);
        let page = self.client.call::<InstancesPage>(&query).await;
        let instance: Option<Instance> = page.ok().and_then(|page| instances_of(page).next());
        let Some(instance) = instance else {
            let what = "whether the master may give instances addresses and volumes shows only on one \
                        that is there";
            return found.push(Finding::good(what.to_owned()));
        };
        for (what, query) in dry_runs {
            let query = query.with("InstanceId", &instance.instance_id).with("DryRun", "true");
            let answer = self.client.call::<serde::de::IgnoredAny>(&query).await;
            found.push(about(what, answer.map(drop)));
        }
    }
}

fn about(what: &str, answer: Result<(), CallError>) -> Finding {
    match answer {
        Err(error) if error.class == ErrorClass::Denied => Finding::bad(error.sentence, POLICY),
        Err(error) if error.code != WOULD_WORK => {
            Finding::doubtful(error.sentence, "this is the request that a launch would send")
        }
        Ok(()) | Err(_) => Finding::good(format!("the master may {what} (dry run)")),
    }
}
