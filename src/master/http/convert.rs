//! What the domain remembers → the API's JSON. The only file that sees both spellings.

use crate::api;
use crate::master::domain::entities::Build;
use crate::master::domain::entities::Instance;
use crate::master::domain::entities::InstanceRun;
use crate::master::domain::entities::Job;
use crate::master::domain::entities::PoolState;
use crate::master::domain::entities::StepRun;
use crate::master::domain::entities::Worker;
use crate::master::domain::forecast::PoolForecast;
use crate::master::domain::settings::ProvisionerKind;
use crate::master::http::HttpConfig;
use crate::master::http::PoolView;
use crate::master::http::costs;
use crate::master::http::costs::SpentToday;
use crate::master::http::links;
use crate::master::http::words;
use crate::master::store::work::Work;
use crate::model::ids::PoolName;
use crate::model::money::Money;
use crate::model::status::WorkerFate;
use crate::model::status::WorkerStatus;
use crate::model::step::StepOutcome;
use crate::model::time::Timestamp;

/// A build with its jobs.
pub fn build(config: &HttpConfig, build: &Build, jobs: Vec<api::build::Job>) -> api::build::Build {
    api::build::Build {
        project: build.project.to_string(),
        number: build.number.0,
        status: build.status.to_string(),
        reason: build.reason.clone(),
        ref_name: build.ref_name.to_string(),
        branch: build.ref_name.branch().map(str::to_owned),
        commit: build.commit.to_string(),
        subject: build.subject.clone(),
        author: build.author.clone(),
        event: build.event.as_str().to_owned(),
        pipeline: build.pipeline_name.clone(),
        inputs: build.inputs.clone(),
        group: build.concurrency.as_ref().map(|one| one.group.clone()),
        created_at: build.created_at.to_string(),
        started_at: text(build.started_at),
        finished_at: text(build.finished_at),
        cost: None,
        cost_in_part: false,
        jobs,
        url: build_url(config, build),
    }
}

/// A build's page, as people far away reach it.
pub fn build_url(config: &HttpConfig, build: &Build) -> String {
    format!("{}{}", config.url, links::build(&build.project, build.number))
}

/// A job; `steps` where they are wanted.
pub fn job(job: &Job, steps: Option<&[StepRun]>) -> api::build::Job {
    api::build::Job {
        name: job.spec.name.to_string(),
        status: job.status.to_string(),
        worker: job.worker.as_ref().map(ToString::to_string),
        attempts: job.attempts,
        reason: job.reason.clone(),
        needs: job.spec.needs.iter().map(ToString::to_string).collect(),
        group: job.spec.concurrency.as_ref().map(|one| one.group.clone()),
        queued_at: text(job.queued_at),
        started_at: text(job.started_at),
        finished_at: text(job.finished_at),
        cost: None,
        cost_in_part: false,
        steps: steps.map(|steps| steps.iter().map(step).collect()),
    }
}

fn step(step: &StepRun) -> api::build::Step {
    let exit_code = match step.outcome {
        Some(StepOutcome::Exited(code)) => Some(code),
        _ => None,
    };
    api::build::Step {
        step: step.step,
        name: step.name.clone(),
        status: words::step_status(step.outcome.as_ref()).to_owned(),
        reason: words::step_reason(step.outcome.as_ref()),
        exit_code,
        started_at: step.started_at.to_string(),
        duration_ms: step.duration_ms,
        log_bytes: step.log_bytes,
        log_incomplete: step.log_incomplete,
    }
}

/// A worker, with the moment by which it ends if no job comes.
pub fn worker(config: &HttpConfig, worker: &Worker) -> api::fleet::Worker {
    api::fleet::Worker {
        name: worker.name.to_string(),
        pool: worker.pool.to_string(),
        status: worker.status.to_string(),
        reason: worker.reason.clone(),
        instance: worker.instance.map(|instance| instance.0),
        project: worker.project.as_ref().map(ToString::to_string),
        jobs_given: worker.jobs_given,
        created_at: worker.created_at.to_string(),
        idle_since: text(worker.idle_since),
        idle_until: text(idle_until(config, worker)),
        ended_at: text(worker.ended_at),
        machine: None,
        notice: worker.notice.as_ref().map(|(_, text)| text.clone()),
    }
}

/// When an idle worker ends at the latest if no job comes; nothing for one that waits for ever: a machine of
/// one's own, or a pool that keeps some ready.
pub fn idle_until(config: &HttpConfig, worker: &Worker) -> Option<Timestamp> {
    let pool = config.pools.iter().find(|pool| pool.name == worker.pool)?;
    let may_end = worker.status == WorkerStatus::Idle && worker.instance.is_some();
    let is_counted = may_end && pool.min_idle == 0;
    worker.idle_since.filter(|_| is_counted).map(|since| since + pool.idle_timeout)
}

/// A pool, with what lives of it.
pub fn pool(
    config: &HttpConfig,
    view: &PoolView,
    (state, forecast): (Option<&PoolState>, Option<&PoolForecast>),
    alive: &[Worker],
    spent: &SpentToday,
) -> api::fleet::Pool {
    let today = spent.pool(&view.name);
    let of_pool = || alive.iter().filter(|worker| worker.pool == view.name);
    let rests = |worker: &&Worker| worker.fate == WorkerFate::Rests;
    let idle = of_pool().filter(|one| one.status == WorkerStatus::Idle && !rests(one)).count();
    let paused = state.and_then(|state| state.paused.clone());
    api::fleet::Pool {
        name: view.name.to_string(),
        labels: view.labels.0.iter().cloned().collect(),
        provisioner: view.provisioner.to_owned(),
        paused: paused.is_some(),
        reason: paused,
        failures: state.map_or(0, |state| state.failures),
        workers: count(of_pool().count()),
        idle: count(idle),
        stopped: count(of_pool().filter(rests).count()),
        max_instances: view.max_instances,
        min_idle: view.min_idle,
        daily_budget: view.daily_budget.map(Money::decimal),
        spent_today: today.decimal(),
        spent_in_part: today.in_part,
        budget_hold: spent.hold(config, view),
        boot_ms: forecast.filter(|known| known.boot_ms.seen > 0).map(|known| known.boot_ms.mean),
        look_ahead: view.look_ahead.then(|| api::fleet::LookAhead {
            hits: forecast.map_or(0, |known| known.hits),
            misses: forecast.map_or(0, |known| known.misses),
            open: forecast.map_or(0, |known| count(known.ahead.len())),
        }),
    }
}

/// A row of the ledger, with the jobs that its worker was given.
pub fn instance(
    config: &HttpConfig,
    instance: &Instance,
    work: &[Work],
    now: Timestamp,
) -> api::fleet::Instance {
    let run = |run: &InstanceRun| api::fleet::InstanceRun {
        asked_at: run.asked_at.to_string(),
        started_at: text(run.started_at),
        ready_at: text(run.ready_at),
        ended_at: text(run.ended_at),
    };
    api::fleet::Instance {
        id: instance.id.0,
        pool: instance.pool.to_string(),
        worker: instance.worker.to_string(),
        status: instance.status.to_string(),
        cloud_id: instance.cloud_id.as_ref().map(ToString::to_string),
        what: instance.what.clone(),
        why_started: instance.why_started.clone(),
        why_ended: instance.why_ended.clone(),
        requested_at: instance.requested_at.to_string(),
        accepted_at: text(instance.accepted_at),
        running_at: text(instance.running_at),
        contact_at: text(instance.contact_at),
        ready_at: text(instance.ready_at),
        ending_at: text(instance.ending_at),
        ended_at: text(instance.ended_at),
        seconds: instance.billed_secs(provisioner(config, &instance.pool), now),
        price_per_hour: instance.price_per_hour.map(Money::decimal),
        cost: costs::of_instance(config, instance, now).decimal(),
        runs: instance.runs.iter().map(run).collect(),
        jobs: work.iter().map(instance_job).collect(),
    }
}

/// How a pool's machines come to be. One that is no longer in the file had machines that were paid for.
fn provisioner(config: &HttpConfig, pool: &PoolName) -> ProvisionerKind {
    let known = config.pools.iter().find(|known| &known.name == pool);
    match known.map(|pool| pool.provisioner) {
        Some("local") => ProvisionerKind::Local,
        Some("none") => ProvisionerKind::None,
        Some(_) | None => ProvisionerKind::Ec2,
    }
}

fn instance_job(work: &Work) -> api::fleet::InstanceJob {
    api::fleet::InstanceJob {
        project: work.project.to_string(),
        number: work.number.0,
        job: work.job.as_ref().map(ToString::to_string).unwrap_or_default(),
        attempt: work.attempt,
        state: words::attempt_state(&work.state).to_owned(),
        from: work.from.to_string(),
        until: text(work.until),
    }
}

/// A repository's URL without the password that it may carry.
pub fn shown_repo(repo: &str) -> String {
    let Some((scheme, rest)) = repo.split_once("://") else { return repo.to_owned() };
    let host_end = rest.find('/').unwrap_or(rest.len());
    match rest[..host_end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => repo.to_owned(),
    }
}

fn text(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_repository_s_address_is_never_shown() {
        let check = |repo: &str, shown: &str| assert_eq!(shown_repo(repo), shown);
        check("https://ada:hunter2@git.example.com/x.git", "https://git.example.com/x.git");
        check("https://a@b:c@git.example.com", "https://git.example.com");
        check("https://git.example.com/a@b.git", "https://git.example.com/a@b.git");
        check("git@git.example.com:x.git", "git@git.example.com:x.git");
        check("/srv/git/x.git", "/srv/git/x.git");
    }
}
