//! Brings a database file to the schema that this program speaks, or refuses it with a sentence.
//!
//! SQLite keeps the schema's number itself (`user_version`). Each migration is one transaction
//! together with its number, so a crash leaves the file at one number or the other.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use rusqlite::Connection;

/// The migrations in order; the first makes schema 1. Released ones are never edited.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_first_tables.sql"),
    include_str!("migrations/0002_launch_requests.sql"),
    include_str!("migrations/0003_worker_fate.sql"),
    include_str!("migrations/0004_build_inputs.sql"),
    include_str!("migrations/0005_what_resumes_a_pool.sql"),
    include_str!("migrations/0006_prices.sql"),
    include_str!("migrations/0007_forecasts.sql"),
    include_str!("migrations/0008_seats.sql"),
    include_str!("migrations/0009_stop_and_start.sql"),
    include_str!("migrations/0010_names_of_starts.sql"),
    include_str!("migrations/0011_concurrency_groups.sql"),
];

/// Applies those of `migrations` that the file at `path` has not seen.
///
/// A file that holds something already is copied beside itself first.
///
/// # Errors
/// A file from a newer program is left as it is.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &[&str],
) -> anyhow::Result<()> {
    let found: usize = connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
        .with_context(|| format!("read the schema number of {}", path.display()))?
        .try_into()?;
    let known = migrations.len();
    if found > known {
        anyhow::bail!(
            "{} was written by a newer busybee (schema {found}, this one knows up to {known}): \
             start that version again, or put back the copy it left beside the file",
            path.display()
        );
    }
    if found > 0 && found < known {
        keep_copy(connection, path, found)?;
    }
    for (index, sql) in migrations.iter().enumerate().skip(found) {
        let number = index + 1;
        apply(connection, sql, number)
            .with_context(|| format!("bring {} to schema {number}", path.display()))?;
    }
    Ok(())
}

fn apply(connection: &mut Connection, sql: &str, number: usize) -> anyhow::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(sql)?;
    transaction.pragma_update(None, "user_version", u32::try_from(number)?)?;
    Ok(transaction.commit()?)
}

/// Where the copy of a file of schema `version` goes.
fn copy_path(path: &Path, version: usize) -> PathBuf {
    with_ending(path, &format!(".schema-{version}"))
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Writes the whole database beside itself. The copy has its name only once it is complete.
fn keep_copy(connection: &Connection, path: &Path, version: usize) -> anyhow::Result<()> {
    let copy = copy_path(path, version);
    let partial = with_ending(&copy, ".partial");
    let write = || -> anyhow::Result<()> {
        // VACUUM INTO wants an empty file; made here, it is nobody else's to read.
        let file = std::fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        let target = partial.to_str().context("the path is not UTF-8")?;
        connection.execute("VACUUM INTO ?1", [target])?;
        file.sync_all()?;
        std::fs::rename(&partial, &copy)?;
        let folder = copy.parent().context("the path has no folder")?;
        std::fs::File::open(folder)?.sync_all()?;
        Ok(())
    };
    let written = write();
    if written.is_err() {
        // Half a copy would only keep a full disk full.
        for end in ["", "-journal"] {
            let _not_there = std::fs::remove_file(with_ending(&partial, end));
        }
    }
    written.with_context(|| {
        format!(
            "copy {} to {} before its schema changes (is there room for it twice?)",
            path.display(),
            copy.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[&str] = &[
        "CREATE TABLE hives (name TEXT NOT NULL) STRICT;",
        "ALTER TABLE hives ADD COLUMN bees INTEGER NOT NULL DEFAULT 7;",
    ];

    fn version(connection: &Connection) -> u32 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_older_file_is_copied_beside_itself_before_it_is_upgraded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("busybee.sqlite3");
        let mut connection = Connection::open(&path).unwrap();
        migrate(&mut connection, &path, &TWO[..1]).unwrap();
        assert!(!copy_path(&path, 0).exists(), "a new file needs no copy");
        connection.execute("INSERT INTO hives VALUES ('oak')", []).unwrap();

        migrate(&mut connection, &path, TWO).unwrap();

        let bees = "SELECT bees FROM hives WHERE name = 'oak'";
        let bees: u32 = connection.query_row(bees, [], |row| row.get(0)).unwrap();
        assert_eq!((version(&connection), bees), (2, 7));
        let copy = Connection::open(copy_path(&path, 1)).unwrap();
        let kept: String = copy.query_row("SELECT * FROM hives", [], |row| row.get(0)).unwrap();
        assert_eq!((version(&copy), kept.as_str()), (1, "oak"));
    }

    #[test]
    fn a_migration_that_fails_leaves_the_file_at_the_schema_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("busybee.sqlite3");
        let mut connection = Connection::open(&path).unwrap();
        let broken = [TWO[0], "CREATE TABLE wasps (name TEXT); nonsense"];
        let error = migrate(&mut connection, &path, &broken).unwrap_err();
        assert!(error.to_string().contains("to schema 2"), "{error}");
        assert_eq!(version(&connection), 1);
        migrate(&mut connection, &path, TWO).unwrap();
    }

    #[test]
    fn every_migration_file_is_applied() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/master/store/migrations");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), MIGRATIONS.len());
    }
}
