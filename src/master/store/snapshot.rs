//! Reads everything that is not over: what the domain starts from.

use std::time::Duration;

use rusqlite::Connection;

use crate::master::domain::billing;
use crate::master::domain::event::LoadedBuild;
use crate::master::domain::snapshot::Snapshot;
use crate::master::store::attempts;
use crate::master::store::builds;
use crate::master::store::changes;
use crate::master::store::counters;
use crate::master::store::counters::Counters;
use crate::master::store::forecasts;
use crate::master::store::instances;
use crate::master::store::jobs;
use crate::master::store::pools;
use crate::master::store::refs;
use crate::master::store::spending;
use crate::master::store::steps;
use crate::master::store::workers;
use crate::model::ids::BuildNumber;
use crate::model::ids::ProjectName;
use crate::runtime::clock;

/// What has ended is of use for so long: the domain's day may have begun a little before or after ours.
const RECENT: Duration = Duration::from_secs(2 * 24 * 3600);

/// All of it, as of one moment. Costs what is active, not what there ever was.
pub(super) fn load(connection: &mut Connection) -> rusqlite::Result<Snapshot> {
    // A transaction reads one state of all tables, whatever is committed meanwhile.
    let moment = connection.transaction()?;
    let attempts = attempts::active(&moment)?;
    let mut steps = Vec::new();
    for attempt in &attempts {
        steps.extend(steps::of_attempt(&moment, attempt.id.attempt)?);
    }
    let counters = Counters::read(&moment)?;
    let recently = clock::now() - RECENT;
    Ok(Snapshot {
        refs: refs::all(&moment)?,
        baselines: counters::baselines(&moment)?,
        changes: changes::all(&moment)?,
        builds: builds::all_active(&moment)?,
        jobs: jobs::of_active_builds(&moment)?,
        attempts,
        steps,
        workers: workers::present(&moment)?,
        instances: instances::present(&moment)?,
        pools: pools::all(&moment)?,
        ended_instances: instances::ended_since(&moment, recently)?,
        project_days: spending::days_since(&moment, billing::day_of(recently))?,
        budgets_told: spending::told(&moment)?,
        job_times: forecasts::job_times(&moment)?,
        pool_forecasts: forecasts::pools(&moment)?,
        last_numbers: counters.numbers,
        last_ids: counters.ids,
    })
}

/// A build with its jobs, as of one moment.
pub(super) fn load_build(
    connection: &mut Connection,
    project: &ProjectName,
    number: BuildNumber,
) -> rusqlite::Result<Option<LoadedBuild>> {
    let moment = connection.transaction()?;
    let Some(build) = builds::find(&moment, project, number)? else { return Ok(None) };
    let jobs = jobs::of_build(&moment, build.id)?;
    Ok(Some(LoadedBuild { build, jobs }))
}
