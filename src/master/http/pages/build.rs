//! A build's page: its jobs and what they need, their steps, and the log of one of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::Path;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::Deserialize;

use crate::master::domain::entities::Build;
use crate::master::domain::entities::Job;
use crate::master::domain::entities::StepRun;
use crate::master::http::Web;
use crate::master::http::auth::Caller;
use crate::master::http::costs;
use crate::master::http::costs::Cost;
use crate::master::http::error::Problem;
use crate::master::http::graph;
use crate::master::http::graph::Graph;
use crate::master::http::links;
use crate::master::http::log_choice;
use crate::master::http::log_tail::Source;
use crate::master::http::pages;
use crate::master::http::pages::Frame;
use crate::master::http::pages::Link;
use crate::master::http::pages::Moment;
use crate::master::http::pages::Took;
use crate::master::http::pages::build_row;
use crate::master::http::pages::panel;
use crate::master::http::pages::panel::Panel;
use crate::master::http::query;
use crate::master::http::words;
use crate::model::ids::JobId;
use crate::model::ids::ProjectName;
use crate::model::status::JobStatus;
use crate::model::time::Timestamp;
use crate::runtime::clock;

/// Jobs whose steps are all listed; with more, only those of the job that is looked at, and the
/// page stays light.
const JOBS_WITH_STEPS_MAX: usize = 16;

/// Builds that are searched for what workers are at, at most.
const ACTIVE_MAX: u32 = 200;

#[derive(Template)]
#[template(path = "build.html")]
struct BuildPage {
    frame: Frame,
    href: String,
    project: String,
    project_href: String,
    number: u64,
    subject: String,
    status: &'static str,
    took: Took,
    branch_name: String,
    branch_href: Option<String>,
    commit: String,
    commit_short: String,
    author: String,
    event: &'static str,
    created: Moment,
    pipeline_name: Option<String>,
    cost: Option<String>,
    inputs: Vec<String>,
    can_cancel: bool,
    can_retry: bool,
    can_retry_failed: bool,
    reason: Option<String>,
    graph: Option<Graph>,
    jobs: Vec<JobView>,
    panel: Option<Panel>,
    no_log: &'static str,
}

struct JobView {
    name: String,
    status: &'static str,
    href: String,
    took: Took,
    note: Option<String>,
    reason: Option<String>,
    cost: Option<String>,
    needs: String,
    worker: Option<Link>,
    steps: Vec<StepView>,
}

struct StepView {
    name: String,
    status: &'static str,
    href: String,
    took: Took,
    selected: bool,
}

/// Which log the page shows, and from where.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BuildPageQuery {
    job: Option<String>,
    step: Option<u32>,
    from: Option<u64>,
}

/// A job with what has run of its newest attempt.
struct Ran {
    job: Job,
    steps: Vec<StepRun>,
    cost: Cost,
}

/// `GET /projects/PROJECT/builds/N`
pub async fn show(
    State(web): State<Arc<Web>>,
    Extension(caller): Extension<Caller>,
    Path((project, number)): Path<(String, String)>,
    uri: Uri,
) -> Result<Response, Problem> {
    let asked: BuildPageQuery = query::parse(&uri)?;
    let (project, number) = (ProjectName(project), query::build_number(&number)?);
    let build = log_choice::build(&web, &project, number).await?;
    let (ran, cost) = what_ran(&web, &build).await?;
    if let Some(job) = &asked.job {
        // Says which jobs there are.
        log_choice::job(&web, &build, job).await?;
    }
    let chosen = choose(&ran, &asked);
    let panel = match chosen {
        Some((ran, step)) => Some(read_panel(&web, &build, ran, step, asked.from).await?),
        None => None,
    };
    let chosen = chosen.map(|(ran, step)| (ran.job.id, step.step));
    let page = build_page(&build, &ran, chosen, panel, Frame::new("home", caller, &web));
    pages::page(&BuildPage { cost: cost.text(), ..page })
}

/// Its jobs with what has run of them, and what all of it has cost.
async fn what_ran(web: &Web, build: &Build) -> Result<(Vec<Ran>, Cost), Problem> {
    let jobs = web.store.jobs_of(build.id).await?;
    let attempts = jobs.iter().filter_map(|job| job.attempt).collect();
    let steps = web.store.steps_of_many(attempts).await?;
    let of = |job: &Job| {
        let its = steps.iter().filter(|step| Some(step.attempt) == job.attempt);
        its.cloned().collect()
    };
    let held = web.store.held_by(build.id).await?;
    let (costs, all) = costs::of_build(&web.config, &held, clock::now());
    let cost = |job: &Job| costs.get(&job.id).copied().unwrap_or_default();
    let ran = |job: Job| Ran { steps: of(&job), cost: cost(&job), job };
    Ok((jobs.into_iter().map(ran).collect(), all))
}

/// The step that was asked for; else of the job that was asked for, or of all, the one people
/// look for: what failed, what runs, what ran last.
fn choose<'a>(ran: &'a [Ran], asked: &BuildPageQuery) -> Option<(&'a Ran, &'a StepRun)> {
    let wanted =
        |ran: &&Ran| asked.job.as_deref().is_none_or(|job| ran.job.spec.name.as_str() == job);
    let steps =
        || ran.iter().filter(wanted).flat_map(|ran| ran.steps.iter().map(move |step| (ran, step)));
    if let Some(number) = asked.step {
        return steps().find(|(_, step)| step.step == number);
    }
    let has = |status: &'static str| {
        move |(_, step): &(&Ran, &StepRun)| words::step_status(step.outcome.as_ref()) == status
    };
    steps()
        .find(has("failed"))
        .or_else(|| steps().find(has("infra")))
        .or_else(|| steps().find(has("running")))
        .or_else(|| steps().rfind(|(_, step)| step.log_bytes != Some(0)))
        .or_else(|| steps().next_back())
}

async fn read_panel(
    web: &Web,
    build: &Build,
    ran: &Ran,
    step: &StepRun,
    from: Option<u64>,
) -> Result<Panel, Problem> {
    let job = ran.job.spec.name.as_str();
    let attempt = log_choice::attempt(web, &ran.job, None).await?;
    let attempt = attempt.map_or(1, |attempt| attempt.number);
    let page = links::build(&build.project, build.number);
    let this_step = format!("job={}&step={}", links::encode(job), step.step);
    let wanted = panel::Wanted {
        source: Source::Step {
            project: build.project.clone(),
            number: build.number,
            job: ran.job.id,
            attempt: step.attempt,
            step: step.step,
        },
        title: format!("{job} › {}", step.name),
        reason: words::step_reason(step.outcome.as_ref()),
        prefix: panel::prefix(job, step.step),
        href: format!("{page}?{this_step}"),
        raw_href: format!("{}{page}/log?{this_step}&attempt={attempt}", crate::api::PREFIX),
        stream_href: format!("{page}/lines?{this_step}&attempt={attempt}"),
        from,
        is_incomplete: step.log_incomplete,
    };
    let panel = panel::read(web, wanted).await?;
    // Another attempt's log is another log, though its lines have the same addresses.
    Ok(Panel { key: format!("{}{attempt}", panel.key), ..panel })
}

fn build_page(
    build: &Build,
    ran: &[Ran],
    chosen: Option<(JobId, u32)>,
    panel: Option<Panel>,
    mut frame: Frame,
) -> BuildPage {
    let page = links::build(&build.project, build.number);
    if !build.status.is_final() {
        frame = frame.watching(format!("{}{page}/events", crate::api::PREFIX));
    }
    let now = frame.now;
    let project_href = links::project(&build.project);
    let did_not_pass = |ran: &Ran| match ran.job.status {
        JobStatus::Failed | JobStatus::Cancelled | JobStatus::Infra | JobStatus::Skipped => true,
        JobStatus::Waiting | JobStatus::Queued | JobStatus::Running | JobStatus::Passed => false,
    };
    let is_final = build.status.is_final();
    BuildPage {
        graph: graph::draw(&nodes(build, ran)),
        jobs: jobs(build, ran, chosen, now),
        project: build.project.to_string(),
        number: build.number.0,
        subject: build_row::subject(build),
        status: build.status.as_str(),
        took: Took::between(build.started_at, build.finished_at, now),
        branch_name: build_row::ref_text(&build.ref_name).to_owned(),
        branch_href: build
            .ref_name
            .branch()
            .map(|branch| format!("{project_href}?branch={}", links::encode(branch))),
        commit: build.commit.to_string(),
        commit_short: build.commit.short().to_owned(),
        author: build_row::author_name(&build.author).to_owned(),
        event: build.event.as_str(),
        created: Moment::new(build.created_at, now),
        pipeline_name: build.pipeline_name.clone(),
        cost: None,
        inputs: build.inputs.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        can_cancel: !is_final,
        can_retry: is_final && !ran.is_empty(),
        can_retry_failed: is_final && ran.iter().any(did_not_pass),
        reason: build.reason.clone(),
        no_log: if is_final { "No step of it ran." } else { "No step has started yet." },
        href: page,
        project_href,
        panel,
        frame,
    }
}

fn nodes<'a>(build: &Build, ran: &'a [Ran]) -> Vec<graph::Node<'a>> {
    let node = |ran: &'a Ran| graph::Node {
        name: ran.job.spec.name.as_str(),
        status: ran.job.status.as_str(),
        needs: ran.job.spec.needs.iter().map(|need| need.as_str()).collect(),
        href: job_href(build, &ran.job),
    };
    ran.iter().map(node).collect()
}

fn job_href(build: &Build, job: &Job) -> String {
    let page = links::build(&build.project, build.number);
    format!("{page}?job={}", links::encode(job.spec.name.as_str()))
}

fn jobs(build: &Build, ran: &[Ran], chosen: Option<(JobId, u32)>, now: Timestamp) -> Vec<JobView> {
    let has_room = ran.len() <= JOBS_WITH_STEPS_MAX;
    let step_of = |job: JobId| chosen.filter(|(its_job, _)| *its_job == job).map(|(_, step)| step);
    ran.iter()
        .map(|one| {
            let chosen_step = step_of(one.job.id);
            let shows_steps = has_room || chosen_step.is_some();
            let view = |step: &StepRun| step_view(build, &one.job, step, chosen_step, now);
            let steps = if shows_steps { one.steps.iter().map(view).collect() } else { Vec::new() };
            job_view(build, one, steps, now)
        })
        .collect()
}

fn job_view(build: &Build, ran: &Ran, steps: Vec<StepView>, now: Timestamp) -> JobView {
    let job = &ran.job;
    JobView {
        name: job.spec.name.to_string(),
        status: job.status.as_str(),
        href: job_href(build, job),
        took: Took::between(job.started_at, job.finished_at, now),
        note: attempts_note(job),
        reason: job.reason.clone(),
        cost: ran.cost.text(),
        needs: build_row::needs(job),
        worker: job
            .worker
            .as_ref()
            .map(|worker| Link { name: worker.to_string(), href: links::worker(worker.as_str()) }),
        steps,
    }
}

/// A pass after a retry is never shown as plain green.
fn attempts_note(job: &Job) -> Option<String> {
    match (job.attempts, job.status) {
        (0 | 1, _) => None,
        (attempts, JobStatus::Passed) => Some(format!("passed after retry, attempt {attempts}")),
        (attempts, _) => Some(format!("attempt {attempts}")),
    }
}

fn step_view(
    build: &Build,
    job: &Job,
    step: &StepRun,
    chosen: Option<u32>,
    now: Timestamp,
) -> StepView {
    let took = match step.duration_ms {
        Some(ms) => {
            Took { text: words::duration(std::time::Duration::from_millis(ms)), since: None }
        }
        None if job.status.is_final() => Took::default(),
        None => Took::between(Some(step.started_at), None, now),
    };
    StepView {
        name: step.name.clone(),
        status: words::step_status(step.outcome.as_ref()),
        href: links::step(&build.project, build.number, job.spec.name.as_str(), step.step),
        took,
        selected: chosen == Some(step.step),
    }
}

/// Which build and job each busy worker is at, for the workers' pages.
pub async fn work_of_workers(web: &Web) -> Result<BTreeMap<String, Link>, Problem> {
    let builds = web.store.active_builds(ACTIVE_MAX).await?;
    let ids: Vec<crate::model::ids::BuildId> = builds.iter().map(|build| build.id).collect();
    let jobs = web.store.jobs_of_many(ids).await?;
    let mut work = BTreeMap::new();
    for job in jobs.iter().filter(|job| job.status == JobStatus::Running) {
        let build = builds.iter().find(|build| build.id == job.build);
        if let (Some(worker), Some(build)) = (&job.worker, build) {
            let name = format!("{} #{} {}", build.project, build.number, job.spec.name);
            work.insert(worker.to_string(), Link { name, href: job_href(build, job) });
        }
    }
    Ok(work)
}
