//! What the simulated master is configured with, and what its pushes are.

use std::time::Duration;

use busybee::master::domain::event::Resolved;
use busybee::master::domain::pipeline::JobSpec;
use busybee::master::domain::pipeline::Pipeline;
use busybee::master::domain::pipeline::Planned;
use busybee::master::domain::settings::PoolSettings;
use busybee::master::domain::settings::ProjectSettings;
use busybee::master::domain::settings::ProvisionerKind;
use busybee::master::domain::settings::Settings;
use busybee::model::ids::Commit;
use busybee::model::ids::JobName;
use busybee::model::ids::RefName;
use busybee::model::step::RunsAfter;
use busybee::model::step::Shell;
use busybee::model::step::StepSpec;

/// Machines of the pool that starts them, at most.
pub(crate) const MAX_INSTANCES: u32 = 3;

/// The machine of one's own.
pub(crate) const OWN_WORKER: &str = "own-machine";

/// The lease of every pool.
pub(crate) const LEASE_MS: u64 = 10 * 60 * 1000;

/// Two pools: one starts machines, one has a machine of its own.
pub(crate) fn settings() -> Settings {
    let pool = |name: &str, provisioner| PoolSettings {
        name: name.into(),
        labels: [name].into_iter().collect(),
        provisioner,
        has_bootstrap: true,
        max_instances: MAX_INSTANCES,
        min_idle: 0,
        jobs_per_instance: 0,
        shared: false,
        idle_timeout: Duration::from_secs(120),
        boot_timeout: Duration::from_secs(300),
        reconnect_grace: Duration::from_secs(120),
        lease: Duration::from_millis(LEASE_MS),
        max_lifetime: Duration::from_secs(4 * 3600),
        env: Vec::new(),
    };
    Settings {
        pools: vec![pool("cloud", ProvisionerKind::Local), pool("own", ProvisionerKind::None)],
        projects: vec![ProjectSettings { name: "hello".into(), repo: "/hello".into() }],
        url: "https://ci.example.com".into(),
    }
}

/// A push: a chain of jobs, every other one on the machine of one's own.
pub(crate) fn resolved(jobs: u64) -> Resolved {
    let job = |number: u64| JobSpec {
        name: JobName(format!("job{number}")),
        needs: (0..number).map(|before| JobName(format!("job{before}"))).collect(),
        worker: Some(
            [if number.is_multiple_of(2) { "cloud" } else { "own" }].into_iter().collect(),
        ),
        env: Vec::new(),
        checkout: true,
        keep_workspace: false,
        timeout: Duration::from_secs(3600),
        infra_retries: 2,
        steps: vec![StepSpec {
            name: "step".into(),
            run: "true".into(),
            shell: Shell::Sh,
            env: Vec::new(),
            timeout: None,
            when: RunsAfter::SUCCESS,
        }],
    };
    Resolved {
        ref_name: RefName::from("refs/heads/main"),
        commit: Commit("0".repeat(40)),
        subject: "a change".into(),
        author: "Ada".into(),
        planned: Planned::Pipeline(Pipeline { name: None, jobs: (0..=jobs).map(job).collect() }),
    }
}
