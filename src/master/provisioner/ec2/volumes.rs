//! Volumes that a launch made and no instance has any more. They go with their instance; one that is
//! left costs money, and only a person can say whether something on it is wanted.

use crate::master::provisioner::Finding;
use crate::master::provisioner::ec2::Ec2Provisioner;
use crate::master::provisioner::ec2::PAGE;
use crate::master::provisioner::ec2::answers::Volume;
use crate::master::provisioner::ec2::answers::VolumesPage;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::run_instances;

/// Volumes that are named one by one; one page holds all that matter.
const NAMED_MAX: usize = 10;

impl Ec2Provisioner {
    /// What a doctor says of volumes that carry our tag and belong to no instance.
    pub(super) async fn stray_volumes(&self) -> Vec<Finding> {
        let query = Query::new("DescribeVolumes")
            .with_filter(1, &format!("tag:{}", run_instances::TAG_MASTER), &[&self.master])
            .with_filter(2, "status", &["available"])
            .with("MaxResults", PAGE);
        match self.client.call::<VolumesPage>(&query).await {
            Ok(page) => about(&page.volume_set.item, page.next_token.is_some()),
            Err(error) => vec![Finding::doubtful(
                error.sentence,
                "let the master describe volumes, as deploy/iam-policy.json does",
            )],
        }
    }
}

fn about(volumes: &[Volume], has_more: bool) -> Vec<Finding> {
    if volumes.is_empty() {
        return vec![Finding::good("no volume of an ended instance is left".to_owned())];
    }
    let one = |volume: &Volume| {
        let Volume { volume_id, size } = volume;
        Finding::doubtful(
            format!("volume {volume_id} ({size} GiB) carries our tag and belongs to no instance"),
            "it costs money: look whether it is wanted, and delete it",
        )
    };
    let mut found: Vec<Finding> = volumes.iter().take(NAMED_MAX).map(one).collect();
    let left_out = volumes.len().saturating_sub(NAMED_MAX);
    if left_out > 0 || has_more {
        let what =
            format!("{left_out} volumes more, or even more than that, belong to no instance");
        found.push(Finding::doubtful(what, "delete what is not wanted, and look again"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::provisioner::Verdict;

    #[test]
    fn volumes_that_nothing_uses_are_named_and_there_is_an_end_to_it() {
        assert_eq!(about(&[], false)[0].verdict, Verdict::Good);
        let volume = |n: u32| Volume { volume_id: format!("vol-{n}"), size: 8 };
        let volumes: Vec<Volume> = (0..12).map(volume).collect();
        let found = about(&volumes, false);
        assert_eq!(found.len(), NAMED_MAX + 1);
        assert!(found[0].what.contains("vol-0 (8 GiB)"), "{}", found[0].what);
        assert!(found.iter().all(|finding| finding.verdict == Verdict::Doubtful));
    }
}
