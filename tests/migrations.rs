//! A database that any released version wrote is taken up by this one, with all that is in it.
//!
//! `fixtures/db/NNNN.sql` is such a database as text, one per schema. Add the next one when a
//! migration is added; never edit those that are there.
#![cfg(feature = "master")]

use std::path::Path;
use std::path::PathBuf;

use busybee::master::store::Store;
use busybee::master::store::builds::BuildFilter;
use busybee::model::ids::AttemptId;
use busybee::model::ids::BuildNumber;
use busybee::model::status::BuildStatus;
use busybee::model::step::StepOutcome;

/// The fixtures, oldest schema first.
fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/db");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// A data_dir with the database of a fixture in it.
fn data_dir_with(fixture: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let sql = std::fs::read_to_string(fixture).unwrap();
    let database = rusqlite::Connection::open(dir.path().join("busybee.sqlite3")).unwrap();
    database.execute_batch(&sql).unwrap();
    dir
}

#[tokio::test]
async fn a_database_of_every_schema_opens_with_its_builds_jobs_and_fleet() {
    let fixtures = fixtures();
    assert!(!fixtures.is_empty());
    for fixture in fixtures {
        let name = fixture.display();
        let dir = data_dir_with(&fixture);
        let store = Store::open(dir.path()).unwrap();
        let snapshot = store.load().unwrap();
        assert_eq!(snapshot.builds.len(), 1, "{name}");
        assert_eq!(snapshot.jobs[0].spec.steps.len(), 2, "{name}");
        assert_eq!((snapshot.workers.len(), snapshot.instances.len()), (1, 1), "{name}");
        assert_eq!((snapshot.last_ids.build, snapshot.last_ids.change), (2, 3), "{name}");
        let all = store.builds(BuildFilter::default(), None, 10).await.unwrap();
        assert_eq!(all[1].status, BuildStatus::Failed, "{name}");
        let failed = store.load_build("hello".into(), BuildNumber(1)).await.unwrap().unwrap();
        assert_eq!(failed.jobs.len(), 1, "{name}");
        // A build of an older schema was started with nothing.
        let started_with = failed.build.inputs.get("note").map(String::as_str);
        let is_known = fixture.file_stem().is_some_and(|name| name >= "0004");
        assert_eq!(started_with, is_known.then_some("é \"x\"\n"), "{name}");
        // A build of an older schema is in no group, and has nothing to wait for.
        let has_groups = fixture.file_stem().is_some_and(|name| name >= "0011");
        let waiting = &snapshot.builds[0];
        assert_eq!(waiting.concurrency.is_some(), has_groups, "{name}");
        assert_eq!(waiting.has_turn, !has_groups, "{name}");
        let steps = store.steps_of(AttemptId(1)).await.unwrap();
        assert_eq!(steps[1].outcome, Some(StepOutcome::Signalled(9)), "{name}");
        // What was learned of a pool and its jobs is kept from the schema on that has it.
        let learned = (snapshot.job_times.len(), snapshot.pool_forecasts.len());
        let is_learned = fixture.file_stem().is_some_and(|name| name >= "0007");
        assert_eq!(learned, if is_learned { (1, 1) } else { (0, 0) }, "{name}");
        assert_eq!(store.meta("master_id").await.unwrap().as_deref(), Some("m-1"), "{name}");
        // It is written to as well.
        let again = failed.jobs.into_iter().map(busybee::master::domain::decision::Record::Job);
        store.commit(again.collect()).await.unwrap();
    }
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    let dir = data_dir_with(fixtures().last().unwrap());
    let path = dir.path().join("busybee.sqlite3");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.pragma_update(None, "user_version", 9999).unwrap();
    drop(database);
    let before = std::fs::read(&path).unwrap();
    let refusal = Store::open(dir.path()).unwrap_err().to_string();
    assert!(refusal.contains("newer busybee (schema 9999"), "{refusal}");
    assert!(refusal.contains("busybee.sqlite3"), "{refusal}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn the_copy_of_an_older_database_has_what_was_only_in_its_write_ahead_log() {
    let old = data_dir_with(&fixtures()[0]);
    let database = rusqlite::Connection::open(old.path().join("busybee.sqlite3")).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    database.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    let late = "INSERT INTO meta (key, value) VALUES ('late', 'only in the log')";
    database.execute(late, []).unwrap();
    // As a crash leaves it: neither closed nor folded back.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["busybee.sqlite3", "busybee.sqlite3-wal"] {
        std::fs::copy(old.path().join(name), crashed.path().join(name)).unwrap();
    }
    drop(database);
    let log = std::fs::metadata(crashed.path().join("busybee.sqlite3-wal")).unwrap();
    assert!(log.len() > 0, "there is something in the log alone");

    Store::open(crashed.path()).unwrap();

    // Alone, as a person would put it back.
    let alone = tempfile::tempdir().unwrap();
    let copy = alone.path().join("busybee.sqlite3");
    std::fs::copy(crashed.path().join("busybee.sqlite3.schema-1"), &copy).unwrap();
    let copy = rusqlite::Connection::open(&copy).unwrap();
    let ask = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(ask("SELECT value FROM meta WHERE key = 'late'"), "only in the log");
    assert_eq!(ask("PRAGMA integrity_check"), "ok");
    let schema: u32 = copy.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(schema, 1, "nothing had changed when it was made");
}
