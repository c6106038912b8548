//! One log, every byte of it once: a connection that breaks is taken up where it broke.

use crate::api;
use crate::api::build::Build;
use crate::api::build::Job;
use crate::api::log::LogQuery;
use crate::client::build_name::BuildName;
use crate::client::connection::Connection;
use crate::client::exit::Exit;
use crate::client::exit::Failure;
use crate::client::log_output::LogOutput;
use crate::client::patience::Patience;
use crate::model::status::JobStatus;

/// Which log: a job's, or one step's of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    /// Which job.
    job: String,
    /// Which of its steps; nothing: all of them, one after the other.
    step: Option<u32>,
    /// Whether to stay until the job or the step is over.
    follow: bool,
}

impl Wanted {
    /// How many bytes it holds at least, by what the master says of its steps. The end of an
    /// answer alone proves nothing: a master may fail to read a file half-way.
    fn bytes_min(&self, job: &Job) -> u64 {
        let steps = job.steps.iter().flatten();
        let mine = steps.filter(|step| self.step.is_none_or(|number| number == step.step));
        let whole = mine.filter(|step| !step.log_incomplete);
        whole.filter_map(|step| step.log_bytes).sum()
    }
}

/// A log on its way here, and how much of it has come.
#[derive(Debug)]
pub struct LogStream<'a> {
    connection: &'a Connection,
    name: &'a BuildName,
    wanted: Wanted,
    attempt: Option<u32>,
    received: u64,
    /// The log is not whole before so much has come.
    bytes_min: u64,
    patience: Patience,
}

impl<'a> LogStream<'a> {
    /// A log of this job, as the job stands. Nothing is asked yet.
    pub fn new(
        connection: &'a Connection,
        name: &'a BuildName,
        job: &Job,
        step: Option<u32>,
        follow: bool,
    ) -> LogStream<'a> {
        let wanted = Wanted { job: job.name.clone(), step, follow };
        LogStream {
            connection,
            name,
            bytes_min: wanted.bytes_min(job),
            wanted,
            attempt: None,
            received: 0,
            patience: Patience::new(),
        }
    }

    /// Passes the whole log on to `output`.
    ///
    /// An answer that was asked for after the log was complete and ended in order holds all of
    /// it. One that ends earlier may have ended because the master stops.
    ///
    /// # Errors
    /// There is no such log, the master stays away for too long, or the output cannot be written.
    pub async fn copy(mut self, output: &mut LogOutput) -> Result<(), Failure> {
        let mut is_complete = !self.wanted.follow;
        loop {
            let before = self.received;
            match self.answer(output).await {
                Ok(()) if output.is_closed() => return Ok(()),
                Ok(()) if is_complete && self.received >= self.bytes_min => return Ok(()),
                Ok(()) if is_complete => self.patience.after(self.too_short()).await?,
                Ok(()) => {
                    is_complete = self.is_over().await?;
                    if !is_complete && self.received == before {
                        self.patience.pause().await;
                    }
                }
                Err(failure) => self.patience.after(failure).await?,
            }
        }
    }

    /// Takes one answer to its end.
    async fn answer(&mut self, output: &mut LogOutput) -> Result<(), Failure> {
        let number = self.name.number.to_string();
        let path = ["projects", self.name.project.as_str(), "builds", &number, "log"];
        let query = LogQuery {
            job: Some(self.wanted.job.clone()),
            step: self.wanted.step.map(|step| step.to_string()),
            attempt: self.attempt,
            offset: Some(self.received).filter(|received| *received > 0),
            follow: Some(true).filter(|_| self.wanted.follow),
        };
        let mut response = self.connection.stream(&path, &query).await?;
        if self.attempt.is_none() {
            let header = response.headers().get(api::log::ATTEMPT_HEADER);
            self.attempt = header.and_then(|value| value.to_str().ok()?.parse().ok());
        }
        loop {
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    self.patience.restore();
                    self.received += bytes.len() as u64;
                    output.bytes(&bytes)?;
                    if output.is_closed() {
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.connection.broken(&error)),
            }
        }
    }

    /// Whether nothing more can come.
    async fn is_over(&mut self) -> Result<bool, Failure> {
        loop {
            match self.connection.build(self.name).await {
                Ok(document) => {
                    let build: Build = document.read()?;
                    let job = build.jobs.iter().find(|job| job.name == self.wanted.job);
                    self.bytes_min = job.map_or(0, |job| self.wanted.bytes_min(job));
                    return Ok(job.is_none_or(|job| is_over(job, &self.wanted, self.attempt)));
                }
                Err(failure) => self.patience.after(failure).await?,
            }
        }
    }

    fn too_short(&self) -> Failure {
        let sentence = format!(
            "the log of job {} in {} ended after {} of {} bytes; the master's own log says why",
            self.wanted.job, self.name, self.received, self.bytes_min
        );
        Failure { exit: Exit::Infra, sentence }
    }
}

/// Whether a log can grow no more, as its job stands.
fn is_over(job: &Job, wanted: &Wanted, attempt: Option<u32>) -> bool {
    if is_final(job) {
        return true;
    }
    let Some(number) = wanted.step else { return false };
    let is_earlier_attempt = attempt.is_some_and(|attempt| attempt < job.attempts);
    let steps = job.steps.as_deref().unwrap_or_default();
    let step = steps.iter().find(|step| step.step == number);
    is_earlier_attempt || step.is_some_and(|step| step.status != "running")
}

/// Whether a job has ended. A status that this client does not know counts by its end's time.
pub fn is_final(job: &Job) -> bool {
    match job.status.parse::<JobStatus>() {
        Ok(status) => status.is_final(),
        Err(_) => job.finished_at.is_some(),
    }
}
