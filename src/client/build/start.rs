//! `busybee build start`, and staying with the build until it has ended.

use std::collections::BTreeSet;
use std::time::Duration;

use indicatif::MultiProgress;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;

use crate::api::build::Build;
use crate::api::build::BuildRef;
use crate::api::build::StartBuild;
use crate::client::arguments::build::StartArguments;
use crate::client::arguments::input;
use crate::client::build::show::headline;
use crate::client::build::show::jobs;
use crate::client::build_name::BuildName;
use crate::client::connection::Connection;
use crate::client::document::Document;
use crate::client::exit::Exit;
use crate::client::exit::Failure;
use crate::client::follow::Follower;
use crate::client::follow::Part;
use crate::client::follow::is_over;
use crate::client::log_output::LogOutput;
use crate::client::screen::Screen;
use crate::client::screen::remark;
use crate::client::screen::visible;
use crate::client::watch::Watch;
use crate::model::ids::BuildNumber;
use crate::model::ids::ProjectName;
use crate::model::status::BuildStatus;

/// How often a running job's line moves: often enough to look alive.
const TICK_INTERVAL: Duration = Duration::from_millis(120);

/// Starts a build, and stays with it where that is wished.
///
/// # Errors
/// The build cannot be started, or the master stays away while it is waited for.
pub async fn run(
    connection: &Connection,
    arguments: StartArguments,
    json: bool,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let inputs = input::by_name(arguments.inputs).map_err(Failure::wrong)?;
    let path = ["projects", arguments.project.as_str(), "builds"];
    let question = StartBuild { reference: arguments.reference, inputs };
    let started: BuildRef = connection.post(&path, &question).await?.read()?;
    let name = BuildName {
        project: ProjectName(started.project.clone()),
        number: BuildNumber(started.number),
    };
    if !arguments.wait && !arguments.follow {
        let text = match json {
            true => connection.build(&name).await?.text(),
            false => format!("{name} {}", visible(&started.url)),
        };
        screen.line(&text)?;
        return Ok(Exit::Done);
    }
    let to_the_end = stay(connection, &name, &started.url, arguments.follow, json, screen);
    tokio::select! {
        ended = to_the_end => ended,
        _ = tokio::signal::ctrl_c() => {
            remark(&format!(
                "{name} goes on without us: `busybee build show {name}` says how it stands, \
                 `busybee build cancel {name}` ends it"
            ));
            Ok(Exit::Interrupted)
        }
    }
}

/// Stays until the build has ended, and ends as it did.
async fn stay(
    connection: &Connection,
    name: &BuildName,
    url: &str,
    follow: bool,
    json: bool,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let begun = format!("{name} {}", visible(url));
    let (document, build) = if follow {
        remark(&begun);
        let mut output = LogOutput::new(screen, json);
        let follower = Follower::new(connection, name, Part::default());
        let seen = follower.follow(&mut output).await?;
        screen = output.into_screen();
        // A reader that left half-way does not make the build end sooner, nor pass.
        if is_over(&seen.1) { seen } else { wait(connection, name, false).await? }
    } else {
        if !json {
            screen.line(&begun)?;
        }
        wait(connection, name, !json).await?
    };
    if json {
        screen.line(&document.text())?;
    } else if follow {
        remark(&headline(&build, &Screen::plain()));
        say_why_cancelled(&build);
    } else {
        screen.line(&headline(&build, &screen))?;
        if screen.is_terminal() {
            // The jobs' moving lines are gone; this is what became of them.
            screen.bytes(jobs(&build).render(&screen).as_bytes())?;
        } else {
            say_why_cancelled(&build);
        }
    }
    // A word that this client does not know is nobody's pass.
    Ok(build.status.parse::<BuildStatus>().map_or(Exit::Infra, Exit::of_build))
}

/// Tells whoever sees no table of jobs why it was cancelled: mostly it was nobody that they know.
fn say_why_cancelled(build: &Build) {
    if build.status != "cancelled" {
        return;
    }
    let of = |status: &str| -> BTreeSet<&str> {
        let jobs = build.jobs.iter().filter(|job| job.status == status);
        jobs.filter_map(|job| job.reason.as_deref()).collect()
    };
    let cancelled = of("cancelled");
    let reasons = if cancelled.is_empty() { of("skipped") } else { cancelled };
    reasons.iter().for_each(|reason| remark(&visible(&format!("cancelled: {reason}"))));
}

/// Waits until the build has ended; a person sees its jobs move meanwhile.
async fn wait(
    connection: &Connection,
    name: &BuildName,
    with_progress: bool,
) -> Result<(Document, Build), Failure> {
    let mut watch = Watch::new(connection.clone(), name.clone());
    let mut progress = with_progress.then(Progress::new);
    loop {
        let (document, build) = watch.next().await?;
        if let Some(progress) = &mut progress {
            progress.update(&build);
        }
        if is_over(&build) {
            return Ok((document, build));
        }
    }
}

impl Drop for Progress {
    /// Leaves the terminal as it was, however the waiting ended.
    fn drop(&mut self) {
        // A terminal that is gone needs no clearing.
        let _gone = self.bars.clear();
    }
}

/// A line for each job, on the standard error and only if that is a terminal.
#[derive(Debug)]
struct Progress {
    bars: MultiProgress,
    jobs: Vec<ProgressBar>,
}

impl Progress {
    fn new() -> Progress {
        Progress { bars: MultiProgress::new(), jobs: Vec::new() }
    }

    fn update(&mut self, build: &Build) {
        while self.jobs.len() < build.jobs.len() {
            let style = ProgressStyle::with_template("{spinner} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = self.bars.add(ProgressBar::new_spinner().with_style(style));
            bar.enable_steady_tick(TICK_INTERVAL);
            self.jobs.push(bar);
        }
        for (bar, job) in self.jobs.iter().zip(&build.jobs) {
            let step = job.steps.iter().flatten().rev().find(|step| step.status == "running");
            let about = match (step, &job.reason, &job.worker) {
                (Some(step), _, _) => format!(": {}", step.name),
                (None, Some(reason), _) => format!(": {reason}"),
                (None, None, Some(worker)) => format!(" on {worker}"),
                (None, None, None) => String::new(),
            };
            bar.set_message(visible(&format!("{} {}{about}", job.name, job.status)));
            if crate::client::log_stream::is_final(job) {
                bar.finish();
            }
        }
    }
}
