//! `busybee demo`: a throw-away master, a sample repository, and a worker that did not exist before
//! the push. No root, no network beyond loopback, nothing left behind.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use crate::master::app;
use crate::master::app::Running;
use crate::master::commands::sample::Sample;
use crate::master::commands::serve;
use crate::master::commands::throwaway;
use crate::master::commands::throwaway::Looks;
use crate::master::commands::throwaway::Scratch;
use crate::master::config::Config;
use crate::master::domain::entities::Build;
use crate::master::domain::entities::Job;
use crate::model::ids::BuildNumber;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;
use crate::model::status::BuildStatus;
use crate::model::status::JobStatus;
use crate::runtime::private_file;

/// The whole demo takes seconds; on a very slow computer it gives up after this.
const DEMO_TIMEOUT: Duration = Duration::from_secs(100);

/// Ending a worker takes its processes' grace and a little.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// What the demo is told.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Where to serve the page; nothing: a free port of loopback.
    pub listen: Option<SocketAddr>,
    /// Where to keep the demo's files; nothing: a scratch directory that goes away.
    pub data_dir: Option<PathBuf>,
    /// Leave after the build.
    pub exit: bool,
}

/// Runs the demo; how its build ended.
///
/// # Errors
/// When it cannot be carried out; the text is for people.
pub fn demo(options: &DemoOptions) -> Result<BuildStatus, String> {
    let runtime = serve::runtime()?;
    let done = runtime.block_on(async {
        let scratch = Scratch::create("demo", options.data_dir.as_deref())?;
        let status = in_scratch(options, &scratch).await;
        scratch.remove()?;
        status
    });
    done.map_err(|why: anyhow::Error| format!("the demo failed to {why:#}"))
}

async fn in_scratch(options: &DemoOptions, scratch: &Scratch) -> anyhow::Result<BuildStatus> {
    let sample = Sample::create(&scratch.dir)?;
    say("a sample repository is made");
    let config = config(options, &scratch.dir, sample.repository())?;
    let running = app::start(config).await?;
    let address = running.address;
    let status = tokio::select! {
        told = serve::told_to_stop() => {
            told?;
            Ok(BuildStatus::Cancelled)
        }
        done = push_and_watch(&running, &sample) => done,
    };
    if let (Ok(status), false) = (&status, options.exit) {
        say(&format!(
            "the build is {status}; look at it as long as you like: http://{address}/#token={}",
            running.token.reveal()
        ));
        say("Ctrl-C ends the demo and everything it started");
        serve::told_to_stop().await?;
    }
    throwaway::end_workers(&running, &"local".into(), END_TIMEOUT).await?;
    say("the worker is gone");
    running.stop().await;
    status
}

/// The demo's own `busybee.toml`.
fn config(options: &DemoOptions, dir: &Path, repository: &Path) -> anyhow::Result<Config> {
    let listen = options.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let path = |path: &Path| -> anyhow::Result<String> {
        let text = path.to_str().context("use a directory that is not named in UTF-8")?;
        Ok(toml::Value::from(text).to_string())
    };
    let text = format!(
        "[master]\nurl = \"https://{listen}\"\nlisten = \"{listen}\"\ndata_dir = {}\n\n\
         [[pool]]\nname = \"local\"\nlabels = [\"linux\"]\nprovisioner = \"local\"\n\
         unsafe_local = true\nmax_instances = 2\nidle_timeout = \"10s\"\n\n\
         [[project]]\nname = \"hello\"\nrepo = {}\npoll = \"1s\"\n",
        path(&dir.join("data"))?,
        path(repository)?,
    );
    let file = dir.join("busybee.toml");
    private_file::write(&file, text.as_bytes())?;
    Config::load(&file).map_err(|problems| anyhow::anyhow!("read its own settings: {problems}"))
}

/// Pushes once the project is watched, and follows the build that comes of it.
async fn push_and_watch(running: &Running, sample: &Sample) -> anyhow::Result<BuildStatus> {
    let project = ProjectName::from("hello");
    let all = async {
        let mut looks = Looks::new(running);
        while running.store.refs(project.clone()).await?.is_empty() {
            looks.next().await;
        }
        sample.push_the_change()?;
        running.changes.poke(&project);
        say("pushed a change: there is no worker yet");
        let mut told = Told::default();
        loop {
            if let Some(status) = look(running, &project, &mut told).await? {
                return Ok(status);
            }
            looks.next().await;
        }
    };
    let timed = tokio::time::timeout(DEMO_TIMEOUT, all).await;
    timed.context("finish in time: the build did not end")?
}

/// What was said already.
#[derive(Default)]
struct Told {
    page: bool,
    worker: Option<WorkerName>,
    jobs: Vec<(String, JobStatus)>,
}

/// Says what is new; the build's status once it is final.
async fn look(
    running: &Running,
    project: &ProjectName,
    told: &mut Told,
) -> anyhow::Result<Option<BuildStatus>> {
    let Some(build) = running.store.build(project.clone(), BuildNumber(1)).await? else {
        return Ok(None);
    };
    if !told.page {
        told.page = true;
        let (address, token) = (running.address, running.token.reveal());
        say(&format!(
            "watch build hello/1: http://{address}/projects/hello/builds/1#token={token}"
        ));
    }
    for worker in running.store.workers().await? {
        if told.worker.is_none() {
            say(&format!("worker {} is being started for it", worker.name));
            told.worker = Some(worker.name);
        }
    }
    let jobs = running.store.jobs_of(build.id).await?;
    for job in &jobs {
        say_job(job, told);
    }
    Ok(over(&build))
}

fn over(build: &Build) -> Option<BuildStatus> {
    build.status.is_final().then_some(build.status)
}

fn say_job(job: &Job, told: &mut Told) {
    let now = (job.spec.name.to_string(), job.status);
    let is_worth_saying = !matches!(job.status, JobStatus::Waiting | JobStatus::Queued);
    if told.jobs.contains(&now) || !is_worth_saying {
        return;
    }
    let took = job.started_at.zip(job.finished_at);
    let took = took.map(|(from, to)| format!(" in {} ms", to.since(from).as_millis()));
    let on = job.worker.as_ref().filter(|_| job.status == JobStatus::Running);
    let on = on.map(|worker| format!(" on {worker}")).unwrap_or_default();
    say(&format!("job {}: {}{on}{}", now.0, job.status, took.unwrap_or_default()));
    told.jobs.push(now);
}

/// A line for whoever watches. Nobody watching is no reason to fail.
fn say(line: &str) {
    let _closed = writeln!(std::io::stdout(), "{line}");
}
