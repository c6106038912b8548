//! How a concurrency group is written as JSON, in a job's spec and in a build's row. Rows live longer than
//! programs: what `job_spec` says of fields holds here too.

use serde::Deserialize;
use serde::Serialize;

use crate::master::domain::pipeline::Concurrency;
use crate::master::domain::pipeline::OnNew;

#[derive(Serialize, Deserialize)]
pub(super) struct StoredConcurrency {
    group: String,
    limit: u32,
    on_new: StoredOnNew,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredOnNew {
    Queue,
    Cancel,
    Skip,
}

impl StoredConcurrency {
    pub(super) fn of(concurrency: &Concurrency) -> StoredConcurrency {
        StoredConcurrency {
            group: concurrency.group.clone(),
            limit: concurrency.limit,
            on_new: match concurrency.on_new {
                OnNew::Queue => StoredOnNew::Queue,
                OnNew::Cancel => StoredOnNew::Cancel,
                OnNew::Skip => StoredOnNew::Skip,
            },
        }
    }

    pub(super) fn into_concurrency(self) -> Concurrency {
        Concurrency {
            group: self.group,
            limit: self.limit,
            on_new: match self.on_new {
                StoredOnNew::Queue => OnNew::Queue,
                StoredOnNew::Cancel => OnNew::Cancel,
                StoredOnNew::Skip => OnNew::Skip,
            },
        }
    }
}

/// A build's group as JSON.
pub(super) fn to_json(concurrency: &Concurrency) -> serde_json::Result<String> {
    serde_json::to_string(&StoredConcurrency::of(concurrency))
}

/// What [`to_json`] wrote.
pub(super) fn from_json(json: &str) -> serde_json::Result<Concurrency> {
    Ok(serde_json::from_str::<StoredConcurrency>(json)?.into_concurrency())
}
