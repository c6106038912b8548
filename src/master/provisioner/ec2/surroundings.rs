//! Where a candidate's instance would stand: the ids of its security groups, and a zone that fits both
//! its subnet and its volumes. Looked up for each launch, as names may come to mean something else.

use crate::master::domain::event::LaunchFailure;
use crate::master::provisioner::LaunchError;
use crate::master::provisioner::ec2::Ec2Provisioner;
use crate::master::provisioner::ec2::belongings::NamedGroup;
use crate::master::provisioner::ec2::belongings::NamedGroups;
use crate::master::provisioner::ec2::belongings::SubnetPlace;
use crate::master::provisioner::ec2::belongings::SubnetPlaces;
use crate::master::provisioner::ec2::launch_error;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::settings::Candidate;

/// How an id of a security group begins; whatever else is a name.
pub(super) const GROUP_ID: &str = "sg-";

/// Where an instance will stand.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// Ids; empty: the VPC's default group.
    pub(super) groups: Vec<String>,
    /// Where its volumes are, where no subnet says so.
    pub(super) zone: Option<String>,
}

impl Ec2Provisioner {
    /// Settles it; `zone` is that of what belongs to the instance.
    pub(super) async fn surroundings(
        &self,
        candidate: &Candidate,
        zone: Option<String>,
    ) -> Result<Surroundings, LaunchError> {
        let has_names = self.settings.security_groups.iter().any(|one| !one.starts_with(GROUP_ID));
        let subnet = match &candidate.subnet {
            Some(id) if has_names || zone.is_some() => Some(self.subnet(id).await?),
            Some(_) | None => None,
        };
        let wrong = |failure, sentence| LaunchError { sentence, failure };
        if let (Some(subnet), Some(zone)) = (&subnet, &zone)
            && subnet.availability_zone != *zone
        {
            let SubnetPlace { subnet_id, availability_zone, .. } = subnet;
            let sentence =
                format!("{subnet_id} is in {availability_zone}, the pool's volumes are in {zone}");
            return Err(wrong(LaunchFailure::Unsupported, sentence));
        }
        if let (Some(wanted), Some(zone)) = (&self.settings.placement.zone, &zone)
            && wanted != zone
        {
            let sentence = format!("the pool is placed in {wanted}, its volumes are in {zone}");
            return Err(wrong(LaunchFailure::Invalid, sentence));
        }
        let vpc = subnet.as_ref().map(|subnet| subnet.vpc_id.as_str());
        let groups = self.group_ids(vpc).await?;
        let zone = zone.filter(|_| candidate.subnet.is_none());
        Ok(Surroundings { groups, zone })
    }

    /// The ids of the pool's security groups. Names are looked for in one VPC, where that is known.
    pub(super) async fn group_ids(&self, vpc: Option<&str>) -> Result<Vec<String>, LaunchError> {
        let wanted = &self.settings.security_groups;
        let names: Vec<&str> = wanted
            .iter()
            .map(String::as_str)
            .filter(|group| !group.starts_with(GROUP_ID))
            .collect();
        if names.is_empty() {
            return Ok(wanted.clone());
        }
        let mut query = Query::new("DescribeSecurityGroups").with_filter(1, "group-name", &names);
        if let Some(vpc) = vpc {
            query = query.with_filter(2, "vpc-id", &[vpc]);
        }
        let found: NamedGroups = self.client.call(&query).await.map_err(launch_error)?;
        let found = found.security_group_info.item;
        let ids = wanted.iter().map(|group| match group.starts_with(GROUP_ID) {
            true => Ok(group.clone()),
            false => id_of(group, &found),
        });
        let ids: Result<Vec<String>, String> = ids.collect();
        ids.map_err(|sentence| LaunchError { sentence, failure: LaunchFailure::Invalid })
    }

    async fn subnet(&self, id: &str) -> Result<SubnetPlace, LaunchError> {
        let found = self.subnet_places(&[id]).await?.into_iter().next();
        found.ok_or_else(|| LaunchError {
            sentence: format!("EC2 knows no subnet {id}"),
            failure: LaunchFailure::Invalid,
        })
    }

    pub(super) async fn subnet_places(
        &self,
        ids: &[&str],
    ) -> Result<Vec<SubnetPlace>, LaunchError> {
        let query = Query::new("DescribeSubnets").with_list("SubnetId", ids.iter().copied());
        let found: SubnetPlaces = self.client.call(&query).await.map_err(launch_error)?;
        Ok(found.subnet_set.item)
    }
}

/// The one group of a name.
fn id_of(name: &str, found: &[NamedGroup]) -> Result<String, String> {
    let named: Vec<&NamedGroup> = found.iter().filter(|group| group.group_name == name).collect();
    match named.as_slice() {
        [] => Err(format!("there is no security group \"{name}\" where the instance would be")),
        [one] => Ok(one.group_id.clone()),
        [one, other, ..] => Err(format!(
            "there are several security groups \"{name}\" ({} in {}, {} in {}): use an id, or name \
             subnets",
            one.group_id, one.vpc_id, other.group_id, other.vpc_id
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_one_group_or_is_told_to_mean_more() {
        let group = |id: &str, name: &str, vpc: &str| NamedGroup {
            group_id: id.to_owned(),
            group_name: name.to_owned(),
            vpc_id: vpc.to_owned(),
        };
        let found = [
            group("sg-1", "workers", "vpc-1"),
            group("sg-2", "default", "vpc-1"),
            group("sg-3", "default", "vpc-2"),
        ];
        assert_eq!(id_of("workers", &found).as_deref(), Ok("sg-1"));
        let why = id_of("default", &found).expect_err("there are two");
        assert!(why.contains("sg-2 in vpc-1, sg-3 in vpc-2"), "{why}");
        let why = id_of("Workers", &found).expect_err("there is none");
        assert!(why.contains("no security group \"Workers\""), "{why}");
    }
}
