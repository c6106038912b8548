//! What a launch's row keeps of it: the whole request, and what is to belong to the instance besides.
//!
//! Both are settled before anything is sent, and the row keeps them until all of it is done, so that a
//! master that was killed, or exchanged for a newer one, goes on with the same.

use serde::Deserialize;
use serde::Serialize;

use crate::master::provisioner::ec2::query::Query;

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Kept {
    /// Nothing but the request: most instances have nothing that was there before them.
    Request(Query),
    /// With what is to belong to the instance.
    Equipped {
        /// The request.
        request: Query,
        /// What is to belong to it.
        equipment: Equipment,
    },
}

/// What is to belong to an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Equipment {
    /// The allocation of its address.
    pub(super) allocation: Option<String>,
    /// Its volumes.
    pub(super) volumes: Vec<KeptVolume>,
}

/// A volume, and where an instance finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptVolume {
    /// `vol-…`
    pub(super) id: String,
    /// As in `/dev/sdf`.
    pub(super) device: String,
}

impl Kept {
    pub(super) fn new(request: Query, equipment: Equipment) -> Kept {
        match equipment == Equipment::default() {
            true => Kept::Request(request),
            false => Kept::Equipped { request, equipment },
        }
    }

    pub(super) fn into_parts(self) -> (Query, Equipment) {
        match self {
            Kept::Request(request) => (request, Equipment::default()),
            Kept::Equipped { request, equipment } => (request, equipment),
        }
    }

    /// As a row keeps it.
    pub(super) fn write(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|why| format!("cannot write the request down: {why}"))
    }

    pub(super) fn read(text: &str) -> Result<Kept, String> {
        serde_json::from_str(text)
            .map_err(|why| format!("cannot read the request that was kept: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Query {
        Query::new("RunInstances").with("ClientToken", "L1")
    }

    #[test]
    fn a_request_alone_is_kept_as_older_masters_kept_it() {
        let kept = Kept::new(request(), Equipment::default());
        let text = r#"[["Action","RunInstances"],["Version","2016-11-15"],["ClientToken","L1"]]"#;
        assert_eq!(kept.write().as_deref(), Ok(text));
        assert_eq!(Kept::read(text), Ok(kept));
    }

    #[test]
    fn what_belongs_to_an_instance_is_kept_with_it() {
        let volume = KeptVolume { id: "vol-1".to_owned(), device: "/dev/sdf".to_owned() };
        let equipment =
            Equipment { allocation: Some("eipalloc-1".to_owned()), volumes: vec![volume] };
        let kept = Kept::new(request(), equipment.clone());
        let text = kept.write().expect("it is text");
        let (again, found) = Kept::read(&text).expect("it is what was written").into_parts();
        assert_eq!((again, found), (request(), equipment));
        assert!(Kept::read("nonsense").is_err());
    }
}
