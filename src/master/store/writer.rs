//! The one thread that writes to the database: one order, one transaction, durable when answered.
//!
//! Grouping is the event loop's: it brings all records of all events that were waiting at once.

use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use rusqlite::Connection;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::master::domain::budget::Scope;
use crate::master::domain::decision::Record;
use crate::master::store::attempts;
use crate::master::store::builds;
use crate::master::store::changes;
use crate::master::store::counters;
use crate::master::store::counters::Counters;
use crate::master::store::forecasts;
use crate::master::store::instances;
use crate::master::store::jobs;
use crate::master::store::meta;
use crate::master::store::pools;
use crate::master::store::readers;
use crate::master::store::refs;
use crate::master::store::spending;
use crate::master::store::steps;
use crate::master::store::workers;
use crate::model::ids::AttemptId;
use crate::model::ids::BuildId;
use crate::model::ids::ChangeId;
use crate::model::ids::InstanceId;
use crate::model::ids::JobId;
use crate::model::ids::JobName;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;
use crate::model::ids::WorkerName;

/// What the thread is asked to write.
#[derive(Debug)]
pub(super) enum Order {
    /// Records of the domain.
    Records(Vec<Record>),
    /// A fact of the master itself.
    Meta(&'static str, String),
}

/// An order, and whom to tell once it is durable or has failed.
pub(super) type Ordered = (Order, oneshot::Sender<anyhow::Result<()>>);

/// The writer's connection and what it keeps in memory.
pub(super) struct Writer {
    connection: Connection,
    path: PathBuf,
    counters: Counters,
}

impl Writer {
    /// Opens the database for writing; the file exists, and nobody else writes to it.
    pub(super) fn open(path: &Path, migrations: &[&str]) -> anyhow::Result<Writer> {
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(readers::BUSY_TIMEOUT)?;
            connection.set_prepared_statement_cache_capacity(readers::STATEMENTS_KEPT);
            Ok(connection)
        };
        let mut connection = open().with_context(|| format!("open {}", path.display()))?;
        crate::master::store::migrate::migrate(&mut connection, path, migrations)?;
        let prepare = || -> rusqlite::Result<Counters> {
            // Readers never wait for the writer, and a commit is one write and one fsync.
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // FULL: a commit that was answered survives the loss of power.
            connection.pragma_update(None, "synchronous", "FULL")?;
            Counters::read(&connection)
        };
        let counters = prepare().with_context(|| format!("prepare {}", path.display()))?;
        Ok(Writer { connection, path: path.to_owned(), counters })
    }

    /// Carries out orders until nobody can send any.
    pub(super) fn run(mut self, mut orders: mpsc::Receiver<Ordered>) {
        while let Some((order, reply)) = orders.blocking_recv() {
            let result = match order {
                Order::Records(records) => self.write(&records),
                Order::Meta(key, value) => self.write_meta(key, &value),
            };
            let _nobody_waits = reply.send(result);
        }
    }

    fn write(&mut self, records: &[Record]) -> anyhow::Result<()> {
        let mut grown = self.counters.clone();
        records.iter().for_each(|record| grown.note(record));
        self.commit(records, &grown).with_context(|| {
            format!("write {} records to {}", records.len(), self.path.display())
        })?;
        self.counters = grown;
        Ok(())
    }

    fn commit(&mut self, records: &[Record], grown: &Counters) -> anyhow::Result<()> {
        // Dropped before its commit, a transaction is rolled back.
        let transaction = self.connection.transaction()?;
        for record in last_of_each(records) {
            write_record(&transaction, record)?;
        }
        grown.write_since(&self.counters, &transaction)?;
        Ok(transaction.commit()?)
    }

    fn write_meta(&mut self, key: &str, value: &str) -> anyhow::Result<()> {
        meta::write(&self.connection, key, value)
            .with_context(|| format!("write {key} to {}", self.path.display()))
    }
}

/// Which row a record is about.
#[derive(PartialEq, Eq, Hash)]
enum Row<'a> {
    Ref(&'a ProjectName, &'a RefName),
    Baseline(&'a ProjectName),
    Change(ChangeId),
    Build(BuildId),
    Job(JobId),
    Attempt(AttemptId),
    /// Its start and its end apart: a start that comes behind the end must not hide it.
    Step(AttemptId, u32, bool),
    Worker(&'a WorkerName),
    Instance(InstanceId),
    Pool(&'a PoolName),
    ProjectDay(&'a ProjectName, u64),
    BudgetTold(&'a Scope),
    PoolForecast(&'a PoolName),
    JobTime(&'a ProjectName, &'a JobName),
}

fn row_of(record: &Record) -> Row<'_> {
    match record {
        Record::Ref(project, name, _) => Row::Ref(project, name),
        Record::Baseline(project) => Row::Baseline(project),
        Record::Change(change) => Row::Change(change.id),
        Record::ChangeDone(change) => Row::Change(*change),
        Record::Build(build) => Row::Build(build.id),
        Record::Job(job) => Row::Job(job.id),
        Record::Attempt(attempt) => Row::Attempt(attempt.id.attempt),
        Record::Step(step) => Row::Step(step.attempt, step.step, step.outcome.is_some()),
        Record::Worker(worker) => Row::Worker(&worker.name),
        Record::Instance(instance) => Row::Instance(instance.id),
        Record::Pool(pool) => Row::Pool(&pool.name),
        Record::ProjectDay(day) => Row::ProjectDay(&day.project, day.day),
        Record::BudgetTold(scope, _) => Row::BudgetTold(scope),
        Record::PoolForecast(pool) => Row::PoolForecast(&pool.name),
        Record::JobTime(time) => Row::JobTime(&time.project, &time.job),
        Record::JobTimeForgotten(project, job) => Row::JobTime(project, job),
    }
}

/// The last record of each row, in order: what the ones before it said is overwritten anyway.
fn last_of_each(records: &[Record]) -> Vec<&Record> {
    let mut seen = HashSet::with_capacity(records.len());
    let mut kept: Vec<&Record> =
        records.iter().rev().filter(|record| seen.insert(row_of(record))).collect();
    kept.reverse();
    kept
}

fn write_record(connection: &Connection, record: &Record) -> anyhow::Result<()> {
    match record {
        Record::Ref(project, name, commit) => {
            refs::write(connection, project, name, commit.as_ref())?;
        }
        Record::Baseline(project) => counters::write_baseline(connection, project)?,
        Record::Change(change) => changes::write(connection, change)?,
        Record::ChangeDone(change) => changes::remove(connection, *change)?,
        Record::Build(build) => builds::write(connection, build)?,
        Record::Job(job) => jobs::write(connection, job)?,
        Record::Attempt(attempt) => attempts::write(connection, attempt)?,
        Record::Step(step) => steps::write(connection, step)?,
        Record::Worker(worker) => workers::write(connection, worker)?,
        Record::Instance(instance) => instances::write(connection, instance)?,
        Record::Pool(pool) => pools::write(connection, pool)?,
        Record::ProjectDay(day) => spending::write_day(connection, day)?,
        Record::BudgetTold(scope, day) => spending::write_told(connection, scope, *day)?,
        Record::PoolForecast(pool) => forecasts::write_pool(connection, pool)?,
        Record::JobTime(time) => forecasts::write_job_time(connection, time)?,
        Record::JobTimeForgotten(project, job) => {
            forecasts::remove_job_time(connection, project, job)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::store::migrate::MIGRATIONS;
    use crate::master::store::sample;
    use crate::model::status::BuildStatus;

    fn writer(dir: &tempfile::TempDir) -> Writer {
        Writer::open(&dir.path().join("busybee.sqlite3"), MIGRATIONS).unwrap()
    }

    #[test]
    fn of_several_records_of_one_row_only_the_last_is_written() {
        let mut over = sample::build(1);
        over.status = BuildStatus::Passed;
        let records = [
            Record::Build(sample::build(1)),
            Record::Change(sample::change(4)),
            Record::Build(sample::build(2)),
            Record::Build(over.clone()),
            Record::ChangeDone(ChangeId(4)),
        ];
        let kept: Vec<Record> = last_of_each(&records).into_iter().cloned().collect();
        let expected =
            [Record::Build(sample::build(2)), Record::Build(over), Record::ChangeDone(ChangeId(4))];
        assert_eq!(kept, expected);
    }

    #[test]
    fn a_full_disk_refuses_the_whole_commit_and_the_same_one_passes_once_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(&dir);
        writer.write(&[Record::Build(sample::build(1))]).unwrap();
        let pages: i64 =
            writer.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        writer.connection.pragma_update(None, "max_page_count", pages).unwrap();
        let mut long = sample::build(3);
        long.reason = Some("too long for what is left".repeat(10_000));
        let records = [Record::Build(sample::build(2)), Record::Build(long)];

        let error = format!("{:#}", writer.write(&records).unwrap_err());
        assert!(error.contains("busybee.sqlite3") && error.contains("full"), "{error}");
        let count = |writer: &Writer| -> u32 {
            let sql = "SELECT count(*) FROM builds";
            writer.connection.query_row(sql, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(count(&writer), 1, "half a commit is none");
        assert_eq!(writer.counters.ids.build, 1);

        writer.connection.pragma_update(None, "max_page_count", 1_000_000).unwrap();
        writer.write(&records).unwrap();
        assert_eq!(count(&writer), 3);
        assert_eq!(Counters::read(&writer.connection).unwrap(), writer.counters);
    }
}
