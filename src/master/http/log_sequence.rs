//! Several logs as one: the steps of an attempt, the attempts of a job, the jobs of a build.

use crate::master::domain::entities::StepRun;
use crate::master::http::Web;
use crate::master::http::log_choice;
use crate::master::http::log_tail;
use crate::master::http::log_tail::Piece;
use crate::master::http::log_tail::QUIET_AFTER;
use crate::master::http::log_tail::Source;
use crate::master::http::log_tail::Tail;
use crate::master::http::stream::ReaderGone;
use crate::master::http::stream::Writer;
use crate::master::notices::Notice;
use crate::model::ids::BuildNumber;
use crate::model::ids::JobId;
use crate::model::ids::ProjectName;

/// What is to be written, one after the other.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Whose build.
    pub project: ProjectName,
    /// Which.
    pub number: BuildNumber,
    /// In this order.
    pub jobs: Vec<JobId>,
    /// With which attempt to begin, then all later ones; nothing: with the newest.
    pub first_attempt: Option<u32>,
    /// Only the step of this number or name.
    pub step: Option<String>,
    /// Whether to wait for what has not happened yet.
    pub follow: bool,
}

/// What comes after a place in a job's logs.
enum Next {
    /// This step's log, of the attempt with this number.
    Step(u32, StepRun),
    /// Nothing yet.
    NotYet,
    /// Nothing more.
    Done,
}

/// The reader has gone, or the master stops. Nothing may be written behind this: who asks again does
/// so with the number of bytes that have come.
struct BrokenOff;

impl From<ReaderGone> for BrokenOff {
    fn from(ReaderGone: ReaderGone) -> BrokenOff {
        BrokenOff
    }
}

impl Sequence {
    /// Writes all from an offset on, counted over the whole. Where that breaks off (the reader is gone,
    /// the master stops, something could not be read, which is logged), the reader asks again with a
    /// larger offset.
    pub async fn write(&self, web: &Web, offset: u64, writer: &Writer) {
        match self.write_jobs(web, offset, writer).await {
            Ok(Ok(()) | Err(BrokenOff)) => {}
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "failed to go on with a log: {error:#}"
                );
            }
        }
    }

    async fn write_jobs(
        &self,
        web: &Web,
        offset: u64,
        writer: &Writer,
    ) -> anyhow::Result<Result<(), BrokenOff>> {
        let mut skip = offset;
        let mut notices = web.notices.watch();
        let mut stopping = web.stopping.clone();
        for job in &self.jobs {
            // The attempt, and the step of it after which to go on.
            let mut after: Option<(u32, Option<u32>)> =
                self.first_attempt.map(|first| (first, None));
            loop {
                match self.next(web, *job, after).await? {
                    Next::Step(attempt, run) => {
                        after = Some((attempt, Some(run.step)));
                        if self.write_step(web, *job, &run, &mut skip, writer).await?.is_err() {
                            return Ok(Err(BrokenOff));
                        }
                        if self.step.is_some() {
                            break;
                        }
                    }
                    Next::Done => break,
                    Next::NotYet if !self.follow => break,
                    Next::NotYet if *stopping.borrow() => return Ok(Err(BrokenOff)),
                    Next::NotYet => {
                        tokio::select! {
                            // Its end only makes this loop look again.
                            _ = tokio::time::timeout(QUIET_AFTER, self.touched(&mut notices)) => {}
                            _ = stopping.changed() => {}
                        }
                    }
                }
            }
        }
        Ok(Ok(()))
    }

    /// What follows a step of an attempt, or the start of one, or nothing at all.
    async fn next(
        &self,
        web: &Web,
        job_id: JobId,
        after: Option<(u32, Option<u32>)>,
    ) -> anyhow::Result<Next> {
        // Read before the attempts: a job that is over has all of them by then.
        let build = log_choice::build(web, &self.project, self.number).await;
        let build = build.map_err(|problem| anyhow::anyhow!(problem.sentence))?;
        let jobs = web.store.jobs_of(build.id).await?;
        let job_is_over =
            jobs.iter().find(|job| job.id == job_id).is_none_or(|job| job.status.is_final());
        let mut attempts = web.store.attempts_of(job_id).await?;
        attempts.sort_by_key(|attempt| attempt.number);
        let (first, mut after_step) = match after {
            Some((number, step)) => (number, step),
            None => (attempts.last().map_or(1, |newest| newest.number), None),
        };
        for attempt in attempts.into_iter().filter(|attempt| attempt.number >= first) {
            let is_over = log_tail::is_final(&attempt.state);
            let steps = web.store.steps_of(attempt.id.attempt).await?;
            let following = steps
                .into_iter()
                .filter(|run| after_step.is_none_or(|done| run.step > done) && self.wants(run))
                .min_by_key(|run| run.step);
            match following {
                Some(run) => return Ok(Next::Step(attempt.number, run)),
                None if is_over => after_step = None,
                None => return Ok(Next::NotYet),
            }
        }
        Ok(if job_is_over { Next::Done } else { Next::NotYet })
    }

    fn wants(&self, run: &StepRun) -> bool {
        let is_it = |wanted: &String| run.name == *wanted || run.step.to_string() == *wanted;
        self.step.as_ref().is_none_or(is_it)
    }

    /// Writes one step's log, less what is still to be left out.
    async fn write_step(
        &self,
        web: &Web,
        job: JobId,
        run: &StepRun,
        skip: &mut u64,
        writer: &Writer,
    ) -> anyhow::Result<Result<(), BrokenOff>> {
        let source = Source::Step {
            project: self.project.clone(),
            number: self.number,
            job,
            attempt: run.attempt,
            step: run.step,
        };
        // Asked first, so that the length below is the last one where it is over.
        let is_over = source.is_over(web).await?;
        let key = source.log_key();
        let bytes = web.logs.size(&key).await?.bytes;
        if *skip >= bytes && (is_over || !self.follow) {
            *skip -= bytes;
            return Ok(Ok(()));
        }
        let end = if self.follow { u64::MAX } else { bytes };
        let from = std::mem::take(skip);
        let mut tail = Tail::new(web, source, from).await?;
        while tail.offset() < end {
            match tail.next(web).await? {
                Piece::Bytes(piece) => {
                    if let Err(gone) = writer.send(piece).await {
                        return Ok(Err(gone.into()));
                    }
                }
                Piece::Quiet => {}
                Piece::Stopped => return Ok(Err(BrokenOff)),
                Piece::End => break,
            }
        }
        // Where the reader has all of this one, which ended only now, the rest lies in later ones.
        let bytes = web.logs.size(&key).await?.bytes;
        *skip = from.saturating_sub(bytes);
        Ok(Ok(()))
    }

    async fn touched(&self, notices: &mut tokio::sync::broadcast::Receiver<Notice>) {
        loop {
            match notices.recv().await {
                Ok(Notice::Build { project, number, .. })
                    if project == self.project && number == self.number =>
                {
                    return;
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}
