//! What the machines of a full pool are at, as a job that waits is told. Who finds out is `why_waiting.rs`.

use std::collections::BTreeMap;

use crate::model::ids::PoolName;

/// What a machine is at, as far as a job that waits goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doing {
    /// It has a job.
    Works,
    /// It takes no more jobs.
    Drains,
    /// It is on its way.
    Comes,
    /// The same, and it will serve another project.
    ComesForAnother,
    /// It has no job.
    Idles,
    /// The same, and it serves another project.
    IdlesForAnother,
    /// It is on its way or idle on spot, and the job has lost an attempt to that.
    OnSpot,
    /// Its agent has lost its connection.
    Away,
    /// It was told to stop.
    Stops,
    /// It was told to end.
    Ends,
    /// The same, and its provisioner will not do it.
    Stays,
}

impl Doing {
    fn words(self) -> &'static str {
        match self {
            Doing::Works => "busy",
            Doing::Drains => "draining",
            Doing::Comes => "starting",
            Doing::ComesForAnother => "starting for another project",
            Doing::Idles => "idle",
            Doing::IdlesForAnother => "idle for another project",
            Doing::OnSpot => "on spot, which has cost this job an attempt",
            Doing::Away => "not connected",
            Doing::Stops => "stopping",
            Doing::Ends => "ending",
            Doing::Stays => "that cannot be ended",
        }
    }
}

/// That no machine is free, and why not.
pub(super) fn full(pool: &PoolName, machines: &BTreeMap<Doing, usize>, max: u32) -> String {
    let count: usize = machines.values().sum();
    if all_work(machines) {
        return format!("every worker of pool \"{pool}\" is busy ({count} of {max})");
    }
    let each = machines.iter().map(|(doing, count)| format!("{count} {}", doing.words()));
    let each = each.collect::<Vec<_>>().join(", ");
    let colon = if each.is_empty() { "" } else { ": " };
    format!("pool \"{pool}\" has {count} of {max} machines{colon}{each}")
}

/// Whether there is nothing more to say of them.
pub(super) fn all_work(machines: &BTreeMap<Doing, usize>) -> bool {
    machines.keys().eq([&Doing::Works])
}
