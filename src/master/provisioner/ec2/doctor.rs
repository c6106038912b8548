//! Asks EC2 whether a pool's settings would work, before anything is paid for.
//!
//! A dry run of the real request proves permission, and that the request is well formed; it proves
//! neither capacity nor quota. What is joined here by hand (image, types, zones) it does not tell.

use std::collections::BTreeSet;

use crate::master::provisioner::Finding;
use crate::master::provisioner::PrepareOrder;
use crate::master::provisioner::ec2::Ec2Provisioner;
use crate::master::provisioner::ec2::answers::FoundImage;
use crate::master::provisioner::ec2::answers::Groups;
use crate::master::provisioner::ec2::answers::InstanceTypes;
use crate::master::provisioner::ec2::answers::InstancesPage;
use crate::master::provisioner::ec2::answers::Offerings;
use crate::master::provisioner::ec2::answers::Subnet;
use crate::master::provisioner::ec2::answers::Subnets;
use crate::master::provisioner::ec2::error::CallError;
use crate::master::provisioner::ec2::error::ErrorClass;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::run_instances;
use crate::master::provisioner::ec2::surroundings::GROUP_ID;

/// What EC2 answers a dry run that would have worked.
const WOULD_WORK: &str = "DryRunOperation";

/// AWS refuses requests whose time is further off than this (IAM user guide, "Signature Version 4").
const CLOCK_MAX_SECS: i64 = 5 * 60;

/// Part of that after which one should look.
const CLOCK_WARN_SECS: i64 = 30;

/// Ways to launch that are tried dry, at most: each is a request, and EC2 counts them.
const DRY_RUNS_MAX: usize = 12;

/// The policy that comes with Busybee.
const POLICY: &str = "give the master's role or user what deploy/iam-policy.json says";

impl Ec2Provisioner {
    /// Looks at everything that a launch needs. `order` is what would be launched.
    pub async fn examine(&self, order: PrepareOrder) -> Vec<Finding> {
        let mut found = vec![self.clock().await];
        let image = match self.image().await {
            Ok(image) => {
                found.push(about_image(&image));
                image
            }
            Err(error) => {
                found.push(Finding::bad(error.sentence, image_fix(error.class)));
                return found;
            }
        };
        found.extend(self.listing().await);
        let subnets = self.subnets(&mut found).await;
        self.types(&image, &subnets, &mut found).await;
        found.extend(self.groups().await);
        self.examine_belongings(&mut found).await;
        found.extend(self.dry_runs(order).await);
        found.extend(self.endings().await);
        found
    }

    async fn clock(&self) -> Finding {
        match self.client.clock_ahead_secs().await {
            Err(error) => Finding::bad(
                error.sentence,
                "see whether this machine reaches EC2: a route, DNS, outbound 443",
            ),
            Ok(None) => Finding::good("EC2 answers".to_owned()),
            Ok(Some(ahead)) if ahead.abs() > CLOCK_MAX_SECS => Finding::bad(
                format!("this machine's clock is {ahead} s ahead of EC2's, which refuses that"),
                "set the clock, and keep it right with NTP",
            ),
            Ok(Some(ahead)) if ahead.abs() > CLOCK_WARN_SECS => Finding::doubtful(
                format!("this machine's clock is {ahead} s ahead of EC2's"),
                "keep it right with NTP: beyond 5 minutes EC2 refuses every request",
            ),
            Ok(Some(ahead)) => {
                Finding::good(format!("EC2 answers, and the clocks agree within {} s", ahead.abs()))
            }
        }
    }

    async fn listing(&self) -> Option<Finding> {
        let query = Query::new("DescribeInstances")
            .with_filter(1, &format!("tag:{}", run_instances::TAG_MASTER), &[&self.master])
            .with("MaxResults", "5");
        match self.client.call::<InstancesPage>(&query).await {
            Ok(_) => Some(Finding::good("the master may list instances".to_owned())),
            Err(error) => Some(Finding::bad(error.sentence, POLICY)),
        }
    }

    async fn subnets(&self, found: &mut Vec<Finding>) -> Vec<Subnet> {
        if self.settings.subnets.is_empty() {
            let what = "no subnets are named: EC2 chooses one of the default VPC".to_owned();
            found.push(Finding::good(what));
            return Vec::new();
        }
        let ids = self.settings.subnets.iter().map(String::as_str);
        let query = Query::new("DescribeSubnets").with_list("SubnetId", ids);
        let subnets = match self.client.call::<Subnets>(&query).await {
            Ok(subnets) => subnets.subnet_set.item,
            Err(error) => {
                let fix = "name subnets of this region, and let the master describe them";
                found.push(Finding::bad(error.sentence, fix));
                return Vec::new();
            }
        };
        for subnet in &subnets {
            let (id, zone) = (&subnet.subnet_id, &subnet.availability_zone);
            let free = subnet.available_ip_address_count;
            let is_public = self.settings.public_ip.unwrap_or(subnet.map_public_ip_on_launch);
            found.push(match (free, is_public) {
                (0, _) => Finding::bad(
                    format!("{id} in {zone} has no free address"),
                    "name another subnet, or make room in this one",
                ),
                (_, true) => Finding::good(format!("{id} in {zone} has {free} free addresses")),
                (_, false) => Finding::doubtful(
                    format!("instances in {id} ({zone}) get no public address"),
                    "they need a NAT gateway to reach package archives, and a route to the master; \
                     or set public_ip = true",
                ),
            });
        }
        subnets
    }

    /// Whether each type exists, fits the image, and is offered where it would be asked for.
    async fn types(&self, image: &FoundImage, subnets: &[Subnet], found: &mut Vec<Finding>) {
        let names = self.settings.instance_types.iter().map(String::as_str);
        let query = Query::new("DescribeInstanceTypes").with_list("InstanceType", names.clone());
        let known = match self.client.call::<InstanceTypes>(&query).await {
            Ok(known) => known.instance_type_set.item,
            Err(error) => {
                let fix = "name types of this region, as `aws ec2 describe-instance-types` lists";
                return found.push(Finding::bad(error.sentence, fix));
            }
        };
        for instance_type in &known {
            let of_type = instance_type.processor_info.as_ref();
            let of_type = of_type.map(|info| info.supported_architectures.item.as_slice());
            let of_type = of_type.unwrap_or_default();
            let name = &instance_type.instance_type;
            found.push(match of_type.is_empty() || of_type.contains(&image.architecture) {
                true => Finding::good(format!("{name} runs images for {}", image.architecture)),
                false => Finding::bad(
                    format!(
                        "{name} is for {}, the image for {}",
                        of_type.join(", "),
                        image.architecture
                    ),
                    "take another type, or an image of its architecture",
                ),
            });
        }
        let zones: BTreeSet<&str> =
            subnets.iter().map(|subnet| subnet.availability_zone.as_str()).collect();
        if zones.is_empty() {
            return;
        }
        let types: Vec<&str> = names.collect();
        let query = Query::new("DescribeInstanceTypeOfferings")
            .with("LocationType", "availability-zone")
            .with_filter(1, "instance-type", &types);
        let offered = match self.client.call::<Offerings>(&query).await {
            Ok(offered) => offered.instance_type_offering_set.item,
            Err(error) => return found.push(Finding::bad(error.sentence, POLICY)),
        };
        for name in types {
            for zone in &zones {
                let is_offered = offered
                    .iter()
                    .any(|offer| offer.instance_type == name && offer.location == *zone);
                if !is_offered {
                    found.push(Finding::doubtful(
                        format!("{name} is not offered in {zone}"),
                        "that pair is tried and skipped each day; another subnet or type saves it",
                    ));
                }
            }
        }
    }

    async fn groups(&self) -> Vec<Finding> {
        if self.settings.security_groups.is_empty() {
            return vec![Finding::doubtful(
                "no security groups are named: instances get the VPC's default one".to_owned(),
                "name one without inbound rules, as docs/ec2.md shows",
            )];
        }
        let ids = self.settings.security_groups.iter().map(String::as_str);
        let ids: Vec<&str> = ids.filter(|group| group.starts_with(GROUP_ID)).collect();
        if ids.is_empty() {
            return Vec::new();
        }
        let query = Query::new("DescribeSecurityGroups").with_list("GroupId", ids);
        let groups = match self.client.call::<Groups>(&query).await {
            Ok(groups) => groups.security_group_info.item,
            Err(error) => {
                return vec![Finding::bad(error.sentence, "name groups of this region and VPC")];
            }
        };
        let about = |id: String, is_open: bool| match is_open {
            false => Finding::good(format!("{id} lets nothing in")),
            true => Finding::doubtful(
                format!("{id} has inbound rules"),
                "workers need none: they call the master",
            ),
        };
        let groups = groups.into_iter();
        groups.map(|group| about(group.group_id, !group.ip_permissions.item.is_empty())).collect()
    }

    /// The real requests, with `DryRun`: each way to launch is one.
    async fn dry_runs(&self, order: PrepareOrder) -> Vec<Finding> {
        let mut found = Vec::new();
        for (number, candidate) in (0u32..).zip(self.candidates.iter().take(DRY_RUNS_MAX)) {
            let order = PrepareOrder { candidate: number, ..order.clone() };
            found.push(self.dry_run(&format!("launch {candidate}"), order).await);
        }
        let left_out = self.candidates.len().saturating_sub(DRY_RUNS_MAX);
        if left_out > 0 {
            found.push(Finding::good(format!("{left_out} more ways to launch were not tried")));
        }
        found
    }

    async fn dry_run(&self, what: &str, order: PrepareOrder) -> Finding {
        let launch = match self.prepare_now(order).await {
            Ok(prepared) => serde_json::from_str::<Query>(&prepared.request),
            Err(error) => return Finding::bad(error.sentence, POLICY),
        };
        let launch = launch.map_err(|why| why.to_string());
        match launch.and_then(|query| run_instances::ready(query, str::to_owned)) {
            Err(why) => Finding::bad(why, "shorten what the pool adds to the user-data"),
            Ok(query) => {
                let answer = self.client.call(&query.with("DryRun", "true")).await;
                about_dry_run(what, answer)
            }
        }
    }

    /// Whether instances may be ended, and their consoles read: tags allow it, so only an instance that
    /// carries them can tell.
    async fn endings(&self) -> Vec<Finding> {
        let query = Query::new("DescribeInstances")
            .with_filter(1, "tag-key", &[run_instances::TAG_MASTER])
            .with_filter(2, "instance-state-name", &["pending", "running", "stopping", "stopped"])
            .with("MaxResults", "5");
        let page = match self.client.call::<InstancesPage>(&query).await {
            Ok(page) => page,
            // The listing of our own was told already.
            Err(_) => return Vec::new(),
        };
        let mut instances =
            page.reservation_set.item.into_iter().flat_map(|r| r.instances_set.item);
        let Some(instance) = instances.next() else {
            let what = "whether the master may end instances shows only on one that is there";
            return vec![Finding::good(format!("{what}: --launch tries it"))];
        };
        let mut found = Vec::new();
        for (action, what, id) in [
            ("TerminateInstances", "end instances", "InstanceId.1"),
            ("GetConsoleOutput", "read their consoles", "InstanceId"),
        ] {
            let query = Query::new(action).with(id, &instance.instance_id).with("DryRun", "true");
            found.push(about_dry_run(what, self.client.call(&query).await));
        }
        found
    }
}

fn about_image(image: &FoundImage) -> Finding {
    let FoundImage { image_id, name, architecture, image_state, .. } = image;
    if image_state != "available" && !image_state.is_empty() {
        let what = format!("image {image_id} is {image_state}");
        return Finding::bad(what, "take one that is available");
    }
    Finding::good(format!("image {image_id} ({name}) is there, for {architecture}"))
}

fn image_fix(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Denied | ErrorClass::Expired => {
            "give the master credentials: an instance role is best; see docs/ec2.md"
        }
        _ => "name an image of this region; see `ami` in docs/ec2.md",
    }
}

fn about_dry_run(what: &str, answer: Result<serde::de::IgnoredAny, CallError>) -> Finding {
    match answer {
        Ok(_) => Finding::good(format!("the master may {what}")),
        Err(error) if error.code == WOULD_WORK => {
            Finding::good(format!("the master may {what} (dry run)"))
        }
        Err(error) if error.class == ErrorClass::Denied => Finding::bad(error.sentence, POLICY),
        Err(error) => {
            let fix = "this is the request that a launch would send; see the pool's settings";
            Finding::bad(error.sentence, fix)
        }
    }
}
