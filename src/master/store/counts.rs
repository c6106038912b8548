//! How many there are of what is not over: for the home page. Each count walks an index of active
//! rows only, so old builds cost nothing.

use std::collections::BTreeMap;
use std::str::FromStr;

use rusqlite::Connection;

use crate::master::store::Store;
use crate::master::store::builds;
use crate::master::store::instances;
use crate::master::store::jobs;
use crate::model::status::BuildStatus;
use crate::model::status::InstanceStatus;
use crate::model::status::JobStatus;
use crate::model::status::WorkerStatus;

/// How many are in each status; a status that nothing is in is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Builds that are not over.
    pub builds: BTreeMap<BuildStatus, u64>,
    /// Jobs that are not over.
    pub jobs: BTreeMap<JobStatus, u64>,
    /// Workers that are not gone.
    pub workers: BTreeMap<WorkerStatus, u64>,
    /// Instances that are there or may come.
    pub instances: BTreeMap<InstanceStatus, u64>,
}

impl Store {
    /// Counts what is not over.
    pub async fn counts(&self) -> anyhow::Result<Counts> {
        self.read(|connection| {
            Ok(Counts {
                builds: count(connection, "builds INDEXED BY builds_active", builds::ACTIVE)?,
                jobs: count(connection, "jobs INDEXED BY jobs_active", jobs::ACTIVE)?,
                workers: count(
                    connection,
                    "workers INDEXED BY workers_present",
                    "status <> 'gone'",
                )?,
                instances: count(
                    connection,
                    "instances INDEXED BY instances_present",
                    instances::PRESENT,
                )?,
            })
        })
        .await
    }
}

fn count<S>(
    connection: &Connection,
    table: &str,
    condition: &str,
) -> anyhow::Result<BTreeMap<S, u64>>
where
    S: FromStr + Ord,
    S::Err: std::error::Error + Send + Sync + 'static,
{
    let sql = format!("SELECT status, count(*) FROM {table} WHERE {condition} GROUP BY status");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    let mut counts = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let status: String = row.get(0)?;
        counts.insert(status.parse()?, row.get::<_, i64>(1)?.cast_unsigned());
    }
    Ok(counts)
}
