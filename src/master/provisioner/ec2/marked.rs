//! All that one pays for in a region and carries some master's mark, by its tags alone. Knows no pool,
//! no database and no running master; `busybee instance reap` decides what becomes of it.

use crate::master::provisioner::ec2::PAGE;
use crate::master::provisioner::ec2::PAGES_MAX;
use crate::master::provisioner::ec2::answers::Instance;
use crate::master::provisioner::ec2::answers::InstancesPage;
use crate::master::provisioner::ec2::answers::SpotRequest;
use crate::master::provisioner::ec2::answers::SpotRequestsPage;
use crate::master::provisioner::ec2::answers::Tag;
use crate::master::provisioner::ec2::answers::tag_of;
use crate::master::provisioner::ec2::client::Client;
use crate::master::provisioner::ec2::credentials::CredentialsFrom;
use crate::master::provisioner::ec2::error::CallError;
use crate::master::provisioner::ec2::instances_of;
use crate::master::provisioner::ec2::open_requests;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::run_instances;
use crate::master::provisioner::ec2::settings::Ec2Settings;
use crate::model::time::Timestamp;

/// A region, as the credentials of a pool reach it.
pub struct Region {
    client: Client,
}

/// What carries a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// What it is.
    pub kind: MarkedKind,
    /// As in `i-0123456789abcdef0` or `sir-01234567`.
    pub id: String,
    /// EC2's word for its state.
    pub state: String,
    /// The id of the master that it belongs to.
    pub master: String,
    /// The pool it was started for; empty where its tag is gone.
    pub pool: String,
    /// The worker it was started for; empty where its tag is gone.
    pub worker: String,
    /// After which nobody can want it; nothing where its tag is gone, or is no moment.
    pub expires_at: Option<Timestamp>,
}

/// What it is that carries a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkedKind {
    /// An instance that has not been terminated, in whatever state.
    Instance,
    /// A request for a spot instance that may still be fulfilled.
    SpotRequest,
}

impl Region {
    /// The region of a pool. Asks nothing yet.
    ///
    /// # Errors
    /// When HTTPS cannot be set up on this machine.
    pub fn new(settings: &Ec2Settings) -> anyhow::Result<Region> {
        let credentials = CredentialsFrom {
            file: settings.credentials_file.clone(),
            profile: settings.profile.clone(),
        };
        let client = Client::new(&settings.region, settings.endpoint.as_deref(), credentials)?;
        Ok(Region { client })
    }

    /// A region, as it is reached already.
    pub(super) fn of(client: Client) -> Region {
        Region { client }
    }

    /// Every instance with a mark that has not been terminated, stopped ones too.
    ///
    /// # Errors
    /// A sentence in EC2's own words.
    pub async fn instances(&self) -> Result<Vec<Marked>, String> {
        let states = ["pending", "running", "stopping", "stopped"];
        let query = Query::new("DescribeInstances")
            .with_filter(1, "tag-key", &[run_instances::TAG_MASTER])
            .with_filter(2, "instance-state-name", &states)
            .with("MaxResults", PAGE);
        let pages = self.pages(query, |page: InstancesPage| {
            let next = page.next_token.clone();
            (instances_of(page).filter_map(marked_instance).collect(), next)
        });
        pages.await.map_err(|error| error.sentence)
    }

    /// Every request with a mark for a spot instance that has not come yet.
    ///
    /// # Errors
    /// A sentence in EC2's own words.
    pub async fn open_spot_requests(&self) -> Result<Vec<Marked>, String> {
        let query = Query::new("DescribeSpotInstanceRequests")
            .with_filter(1, "tag-key", &[run_instances::TAG_MASTER])
            .with_filter(2, "state", &["open"])
            .with("MaxResults", PAGE);
        let pages = self.pages(query, |page: SpotRequestsPage| {
            let requests = page.spot_instance_request_set.item.into_iter();
            (requests.filter_map(marked_request).collect(), page.next_token)
        });
        pages.await.map_err(|error| error.sentence)
    }

    /// Asks for the end of one. What has gone meanwhile has ended as well.
    ///
    /// # Errors
    /// A sentence in EC2's own words.
    pub async fn end(&self, marked: &Marked) -> Result<(), String> {
        let id = [marked.id.as_str()];
        let query = match marked.kind {
            MarkedKind::Instance => Query::new("TerminateInstances").with_list("InstanceId", id),
            MarkedKind::SpotRequest => open_requests::cancel(id),
        };
        match self.client.call::<serde::de::IgnoredAny>(&query).await {
            Ok(_) => Ok(()),
            Err(error) if error.code == "InvalidInstanceID.NotFound" => Ok(()),
            Err(error) => Err(error.sentence),
        }
    }

    async fn pages<P: serde::de::DeserializeOwned>(
        &self,
        query: Query,
        read: impl Fn(P) -> (Vec<Marked>, Option<String>),
    ) -> Result<Vec<Marked>, CallError> {
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let query = query.clone().with_opt("NextToken", next.as_deref());
            let (marked, token) = read(self.client.call(&query).await?);
            found.extend(marked);
            next = token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(found);
            }
        }
        Err(CallError::unreadable(query.get("Action").unwrap_or_default(), "its pages do not end"))
    }
}

fn marked_instance(instance: Instance) -> Option<Marked> {
    let Instance { instance_id, instance_state, tag_set, .. } = instance;
    marked(MarkedKind::Instance, instance_id, instance_state.name, &tag_set.item)
}

fn marked_request(request: SpotRequest) -> Option<Marked> {
    let SpotRequest { spot_instance_request_id, state, tag_set } = request;
    marked(MarkedKind::SpotRequest, spot_instance_request_id, state, &tag_set.item)
}

/// Nothing where there is no mark after all.
fn marked(kind: MarkedKind, id: String, state: String, tags: &[Tag]) -> Option<Marked> {
    let text = |key: &str| tag_of(tags, key).unwrap_or_default().to_owned();
    Some(Marked {
        kind,
        id,
        state,
        master: tag_of(tags, run_instances::TAG_MASTER)?.to_owned(),
        pool: text(run_instances::TAG_POOL),
        worker: text(run_instances::TAG_NAME),
        expires_at: tag_of(tags, run_instances::TAG_EXPIRES).and_then(moment),
    })
}

/// A whole number of seconds since 1970, as the tag has it. Anything else is no moment: what somebody
/// has changed by hand is not ended by mistake.
fn moment(text: &str) -> Option<Timestamp> {
    let seconds: u64 = text.parse().ok()?;
    seconds.checked_mul(1000).map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_tags(tags: &[(&str, &str)]) -> Option<Marked> {
        let tag = |(key, value): &(&str, &str)| Tag {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        let tags: Vec<Tag> = tags.iter().map(tag).collect();
        marked(MarkedKind::Instance, "i-1".to_owned(), "stopped".to_owned(), &tags)
    }

    #[test]
    fn an_expiry_is_a_whole_number_of_seconds_or_none() {
        let expiry = |text: &str| {
            with_tags(&[("busybee:master", "ci"), ("busybee:expires", text)])
                .expect("it is marked")
                .expires_at
        };
        assert_eq!(expiry("90"), Some(Timestamp(90_000)));
        for text in ["", "never", "-1", "1e9", "90 ", "90.5", "18446744073709551615"] {
            assert_eq!(expiry(text), None, "{text}");
        }
    }

    #[test]
    fn what_has_no_masters_tag_is_not_looked_at() {
        assert_eq!(with_tags(&[("busybee:expires", "90")]), None);
        let bare = with_tags(&[("busybee:master", "ci")]).expect("it is marked");
        assert_eq!((bare.pool.as_str(), bare.expires_at), ("", None));
    }
}
