//! `busybee build show`

use std::time::Duration;

use crate::api::build::Build;
use crate::api::build::Job;
use crate::api::build::Step;
use crate::client::build::list::between;
use crate::client::build::list::short_commit;
use crate::client::build::list::short_ref;
use crate::client::build::list::took;
use crate::client::build_name::BuildName;
use crate::client::connection::Connection;
use crate::client::exit::Exit;
use crate::client::exit::Failure;
use crate::client::moment;
use crate::client::money;
use crate::client::screen::Screen;
use crate::client::screen::Tone;
use crate::client::screen::tone_of;
use crate::client::screen::visible;
use crate::client::table::Cell;
use crate::client::table::Table;

/// Shows a build with its jobs and their steps.
///
/// # Errors
/// There is no such build, or the master cannot be reached.
pub async fn run(
    connection: &Connection,
    name: &BuildName,
    json: bool,
    mut screen: Screen,
) -> Result<Exit, Failure> {
    let document = connection.build(name).await?;
    if json {
        screen.line(&document.text())?;
        return Ok(Exit::Done);
    }
    let build: Build = document.read()?;
    screen.line(&headline(&build, &screen))?;
    for (key, value) in facts(&build, &screen) {
        screen.line(&format!("  {key:<8} {}", visible(&value)))?;
    }
    if let Some(reason) = &build.reason {
        screen.line("")?;
        for line in reason.lines() {
            screen.line(&screen.paint(Tone::Bad, &visible(line)))?;
        }
    }
    if !build.jobs.is_empty() {
        screen.line("")?;
        let jobs = jobs(&build).render(&screen);
        screen.bytes(jobs.as_bytes())?;
    }
    Ok(Exit::Done)
}

/// `hello/12 passed in 3s`
pub fn headline(build: &Build, screen: &Screen) -> String {
    let status = screen.paint(tone_of(&build.status), &visible(&build.status));
    let took = took(build).map(|took| format!(" in {took}")).unwrap_or_default();
    format!("{}/{} {status}{took}", visible(&build.project), build.number)
}

fn facts(build: &Build, screen: &Screen) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("commit", format!("{} {}", short_commit(&build.commit), build.subject)),
        ("author", build.author.clone()),
        ("ref", short_ref(build)),
        ("event", build.event.clone()),
        ("created", screen.moment(&build.created_at)),
        ("page", build.url.clone()),
    ];
    if let Some(pipeline) = &build.pipeline {
        facts.insert(0, ("pipeline", pipeline.clone()));
    }
    if let Some(cost) = money::cost(build.cost.as_deref(), build.cost_in_part) {
        facts.push(("cost", cost));
    }
    facts.extend(build.inputs.iter().map(|(name, value)| ("input", format!("{name}={value}"))));
    facts
}

/// Jobs, and below each its steps.
pub fn jobs(build: &Build) -> Table {
    let mut table = Table::new(&["JOB", "STATUS", "TOOK", "WORKER", "ATTEMPTS", "REASON"]);
    for job in &build.jobs {
        table.row(job_row(job));
        for step in job.steps.iter().flatten() {
            table.row(step_row(step));
        }
    }
    table
}

fn job_row(job: &Job) -> Vec<Cell> {
    let reason = match (&job.reason, job.status.as_str()) {
        (Some(reason), _) => reason.clone(),
        (None, "waiting") => format!("needs {}", job.needs.join(", ")),
        (None, _) => String::new(),
    };
    vec![
        Cell::plain(&job.name),
        Cell::status(&job.status),
        Cell::or_dash(between(job.started_at.as_deref(), job.finished_at.as_deref()).as_deref()),
        Cell::or_dash(job.worker.as_deref()),
        Cell::plain(job.attempts.to_string()),
        Cell::plain(reason),
    ]
}

fn step_row(step: &Step) -> Vec<Cell> {
    let took = step.duration_ms.map(|ms| moment::duration(Duration::from_millis(ms)));
    let mut reason = step.reason.clone().unwrap_or_default();
    if step.log_incomplete {
        let gap = if reason.is_empty() { "" } else { "; " };
        reason.push_str(&format!("{gap}its log is incomplete"));
    }
    vec![
        Cell::plain(format!("  {}", step.name)),
        Cell::status(&step.status),
        Cell::or_dash(took.as_deref()),
        Cell::plain(""),
        Cell::plain(""),
        Cell::plain(reason),
    ]
}
