//! One build in a list: on the home page and on its project's.

use crate::master::domain::entities::Build;
use crate::master::domain::entities::Job;
use crate::master::http::links;
use crate::master::http::pages::Moment;
use crate::master::http::pages::Took;
use crate::model::ids::BuildId;
use crate::model::ids::RefName;
use crate::model::status::JobStatus;
use crate::model::time::Timestamp;

/// Jobs whose waiting is explained in a list, at most; the build's page has all.
const WAITS_MAX: usize = 3;

/// What a row shows.
#[derive(Clone, Debug)]
pub struct BuildRow {
    /// The status word.
    pub status: &'static str,
    /// Its page.
    pub href: String,
    /// The commit's subject, or the commit where it has none.
    pub subject: String,
    /// Whether the project is named: not on its own page.
    pub show_project: bool,
    /// Whose build.
    pub project: String,
    /// The project's page.
    pub project_href: String,
    /// Its number.
    pub number: u64,
    /// Branch, tag or ref.
    pub branch: String,
    /// The commit, shortened.
    pub commit: String,
    /// The author's name.
    pub author: String,
    /// How long it took or has been running.
    pub took: Took,
    /// When it came to be.
    pub created: Moment,
    /// The jobs that run or wait, and why.
    pub waits: Vec<Waiting>,
}

/// A job that is not done, in words.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its name.
    pub job: String,
    /// Its status word.
    pub status: &'static str,
    /// What it is at, or what it waits for.
    pub sentence: String,
}

impl BuildRow {
    /// A row for a build; its jobs say why it waits.
    pub fn new<'a>(
        build: &Build,
        jobs: impl Iterator<Item = &'a Job>,
        show_project: bool,
        now: Timestamp,
    ) -> BuildRow {
        BuildRow {
            status: build.status.as_str(),
            href: links::build(&build.project, build.number),
            subject: subject(build),
            show_project,
            project: build.project.to_string(),
            project_href: links::project(&build.project),
            number: build.number.0,
            branch: ref_text(&build.ref_name).to_owned(),
            commit: build.commit.short().to_owned(),
            author: author_name(&build.author).to_owned(),
            took: Took::between(build.started_at, build.finished_at, now),
            created: Moment::new(build.created_at, now),
            waits: if build.status.is_final() { Vec::new() } else { waits(jobs) },
        }
    }

    /// Rows for a page of builds, given all their jobs.
    pub fn many(
        builds: &[Build],
        jobs: &[Job],
        show_project: bool,
        now: Timestamp,
    ) -> Vec<BuildRow> {
        let of = |id: BuildId| jobs.iter().filter(move |job| job.build == id);
        builds.iter().map(|build| BuildRow::new(build, of(build.id), show_project, now)).collect()
    }
}

/// What a build is called where its number does not say enough.
pub fn subject(build: &Build) -> String {
    if build.subject.is_empty() { build.commit.short().to_owned() } else { build.subject.clone() }
}

/// A ref as people say it.
pub fn ref_text(ref_name: &RefName) -> &str {
    ref_name.branch().or_else(|| ref_name.tag()).unwrap_or(ref_name.as_str())
}

/// `Ada` of `Ada <ada@example.com>`.
pub fn author_name(author: &str) -> &str {
    author.split(" <").next().unwrap_or(author)
}

/// The jobs that run, then those that could, then those that wait for others.
fn waits<'a>(jobs: impl Iterator<Item = &'a Job>) -> Vec<Waiting> {
    let rank = |status: JobStatus| match status {
        JobStatus::Running => Some(0),
        JobStatus::Queued => Some(1),
        JobStatus::Waiting => Some(2),
        JobStatus::Passed
        | JobStatus::Failed
        | JobStatus::Cancelled
        | JobStatus::Infra
        | JobStatus::Skipped => None,
    };
    let mut open: Vec<(u8, &Job)> = jobs.filter_map(|job| Some((rank(job.status)?, job))).collect();
    open.sort_by_key(|(rank, _)| *rank);
    let n_open = open.len();
    let mut waits: Vec<Waiting> =
        open.iter().take(WAITS_MAX).map(|(_, job)| waiting(job)).collect();
    if n_open > WAITS_MAX {
        let sentence = format!("and {} more", n_open - WAITS_MAX);
        waits.push(Waiting { job: String::new(), status: "waiting", sentence });
    }
    waits
}

fn waiting(job: &Job) -> Waiting {
    let sentence = match (&job.reason, job.status, &job.worker) {
        (Some(reason), JobStatus::Queued | JobStatus::Waiting, _) => format!("waits: {reason}"),
        (_, JobStatus::Running, Some(worker)) => format!("runs on {worker}"),
        (_, JobStatus::Queued, _) => "waits for a worker".to_owned(),
        (_, JobStatus::Waiting, _) => format!("waits for {}", needs(job)),
        (_, other, _) => other.to_string(),
    };
    Waiting { job: job.spec.name.to_string(), status: job.status.as_str(), sentence }
}

/// The names of the jobs that a job needs.
pub fn needs(job: &Job) -> String {
    let names: Vec<&str> = job.spec.needs.iter().map(|need| need.as_str()).collect();
    names.join(", ")
}
