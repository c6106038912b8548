//! Which image a launch uses: that of an id, or the newest of a name that its type can run.

use crate::master::provisioner::ec2::Ec2Provisioner;
use crate::master::provisioner::ec2::answers::FoundImage;
use crate::master::provisioner::ec2::answers::Images;
use crate::master::provisioner::ec2::error::CallError;
use crate::master::provisioner::ec2::error::ErrorClass;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::settings::Image;

impl Ec2Provisioner {
    /// The image that the most preferred way to launch is to use now.
    pub(super) async fn image(&self) -> Result<FoundImage, CallError> {
        let first = self.candidates.first().map(|candidate| candidate.instance_type.as_str());
        self.image_for(first.unwrap_or_default()).await
    }

    /// The image that a launch of this type is to use now.
    pub(super) async fn image_for(&self, instance_type: &str) -> Result<FoundImage, CallError> {
        let query = Query::new("DescribeImages");
        let query = match &self.settings.image {
            Image::Id(id) => query.with_list("ImageId", [id.as_str()]),
            Image::Newest { owners, name } => query
                .with_list("Owner", owners.iter().map(String::as_str))
                .with_filter(1, "name", &[name])
                .with_filter(2, "state", &["available"]),
        };
        let found: Images = self.client.call(&query).await?;
        newest(found.images_set.item, architecture_of(instance_type)).ok_or_else(|| CallError {
            class: ErrorClass::Invalid,
            code: String::new(),
            sentence: match &self.settings.image {
                Image::Id(id) => format!("EC2 knows no image {id} in {}", self.settings.region),
                Image::Newest { owners, name } => format!(
                    "no image in {} has a name like \"{name}\" and an owner of {}",
                    self.settings.region,
                    owners.join(", ")
                ),
            },
        })
    }
}

/// The image that was made last, of those for this architecture where there is any: a name may stand for
/// several. Dates are RFC 3339 in UTC, so their order is that of their text.
fn newest(images: Vec<FoundImage>, architecture: &str) -> Option<FoundImage> {
    images.into_iter().max_by(|one, other| {
        let key = |image: &FoundImage| image.architecture == architecture;
        (key(one), &one.creation_date, &one.image_id).cmp(&(
            key(other),
            &other.creation_date,
            &other.image_id,
        ))
    })
}

/// What a type's processor is, by its name: a `g` behind the generation is Amazon's own (EC2 user guide,
/// "Naming conventions").
fn architecture_of(instance_type: &str) -> &'static str {
    let family = instance_type.split('.').next().unwrap_or_default();
    let (_, capabilities) = family.split_once(|c: char| c.is_ascii_digit()).unwrap_or_default();
    match family == "a1" || capabilities.contains('g') {
        true => "arm64",
        false => "x86_64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::provisioner::ec2::answers::Items;

    #[test]
    fn the_newest_image_is_one_that_the_type_can_run() {
        let image = |id: &str, date: &str, architecture: &str| FoundImage {
            image_id: id.to_owned(),
            creation_date: date.to_owned(),
            image_state: "available".to_owned(),
            architecture: architecture.to_owned(),
            name: String::new(),
            root_device_name: None,
            block_device_mapping: Items::default(),
        };
        let images = vec![
            image("ami-1", "2026-01-01T00:00:00.000Z", "x86_64"),
            image("ami-2", "2026-02-01T00:00:00.000Z", "x86_64"),
            image("ami-3", "2026-03-01T00:00:00.000Z", "arm64"),
        ];
        let of = |kind: &str| {
            let found = newest(images.clone(), architecture_of(kind));
            found.map(|image| image.image_id).unwrap_or_default()
        };
        for kind in ["c7i.large", "m5dn.xlarge", "g5.xlarge", "t3a.small", "p4d.24xlarge"] {
            assert_eq!(of(kind), "ami-2", "{kind}");
        }
        for kind in ["c7g.large", "t4g.small", "im4gn.large", "g5g.xlarge", "a1.large"] {
            assert_eq!(of(kind), "ami-3", "{kind}");
        }
        let only = newest(images[..1].to_vec(), "arm64").map(|image| image.image_id);
        assert_eq!(only.as_deref(), Some("ami-1"), "a doctor says what is wrong with it");
    }
}
