//! The account around a pool: its defaults, its keys and roles, and what an earlier life has left in it.

use crate::master::provisioner::Finding;
use crate::master::provisioner::ec2::Ec2Provisioner;
use crate::master::provisioner::ec2::doctor::Circumstances;
use crate::master::provisioner::ec2::doctor::POLICY;
use crate::master::provisioner::ec2::doctor::answers::EbsEncryption;
use crate::master::provisioner::ec2::doctor::answers::EbsKey;
use crate::master::provisioner::ec2::doctor::answers::MetadataDefaults;
use crate::master::provisioner::ec2::doctor::answers::Volumes;
use crate::master::provisioner::ec2::error::ErrorClass;
use crate::master::provisioner::ec2::marked::Marked;
use crate::master::provisioner::ec2::marked::Region;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::run_instances;
use crate::master::provisioner::ec2::settings::Market;

/// The role by which EC2 starts spot instances.
const SPOT_ROLE: &str = "AWSServiceRoleForEC2Spot";

/// Ids of one kind that are shown, at most.
const SHOWN_MAX: usize = 5;

impl Ec2Provisioner {
    /// What the account says of the metadata service. Each launch says all of it itself.
    pub(super) async fn metadata_defaults(&self) -> Option<Finding> {
        match self.ask::<MetadataDefaults>(&Query::new("GetInstanceMetadataDefaults")).await {
            Ok(MetadataDefaults { account_level: level }) => {
                let is_off = level.http_endpoint == "disabled";
                let is_loose = level.http_tokens == "optional";
                (is_off || is_loose).then(|| {
                    let which = if is_off { "off" } else { "open to version 1" };
                    Finding::good(format!(
                        "the account's metadata service is {which} by default; launches say what they need"
                    ))
                })
            }
            Err(error) if error.class == ErrorClass::Denied => {
                Some(Finding::doubtful(error.sentence, POLICY))
            }
            // It changes nothing for our own instances.
            Err(_) => None,
        }
    }

    /// Whether disks are encrypted by a key that the master must be let use.
    pub(super) async fn encryption(&self) -> Option<Finding> {
        match self.ask::<EbsEncryption>(&Query::new("GetEbsEncryptionByDefault")).await {
            Ok(answer) if !answer.ebs_encryption_by_default => return None,
            Ok(_) => {}
            Err(error) if error.class == ErrorClass::Denied => {
                return Some(Finding::doubtful(error.sentence, POLICY));
            }
            Err(_) => return None,
        }
        let key = self.ask::<EbsKey>(&Query::new("GetEbsDefaultKmsKeyId")).await.ok()?.kms_key_id;
        Some(match key.is_empty() || key.ends_with("alias/aws/ebs") {
            true => Finding::good("disks are encrypted, by AWS's own key".to_owned()),
            false => Finding::doubtful(
                format!("disks are encrypted by default, by the key {key}"),
                "let the master use it, as docs/ec2.md shows: without, instances end at once with \
                 Client.InternalError",
            ),
        })
    }

    /// Whether the key pair is there.
    pub(super) async fn key_pair(&self) -> Option<Finding> {
        let name = self.settings.key_name.as_deref()?;
        let query = Query::new("DescribeKeyPairs").with_list("KeyName", [name]);
        Some(match self.ask::<serde::de::IgnoredAny>(&query).await {
            Ok(_) => Finding::good(format!("the key pair {name} is there")),
            Err(error) if error.class == ErrorClass::Denied => {
                Finding::doubtful(error.sentence, POLICY)
            }
            Err(error) => {
                Finding::bad(error.sentence, "name a key pair of this region, or take key_name out")
            }
        })
    }

    /// Whether EC2 may start spot instances in this account.
    pub(super) async fn spot_role(&self) -> Option<Finding> {
        if self.settings.market == Market::OnDemand {
            return None;
        }
        let query = Query::new_of("GetRole", "2010-05-08").with("RoleName", SPOT_ROLE);
        let fix = "make it once: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com";
        match self.ask_iam::<serde::de::IgnoredAny>(&query).await {
            Ok(_) => Some(Finding::good("the account has its role for spot".to_owned())),
            Err(error) if error.code == "NoSuchEntity" || error.code == "NoSuchEntityException" => {
                Some(Finding::bad(
                    format!("the account has no role {SPOT_ROLE}: no spot instance starts without"),
                    fix,
                ))
            }
            Err(error) if error.class == ErrorClass::Denied => Some(Finding::doubtful(
                format!("whether the account has its role for spot may not be read: {error}"),
                POLICY,
            )),
            Err(_) => None,
        }
    }

    /// What carries this master's mark and is of no use: instances past their expiry, volumes without one.
    pub(super) async fn leftovers(&self, around: &Circumstances) -> Vec<Finding> {
        let (expired, volumes) = tokio::join!(self.expired(around), self.lost_volumes());
        expired.into_iter().chain(volumes).collect()
    }

    async fn expired(&self, around: &Circumstances) -> Option<Finding> {
        let region = Region::of(self.client.clone());
        // A listing that may not be had was told already.
        let marked = tokio::time::timeout(super::DEADLINE, region.instances()).await.ok()?.ok()?;
        let is_past = |one: &&Marked| {
            one.master == self.master && one.expires_at.is_some_and(|at| at <= around.now)
        };
        let ids: Vec<String> = marked
            .iter()
            .filter(is_past)
            .map(|one| format!("{} ({})", one.id, one.state))
            .collect();
        (!ids.is_empty()).then(|| {
            Finding::doubtful(
                format!(
                    "{} of this master past their expiry: {}",
                    count(&ids, "instance"),
                    some(&ids)
                ),
                "busybee instance reap --expired ends them",
            )
        })
    }

    async fn lost_volumes(&self) -> Option<Finding> {
        let query = Query::new("DescribeVolumes")
            .with_filter(1, &format!("tag:{}", run_instances::TAG_MASTER), &[&self.master])
            .with_filter(2, "status", &["available"]);
        let volumes = match self.ask::<Volumes>(&query).await {
            Ok(volumes) => volumes.volume_set.item,
            Err(error) => return Some(Finding::doubtful(error.sentence, POLICY)),
        };
        let ids: Vec<String> =
            volumes.iter().map(|one| format!("{} ({} GiB)", one.volume_id, one.size)).collect();
        (!ids.is_empty()).then(|| {
            Finding::doubtful(
                format!(
                    "{} of this master belong to no instance: {}",
                    count(&ids, "volume"),
                    some(&ids)
                ),
                "see what is on them, then aws ec2 delete-volume --volume-id ID: they are paid for",
            )
        })
    }
}

fn count(ids: &[String], noun: &str) -> String {
    let ending = if ids.len() == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", ids.len())
}

fn some(ids: &[String]) -> String {
    let shown: Vec<&str> = ids.iter().take(SHOWN_MAX).map(String::as_str).collect();
    let more = if ids.len() > SHOWN_MAX { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
