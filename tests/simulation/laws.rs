//! What must always hold, and what must hold once the faults have stopped.

use std::collections::BTreeMap;

use busybee::model::attempt::AttemptOutcome;
use busybee::model::status::InstanceStatus;
use busybee::model::status::JobStatus;

use crate::world::MAX_INSTANCES;
use crate::world::World;

/// After every event.
pub(crate) fn always(world: &World) {
    world.master.check_invariants();
    one_attempt_at_a_time(world);
    never_too_many_machines(world);
}

/// No attempt of a job runs while another runs under a live lease.
fn one_attempt_at_a_time(world: &World) {
    let mut running = BTreeMap::new();
    for (worker, agent) in &world.agents {
        for (attempt, run) in &agent.attempts {
            let Some(row) = world.disk.attempts.get(&attempt.attempt) else { continue };
            if run.ended.is_none()
                && let Some(other) = running.insert(row.job, worker)
            {
                panic!("job {} runs on {other} and on {worker} at once", row.job);
            }
        }
    }
}

fn never_too_many_machines(world: &World) {
    let alive = world.disk.instances.values().filter(|row| !row.status.is_final()).count();
    assert!(alive <= MAX_INSTANCES as usize, "{alive} machines of {MAX_INSTANCES}");
}

/// When an agent says that it has begun a job.
pub(crate) fn needs_have_passed(world: &World, job: busybee::model::ids::JobId) {
    let Some(job) = world.disk.jobs.get(&job) else { return };
    for name in &job.spec.needs {
        let mut siblings = world.disk.jobs.values().filter(|it| it.build == job.build);
        let needed = siblings.find(|it| &it.spec.name == name).expect("a need is a job");
        assert_eq!(
            needed.status,
            JobStatus::Passed,
            "{} began before {name} passed",
            job.spec.name
        );
    }
}

/// Some virtual hours after the last fault.
pub(crate) fn finally(world: &World) {
    for build in world.disk.builds.values() {
        assert!(build.status.is_final(), "build {} is still {}", build.number, build.status);
    }
    assert!(world.disk.changes.is_empty(), "every push became a build, or was left out");
    let mut numbers: Vec<u64> = world.disk.builds.values().map(|build| build.number.0).collect();
    numbers.sort_unstable();
    let gapless: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, gapless, "build numbers have no gaps");
    for job in world.disk.jobs.values() {
        assert!(job.status.is_final(), "job {} is still {}", job.id, job.status);
        if job.status == JobStatus::Passed {
            let attempt = job.attempt.expect("a job that passed had an attempt");
            let told = world.truth.get(&attempt);
            assert_eq!(told, Some(&AttemptOutcome::Passed), "job {} only says it passed", job.id);
        }
    }
    for row in world.disk.instances.values() {
        let ended = matches!(row.status, InstanceStatus::Terminated | InstanceStatus::Failed);
        assert!(ended, "instance {} is still {}", row.id, row.status);
        assert!(row.why_ended.is_some(), "the ledger says why instance {} ended", row.id);
    }
    assert!(world.machines.is_empty(), "machines are left: {:?}", world.machines.keys());
}
