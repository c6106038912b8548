//! What a pool chooses: its image and its types, and whether they go together, are offered where they
//! would be asked for, are known by their price, and are allowed in that number.

use std::collections::BTreeSet;

use crate::master::provisioner::Finding;
use crate::master::provisioner::ec2::Ec2Provisioner;
use crate::master::provisioner::ec2::answers::FoundImage;
use crate::master::provisioner::ec2::doctor::Circumstances;
use crate::master::provisioner::ec2::doctor::POLICY;
use crate::master::provisioner::ec2::doctor::answers::ImageDetail;
use crate::master::provisioner::ec2::doctor::answers::ImageDetails;
use crate::master::provisioner::ec2::doctor::answers::InstanceType;
use crate::master::provisioner::ec2::doctor::answers::InstanceTypes;
use crate::master::provisioner::ec2::doctor::answers::Offerings;
use crate::master::provisioner::ec2::doctor::answers::ServiceQuota;
use crate::master::provisioner::ec2::doctor::network::Places;
use crate::master::provisioner::ec2::error::ErrorClass;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::settings::Market;

/// What a new account may run at one time, about, in vCPUs.
const NEW_ACCOUNT_VCPUS: u32 = 5;

/// Families of which the vCPUs are counted together (EC2 user guide, "Quotas": "Standard").
const STANDARD: &str = "acdhimrtz";

/// Service Quotas' codes for those, on demand and spot.
const QUOTAS: [(&str, &str); 2] = [("on-demand", "L-1216C47A"), ("spot", "L-34B43A08")];

impl Ec2Provisioner {
    /// What else the image is like.
    pub(super) async fn image_details(&self, image: &FoundImage) -> Option<ImageDetail> {
        let query = Query::new("DescribeImages").with_list("ImageId", [image.image_id.as_str()]);
        let details = self.ask::<ImageDetails>(&query).await.ok()?;
        details.images_set.item.into_iter().next()
    }

    /// Everything about the image and the types.
    pub(super) async fn choices(
        &self,
        image: &FoundImage,
        places: &Places,
        around: &Circumstances,
    ) -> Vec<Finding> {
        let mut found = about_agent(image, around);
        let names = self.settings.instance_types.iter().map(String::as_str);
        let query = Query::new("DescribeInstanceTypes").with_list("InstanceType", names);
        let (details, known, offered) = tokio::join!(
            self.image_details(image),
            self.ask::<InstanceTypes>(&query),
            self.offered(places),
        );
        let known = match known {
            Ok(known) => known.instance_type_set.item,
            Err(error) => {
                let fix = "name types of this region, as `aws ec2 describe-instance-types` lists";
                found.push(Finding::bad(error.sentence, fix));
                return found;
            }
        };
        let details = details.unwrap_or_default();
        found.extend(about_image_details(image, &details));
        for instance_type in &known {
            found.extend(about_type(instance_type, image, &details, self.settings.market));
        }
        found.extend(offered);
        found.extend(self.quotas(&known, around).await);
        found
    }

    /// Types that are not to be had where they would be asked for.
    async fn offered(&self, places: &Places) -> Vec<Finding> {
        let zones: BTreeSet<&str> =
            places.subnets.iter().map(|subnet| subnet.availability_zone.as_str()).collect();
        if zones.is_empty() {
            return Vec::new();
        }
        let types: Vec<&str> = self.settings.instance_types.iter().map(String::as_str).collect();
        let query = Query::new("DescribeInstanceTypeOfferings")
            .with("LocationType", "availability-zone")
            .with_filter(1, "instance-type", &types);
        let offered = match self.ask::<Offerings>(&query).await {
            Ok(offered) => offered.instance_type_offering_set.item,
            Err(error) => return vec![Finding::bad(error.sentence, POLICY)],
        };
        let mut found = Vec::new();
        for name in types {
            let is_in = |zone: &&str| {
                offered.iter().any(|offer| offer.instance_type == name && offer.location == *zone)
            };
            let lacking: Vec<&str> = zones.iter().copied().filter(|zone| !is_in(zone)).collect();
            if lacking.len() == zones.len() {
                found.push(Finding::bad(
                    format!("{name} is offered in none of the zones: {}", lacking.join(", ")),
                    "take another type, or subnets of other zones",
                ));
            } else if !places.are_default {
                found.extend(lacking.into_iter().map(|zone| {
                    Finding::doubtful(
                        format!("{name} is not offered in {zone}"),
                        "that pair is tried and skipped each day; another subnet or type saves it",
                    )
                }));
            }
        }
        found
    }

    /// Whether the account may have as many as the pool may start.
    async fn quotas(&self, types: &[InstanceType], around: &Circumstances) -> Vec<Finding> {
        let is_standard = |one: &&InstanceType| {
            one.instance_type.chars().next().is_some_and(|letter| STANDARD.contains(letter))
        };
        let standard = types.iter().filter(is_standard);
        let Some(largest) = standard.max_by_key(|one| one.v_cpu_info.default_v_cpus) else {
            return Vec::new();
        };
        let markets: &[usize] = match self.settings.market {
            Market::OnDemand => &[0],
            Market::Spot => &[1],
            Market::SpotThenOnDemand => &[1, 0],
        };
        let mut found = Vec::new();
        for (market, code) in markets.iter().filter_map(|index| QUOTAS.get(*index)) {
            found.extend(self.quota(largest, market, code, around).await);
        }
        found
    }

    async fn quota(
        &self,
        largest: &InstanceType,
        market: &str,
        code: &str,
        around: &Circumstances,
    ) -> Option<Finding> {
        let (name, each) = (&largest.instance_type, largest.v_cpu_info.default_v_cpus);
        let wanted = each.saturating_mul(around.max_instances);
        if wanted == 0 {
            return None;
        }
        let sum = format!("{} × {name} ({market}) are {wanted} vCPUs", around.max_instances);
        let fix = format!(
            "ask for more under Service Quotas (EC2, {code}) in {}, or lower max_instances",
            self.settings.region
        );
        let asked = serde_json::json!({ "ServiceCode": "ec2", "QuotaCode": code });
        let answer = self.ask_service_quotas::<ServiceQuota>("GetServiceQuota", &asked).await;
        let quota = match answer {
            Ok(answer) => answer.quota.value,
            Err(error) if error.class == ErrorClass::Denied => {
                let what = format!("{sum}, and the account's quota may not be read: {error}");
                return Some(Finding::doubtful(what, POLICY));
            }
            Err(_) if wanted <= NEW_ACCOUNT_VCPUS => return None,
            Err(_) => {
                let what = format!(
                    "{sum}, and the account's quota is not known: a new account has about {NEW_ACCOUNT_VCPUS}"
                );
                return Some(Finding::doubtful(what, &fix));
            }
        };
        let what = format!("{sum}, and the account's quota is {quota}");
        Some(if quota < f64::from(each) {
            Finding::bad(what, &fix)
        } else if quota < f64::from(wanted) {
            Finding::doubtful(what, &fix)
        } else {
            Finding::good(what)
        })
    }
}

/// Whether there is an agent for the image's architecture.
fn about_agent(image: &FoundImage, around: &Circumstances) -> Vec<Finding> {
    let machine = match image.architecture.as_str() {
        "arm64" => "aarch64",
        other => other,
    };
    if machine.is_empty() || around.architectures.iter().any(|known| known == machine) {
        return Vec::new();
    }
    let there = match around.architectures.as_slice() {
        [] => "there is none at all".to_owned(),
        some => format!("there is one for {}", some.join(", ")),
    };
    let what = format!("no agent is here for {machine}, which the image is for: {there}");
    vec![Finding::bad(
        what,
        "put busybee-agent-ARCHITECTURE beside busybee or into agent_dir; deploy/build-agents makes them",
    )]
}

fn about_image_details(image: &FoundImage, details: &ImageDetail) -> Vec<Finding> {
    let mut found = Vec::new();
    let id = &image.image_id;
    if details.block_device_mapping.item.iter().any(|disk| disk.ebs.encrypted) {
        found.push(Finding::doubtful(
            format!("image {id} is encrypted"),
            "if by a key of your own, let the master use it, as docs/ec2.md shows: without, instances end \
             at once with Client.InternalError",
        ));
    }
    if let Some(at) = &details.deprecation_time
        && at.as_str() < crate::runtime::clock::now().to_string().as_str()
    {
        found.push(Finding::doubtful(
            format!("image {id} is deprecated since {at}"),
            "take a newer one: its owner mends this one no more",
        ));
    }
    found
}

fn about_type(
    it: &InstanceType,
    image: &FoundImage,
    details: &ImageDetail,
    market: Market,
) -> Vec<Finding> {
    let name = &it.instance_type;
    let of_type = it.processor_info.supported_architectures.item.as_slice();
    let mut found = vec![match of_type.is_empty() || of_type.contains(&image.architecture) {
        true => Finding::good(format!("{name} runs images for {}", image.architecture)),
        false => Finding::bad(
            format!("{name} is for {}, the image for {}", of_type.join(", "), image.architecture),
            "take another type, or an image of its architecture",
        ),
    }];
    if details.ena_support == Some(false) && it.network_info.ena_support == "required" {
        found.push(Finding::bad(
            format!("{name} needs an image with ENA, and {} is registered without", image.image_id),
            "take another image, or an older type",
        ));
    }
    let classes = it.supported_usage_classes.item.as_slice();
    let wants_spot = market != Market::OnDemand;
    if wants_spot && !classes.is_empty() && !classes.iter().any(|class| class == "spot") {
        found.push(Finding::doubtful(
            format!("{name} is not sold as spot"),
            "take another type: this one is tried and skipped",
        ));
    }
    if it.burstable_performance_supported {
        found.push(Finding::doubtful(
            format!("{name} works at full speed only while it has credits, which a new instance has few of"),
            "builds want types of c or m; else mind that t3 and t4g bill what they use beyond their credits",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(architecture: &str) -> FoundImage {
        let xml = format!(
            "<item><imageId>ami-1</imageId><architecture>{architecture}</architecture></item>"
        );
        quick_xml::de::from_str(&xml).expect("it is an image")
    }

    #[test]
    fn an_image_needs_an_agent_of_its_architecture() {
        let around = |known: &[&str]| Circumstances {
            architectures: known.iter().map(|one| (*one).to_owned()).collect(),
            ..Circumstances::default()
        };
        assert!(about_agent(&image("x86_64"), &around(&["x86_64"])).is_empty());
        assert!(about_agent(&image("arm64"), &around(&["aarch64"])).is_empty());
        let found = about_agent(&image("arm64"), &around(&["x86_64"]));
        assert!(found[0].what.contains("for aarch64") && found[0].what.contains("one for x86_64"));
        assert_eq!(about_agent(&image("x86_64"), &around(&[])).len(), 1);
    }
}
