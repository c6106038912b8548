//! How long things take, learned from what was seen: what looking ahead goes by.
//!
//! An estimate forgets: a job that has become slower is believed after a few builds. What is kept is
//! bounded by [`JOB_TIMES_MAX`].

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::ids::JobName;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;
use crate::model::time::Timestamp;

/// Jobs of which times are kept, over all projects: some hundred bytes each. The one that was not seen
/// for the longest time makes room.
pub(super) const JOB_TIMES_MAX: usize = 5_000;

/// What was seen counts alike up to here; from then on the newest is a quarter of the estimate.
const SEEN_ALIKE: u64 = 4;

/// A job that passes less often than this holds up what needs it more often than not.
const PASSES_AT_LEAST: u64 = 500;

/// A mean that forgets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// In whatever unit it is of.
    pub mean: u64,
    /// How often something was seen; counted up to four.
    pub seen: u64,
}

impl Estimate {
    /// With one more.
    #[must_use]
    pub fn with(self, value: u64) -> Estimate {
        let seen = (self.seen + 1).min(SEEN_ALIKE);
        let rest = self.mean.saturating_mul(seen - 1);
        Estimate { mean: rest.saturating_add(value) / seen, seen }
    }

    /// As a time in milliseconds; nothing where none was seen.
    pub fn time(self) -> Option<Duration> {
        (self.seen > 0).then(|| Duration::from_millis(self.mean))
    }
}

/// How long a job of a project takes, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobTime {
    /// Of which project.
    pub project: ProjectName,
    /// Its name in the pipeline.
    pub job: JobName,
    /// From its start to its end, in milliseconds, where it passed.
    pub took_ms: Estimate,
    /// How often it passes: 1000 is always.
    pub passes: Estimate,
    /// When it was last seen.
    pub seen_at: Timestamp,
}

impl JobTime {
    /// Of which nothing was seen.
    pub fn new(project: ProjectName, job: JobName) -> JobTime {
        let (took_ms, passes) = (Estimate::default(), Estimate::default());
        JobTime { project, job, took_ms, passes, seen_at: Timestamp(0) }
    }

    /// It ran once more.
    pub fn see(&mut self, took: Duration, passed: bool, now: Timestamp) {
        self.passes = self.passes.with(if passed { 1000 } else { 0 });
        if passed {
            self.took_ms = self.took_ms.with(ms(took));
        }
        self.seen_at = now;
    }

    /// How long it will probably take until it passes; nothing where it is as likely that it does not.
    pub fn passes_in(&self) -> Option<Duration> {
        self.took_ms.time().filter(|_| self.passes.mean >= PASSES_AT_LEAST)
    }
}

/// What was learned of a pool: how long its machines take, and how often looking ahead was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolForecast {
    /// Which pool.
    pub name: PoolName,
    /// From the decision to start a machine to its ready worker, in milliseconds.
    pub boot_ms: Estimate,
    /// Machines that were started ahead and then served.
    pub hits: u64,
    /// Machines that were started ahead and ended without a job.
    pub misses: u64,
    /// Workers on machines that were started ahead, and that have served nothing yet.
    pub ahead: BTreeSet<WorkerName>,
}

impl PoolForecast {
    /// Of which nothing was seen.
    pub fn new(name: PoolName) -> PoolForecast {
        let (boot_ms, ahead) = (Estimate::default(), BTreeSet::new());
        PoolForecast { name, boot_ms, hits: 0, misses: 0, ahead }
    }
}

/// What is wanted of, and what is there for, the jobs of one project within the time that a machine takes
/// to come; of all projects together, where workers are shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Jobs that wait, and jobs that will.
    pub wanted: usize,
    /// Workers that idle for them, or will have ended their job by then.
    pub there: usize,
}

/// How many machines will be missing: `anybodys` are those that any of these jobs could have.
pub fn missing(outlooks: impl IntoIterator<Item = Outlook>, anybodys: usize) -> usize {
    let short = outlooks.into_iter().map(|outlook| outlook.wanted.saturating_sub(outlook.there));
    short.sum::<usize>().saturating_sub(anybodys)
}

/// In milliseconds, as far as they go.
pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_the_mean_at_first_and_then_forgets() {
        let mut it = Estimate::default();
        assert_eq!(it.time(), None);
        for (value, mean) in [(100, 100), (200, 150), (300, 200), (200, 200), (600, 300)] {
            it = it.with(value);
            assert_eq!(it.mean, mean, "after {value}");
        }
        for _ in 0..12 {
            it = it.with(1000);
        }
        assert!((950..=1000).contains(&it.mean), "{it:?}");
        assert_eq!(Estimate { mean: u64::MAX, seen: 4 }.with(u64::MAX).seen, 4);
    }

    #[test]
    fn a_job_that_mostly_fails_is_not_waited_for() {
        let mut it = JobTime::new("app".into(), "build".into());
        let minute = Duration::from_secs(60);
        it.see(minute, true, Timestamp(1));
        assert_eq!(it.passes_in(), Some(minute));
        it.see(Duration::from_secs(1), false, Timestamp(2));
        assert_eq!(it.passes_in(), Some(minute), "a failure says nothing of how long it takes");
        it.see(Duration::from_secs(1), false, Timestamp(3));
        assert_eq!(it.passes_in(), None);
    }

    #[test]
    fn only_what_is_short_everywhere_is_missing() {
        let of = |wanted, there| Outlook { wanted, there };
        assert_eq!(missing([of(3, 1)], 0), 2);
        assert_eq!(missing([of(3, 1)], 5), 0);
        assert_eq!(missing([of(1, 4), of(2, 0)], 1), 1, "one project's workers are no other's");
        assert_eq!(missing([], 0), 0);
    }
}
