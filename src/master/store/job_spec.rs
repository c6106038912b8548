//! How a job's spec is written as JSON. Its own types: the domain's are not serializable.
//!
//! Rows live longer than programs: a new field gets `#[serde(default)]`, none is ever renamed.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::master::domain::pipeline::JobSpec;
use crate::master::store::concurrency::StoredConcurrency;
use crate::model::ids::JobName;
use crate::model::step::RunsAfter;
use crate::model::step::Shell;
use crate::model::step::StepSpec;

#[derive(Serialize, Deserialize)]
struct StoredJob {
    name: String,
    needs: Vec<String>,
    worker: Option<Vec<String>>,
    env: Vec<(String, String)>,
    #[serde(default)]
    secrets: Vec<String>,
    checkout: bool,
    keep_workspace: bool,
    timeout_ms: u64,
    infra_retries: u32,
    #[serde(default)]
    concurrency: Option<StoredConcurrency>,
    steps: Vec<StoredStep>,
}

#[derive(Serialize, Deserialize)]
struct StoredStep {
    name: String,
    run: String,
    shell: StoredShell,
    env: Vec<(String, String)>,
    timeout_ms: Option<u64>,
    after_success: bool,
    after_failure: bool,
    after_cancel: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredShell {
    Sh,
    Bash,
}

/// The spec as JSON.
pub(super) fn to_json(spec: &JobSpec) -> serde_json::Result<String> {
    let steps = spec.steps.iter().map(StoredStep::of).collect();
    serde_json::to_string(&StoredJob {
        name: spec.name.0.clone(),
        needs: spec.needs.iter().map(|name| name.0.clone()).collect(),
        worker: spec.worker.as_ref().map(|labels| labels.0.iter().cloned().collect()),
        env: spec.env.clone(),
        secrets: spec.secrets.clone(),
        checkout: spec.checkout,
        keep_workspace: spec.keep_workspace,
        timeout_ms: to_ms(spec.timeout),
        infra_retries: spec.infra_retries,
        concurrency: spec.concurrency.as_ref().map(StoredConcurrency::of),
        steps,
    })
}

/// The spec that [`to_json`] wrote.
pub(super) fn from_json(json: &str) -> serde_json::Result<JobSpec> {
    let stored: StoredJob = serde_json::from_str(json)?;
    Ok(JobSpec {
        name: JobName(stored.name),
        needs: stored.needs.into_iter().map(JobName).collect(),
        worker: stored.worker.map(|labels| labels.into_iter().collect()),
        env: stored.env,
        secrets: stored.secrets,
        checkout: stored.checkout,
        keep_workspace: stored.keep_workspace,
        timeout: Duration::from_millis(stored.timeout_ms),
        infra_retries: stored.infra_retries,
        concurrency: stored.concurrency.map(StoredConcurrency::into_concurrency),
        steps: stored.steps.into_iter().map(StoredStep::into_step).collect(),
    })
}

impl StoredStep {
    fn of(step: &StepSpec) -> StoredStep {
        StoredStep {
            name: step.name.clone(),
            run: step.run.clone(),
            shell: match step.shell {
                Shell::Sh => StoredShell::Sh,
                Shell::Bash => StoredShell::Bash,
            },
            env: step.env.clone(),
            timeout_ms: step.timeout.map(to_ms),
            after_success: step.when.success,
            after_failure: step.when.failure,
            after_cancel: step.when.cancel,
        }
    }

    fn into_step(self) -> StepSpec {
        StepSpec {
            name: self.name,
            run: self.run,
            shell: match self.shell {
                StoredShell::Sh => Shell::Sh,
                StoredShell::Bash => Shell::Bash,
            },
            env: self.env,
            timeout: self.timeout_ms.map(Duration::from_millis),
            when: RunsAfter {
                success: self.after_success,
                failure: self.after_failure,
                cancel: self.after_cancel,
            },
        }
    }
}

/// Whole milliseconds: no file says less.
fn to_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_comes_back_from_json_as_it_was() {
        let spec = crate::master::store::sample::job_spec("test");
        assert_eq!(from_json(&to_json(&spec).unwrap()).unwrap(), spec);
    }
}
