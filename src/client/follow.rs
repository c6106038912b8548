//! Showing a build's logs while they are written: which job next, and which step of it.
//!
//! Jobs that run side by side are shown one after the other, never mixed: whoever reads a pipe
//! gets whole logs. A job that waits for a worker does not hold up one that runs.

use std::collections::BTreeSet;

use crate::api::build::Build;
use crate::api::build::Job;
use crate::api::build::Step;
use crate::client::build_name::BuildName;
use crate::client::connection::Connection;
use crate::client::document::Document;
use crate::client::exit::Failure;
use crate::client::log_output::Form;
use crate::client::log_output::LogOutput;
use crate::client::log_stream::LogStream;
use crate::client::log_stream::is_final;
use crate::client::screen::remark;
use crate::client::screen::visible;
use crate::client::watch::Watch;
use crate::model::status::BuildStatus;

/// Which part of a build's logs.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Only this job.
    pub job: Option<String>,
    /// Only the steps of this name or number.
    pub step: Option<String>,
}

impl Part {
    fn has_job(&self, job: &Job) -> bool {
        self.job.as_ref().is_none_or(|name| *name == job.name)
    }

    fn has_step(&self, step: &Step) -> bool {
        let is_it = |wanted: &String| *wanted == step.name || *wanted == step.step.to_string();
        self.step.as_ref().is_none_or(is_it)
    }

    /// Whether everything wanted has ended.
    fn is_over(&self, build: &Build) -> bool {
        let mut jobs = build.jobs.iter().filter(|job| self.has_job(job)).peekable();
        is_over(build) || (jobs.peek().is_some() && jobs.all(is_final))
    }
}

/// Shows logs of one build.
#[derive(Debug)]
pub struct Follower<'a> {
    connection: &'a Connection,
    name: &'a BuildName,
    part: Part,
    watch: Watch,
    /// What was last said of why nothing happens.
    waiting_for: String,
}

impl<'a> Follower<'a> {
    /// Nothing is asked yet.
    pub fn new(connection: &'a Connection, name: &'a BuildName, part: Part) -> Follower<'a> {
        let watch = Watch::new(connection.clone(), name.clone());
        Follower { connection, name, part, watch, waiting_for: String::new() }
    }

    /// Shows what is there, without waiting for more.
    ///
    /// # Errors
    /// There is no such build, job or step, or the output cannot be written.
    pub async fn show(mut self, output: &mut LogOutput) -> Result<(), Failure> {
        let (_, build) = self.watch.now().await?;
        self.check(&build)?;
        for job in &build.jobs {
            if self.part.has_job(job) && has_started(job) && !output.is_closed() {
                self.job(job, output, false).await?;
            }
        }
        self.say_what_is_missing(&build);
        if !build.jobs.iter().any(|job| self.part.has_job(job) && has_started(job)) {
            let name = self.name;
            let advice = format!("`busybee build show {name}` says how it stands");
            remark(&format!("{name} has no such logs: no job of it has started; {advice}"));
        }
        Ok(())
    }

    /// Shows what is there and what comes, until it is over or the reader has gone. Answers with
    /// the build as it stands then.
    ///
    /// # Errors
    /// As [`Follower::show`], and the master stays away for too long.
    pub async fn follow(mut self, output: &mut LogOutput) -> Result<(Document, Build), Failure> {
        let mut shown = BTreeSet::new();
        let (mut document, mut build) = self.watch.next().await?;
        self.check(&build)?;
        while !output.is_closed() {
            let next = build.jobs.iter().find(|job| {
                self.part.has_job(job) && has_started(job) && !shown.contains(&job.name)
            });
            if let Some(job) = next.cloned() {
                self.job(&job, output, true).await?;
                shown.insert(job.name);
                (document, build) = self.watch.now().await?;
            } else if self.part.is_over(&build) {
                break;
            } else {
                self.say_what_it_waits_for(&build, output)?;
                (document, build) = self.watch.next().await?;
            }
        }
        self.say_what_is_missing(&build);
        Ok((document, build))
    }

    /// Tells which logs are not whole: nobody may take a part for all of it.
    fn say_what_is_missing(&self, build: &Build) {
        for job in build.jobs.iter().filter(|job| self.part.has_job(job)) {
            let steps = job.steps.iter().flatten().filter(|step| self.part.has_step(step));
            for step in steps.filter(|step| step.log_incomplete) {
                let text =
                    format!("the log of step {} of job {} is incomplete", step.name, job.name);
                remark(&visible(&text));
            }
        }
    }

    /// Refuses what cannot be shown, before anything is.
    fn check(&self, build: &Build) -> Result<(), Failure> {
        let name = self.name;
        let names = |all: Vec<&str>| match all.as_slice() {
            [] => "it has none".to_owned(),
            some => format!("it has {}", some.join(", ")),
        };
        let mut jobs = build.jobs.iter().filter(|job| self.part.has_job(job)).peekable();
        if let (None, Some(job)) = (jobs.peek(), &self.part.job) {
            let all = names(build.jobs.iter().map(|job| job.name.as_str()).collect());
            return Err(Failure::wrong(format!("build {name} has no job \"{job}\": {all}")));
        }
        let Some(wanted) = &self.part.step else { return Ok(()) };
        let jobs: Vec<&Job> = jobs.collect();
        let steps = jobs.iter().flat_map(|job| job.steps.iter().flatten());
        let has_it = steps.clone().any(|step| self.part.has_step(step));
        if has_it || !jobs.iter().all(|job| is_final(job)) {
            return Ok(());
        }
        let mut all: Vec<&str> = steps.map(|step| step.name.as_str()).collect();
        all.dedup();
        let all = names(all);
        Err(Failure::wrong(format!("no step \"{wanted}\" ran in build {name}: {all}")))
    }

    /// Shows one job: in one piece where nothing stands between its steps.
    async fn job(
        &mut self,
        job: &Job,
        output: &mut LogOutput,
        follow: bool,
    ) -> Result<(), Failure> {
        if output.form() == Form::Raw && self.part.step.is_none() {
            return LogStream::new(self.connection, self.name, job, None, follow)
                .copy(output)
                .await;
        }
        let mut job = job.clone();
        let mut shown = BTreeSet::new();
        while !output.is_closed() {
            let steps = job.steps.clone().unwrap_or_default();
            let is_new = |step: &&Step| {
                self.part.has_step(step) && !shown.contains(&(job.attempts, step.step))
            };
            if let Some(step) = steps.iter().find(is_new) {
                shown.insert((job.attempts, step.step));
                output.begin_step(&job, step)?;
                let stream =
                    LogStream::new(self.connection, self.name, &job, Some(step.step), follow);
                stream.copy(output).await?;
                if follow {
                    job = self.job_now(&job, false).await?;
                }
                let steps = job.steps.as_deref().unwrap_or_default();
                output.end_step(steps.iter().find(|other| other.step == step.step))?;
            } else if !follow || is_final(&job) {
                break;
            } else {
                job = self.job_now(&job, true).await?;
            }
        }
        Ok(())
    }

    /// The job as it stands, at once or after the build's next change.
    async fn job_now(&mut self, job: &Job, after_change: bool) -> Result<Job, Failure> {
        let (_, build) =
            if after_change { self.watch.next().await? } else { self.watch.now().await? };
        let found = build.jobs.into_iter().find(|other| other.name == job.name);
        found.ok_or_else(|| Failure::wrong(format!("job {} is gone from its build", job.name)))
    }

    /// Tells a person once why nothing happens.
    fn say_what_it_waits_for(
        &mut self,
        build: &Build,
        output: &mut LogOutput,
    ) -> Result<(), Failure> {
        let is_over =
            |need: &String| build.jobs.iter().any(|job| &job.name == need && is_final(job));
        let queued = build.jobs.iter().find(|job| job.status == "queued");
        // What waits for others of its own build says nothing of the build.
        let behind = |job: &&Job| job.status == "waiting" && job.needs.iter().all(is_over);
        let Some(job) = queued.or_else(|| build.jobs.iter().find(behind)) else { return Ok(()) };
        let Some(reason) = &job.reason else { return Ok(()) };
        let text = format!("{} waits: {reason}", job.name);
        if text == self.waiting_for {
            return Ok(());
        }
        output.aside(&text)?;
        self.waiting_for = text;
        Ok(())
    }
}

/// Whether there can be a log of it.
fn has_started(job: &Job) -> bool {
    job.attempts > 0 || job.started_at.is_some()
}

/// Whether a build has ended. A status that this client does not know counts by its end's time.
pub fn is_over(build: &Build) -> bool {
    match build.status.parse::<BuildStatus>() {
        Ok(status) => status.is_final(),
        Err(_) => build.finished_at.is_some(),
    }
}
