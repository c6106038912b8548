//! How a history is told to people.

use busybee::master::domain::decision::Record;

/// A record without what never changes.
pub(crate) fn in_short(record: &Record) -> String {
    match record {
        Record::Job(job) => format!(
            "{} of build {}: {} {:?} {:?} {:?} {:?}",
            job.spec.name, job.build, job.status, job.attempt, job.fence, job.worker, job.reason
        ),
        Record::Worker(worker) => format!(
            "{}: {} {:?} {:?} boot {:?}",
            worker.name, worker.status, worker.attempt, worker.reason, worker.boot_id
        ),
        Record::Instance(instance) => {
            format!("{} of {}: {}", instance.id, instance.worker, instance.status)
        }
        Record::Build(build) => format!("{}/{}: {}", build.project, build.number, build.status),
        other => format!("{other:?}"),
    }
}
