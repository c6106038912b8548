//! Laws of what waiting jobs are told: it is so, and is not told any longer than that.

use busybee::master::domain::decision::Record;
use busybee::master::domain::entities::Job;
use busybee::model::status::JobStatus;
use busybee::model::status::WorkerStatus;
use busybee::model::time::Timestamp;

use crate::disk::Disk;

/// What was just told is so.
pub(crate) fn are_true(disk: &Disk, records: &[Record], now: Timestamp) {
    for record in records {
        let Record::Job(job) = record else { continue };
        let job = disk.jobs.get(&job.id).expect("it was just written");
        is_explained(job, now);
        if let Some((pool, count)) = all_busy(job) {
            let rows = disk.instances.values();
            let running = rows.filter(|row| row.pool.as_str() == pool && row.status.may_run());
            let busy: Vec<bool> = running
                .map(|row| disk.workers.get(&row.worker))
                .map(|worker| worker.is_some_and(|worker| worker.status == WorkerStatus::Busy))
                .collect();
            let is_so = busy.len().to_string() == count && busy.iter().all(|busy| *busy);
            assert!(is_so, "{:?}, but they are {busy:?}", job.reason);
        }
    }
}

/// A job that waits says why, also one that was given out and has not begun; and what is to be tried again
/// is to be so yet.
pub(crate) fn is_explained(job: &Job, now: Timestamp) {
    if !matches!(job.status, JobStatus::Queued | JobStatus::Waiting) {
        return;
    }
    let why = job.reason.as_deref();
    let why = why.unwrap_or_else(|| panic!("a job waits without a reason: {job:?}"));
    if let Some((_, again)) = why.split_once("tried again at ") {
        let now = now.to_string().replacen('T', " ", 1);
        assert!(again.get(..19) >= now.get(..19), "at {now} it says {why}");
    }
}

/// Of which pool a job was told that so many workers are all busy.
fn all_busy(job: &Job) -> Option<(&str, &str)> {
    let why = job.reason.as_deref().filter(|_| job.status == JobStatus::Queued)?;
    let (_, rest) = why.split_once("every worker of pool \"")?;
    let (pool, rest) = rest.split_once("\" is busy (")?;
    Some((pool, rest.split_once(' ')?.0))
}
