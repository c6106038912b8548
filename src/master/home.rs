//! Whether a `data_dir` is the one that the last master used, or a copy of it. A copy's ledger may be
//! older than what runs, and the original's master may still be there: see `left_behind.rs` for what
//! follows.
//!
//! Two things tell. The file `starts` keeps its inode and the moment it was made for as long as nobody
//! copies it, and the database remembers both. And both count the starts: a database that is put back
//! alone is behind. A snapshot of the whole disk is not noticed here; the domain notices it by what the
//! cloud lists.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tracing::warn;

use crate::master::store::Store;

/// The file in `data_dir` that counts the starts.
pub(crate) const STARTS_FILE: &str = "starts";

/// How often this database was started with.
const STARTS: &str = "starts";

/// Which file it was started beside.
const BESIDE: &str = "starts_file";

/// What one sees of the file.
#[derive(Debug, PartialEq, Eq)]
struct Sight {
    /// Nothing: it is not there.
    file: Option<File>,
    /// What the database remembers; nothing: it was never started with.
    database: Option<Memory>,
    /// Whether anything was ever launched by this ledger.
    has_launched: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct File {
    /// Inode and birth.
    identity: String,
    /// Nothing: its last writing was cut short.
    starts: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
struct Memory {
    identity: String,
    starts: u64,
}

/// Looks, and counts this start. Gives what is strange, for people; nothing: all is as it was left.
///
/// # Errors
/// When the database cannot be read.
pub(crate) async fn look(data_dir: &Path, store: &Store) -> anyhow::Result<Option<String>> {
    let path = data_dir.join(STARTS_FILE);
    let starts = store.meta(STARTS).await?.and_then(|text| text.parse().ok());
    let identity = store.meta(BESIDE).await?;
    let memory = starts.zip(identity);
    let has_launched = !store.instances(None, 1).await?.is_empty();
    let database = memory.map(|(starts, identity)| Memory { identity, starts });
    let sight = Sight { file: read(&path), database, has_launched };
    let strange = judge(&sight);
    let of_file = sight.file.and_then(|file| file.starts).unwrap_or(0);
    let next = of_file.max(sight.database.map_or(0, |memory| memory.starts)) + 1;
    if let Err(why) = note(&path, store, next).await {
        // A full disk keeps nobody from serving; the next start finds what this one has left.
        warn!("cannot note that data_dir {} is in use: {why:#}", data_dir.display());
    }
    Ok(strange)
}

/// What is strange about it.
fn judge(sight: &Sight) -> Option<String> {
    if !sight.has_launched {
        return None; // Nothing that could be older than anything.
    }
    let strange = match (&sight.file, &sight.database) {
        (None, None) => return None, // Of a version that did not count.
        (None, Some(_)) => "its file `starts` is missing",
        (Some(_), None) => "its database was never started with",
        (Some(file), Some(memory)) if file.identity != memory.identity => "its files are copies",
        (Some(File { starts: Some(starts), .. }), Some(memory)) if *starts > memory.starts => {
            "its database is older than its file `starts`"
        }
        (Some(_), Some(_)) => return None,
    };
    Some(format!(
        "this data_dir was moved, copied or put back ({strange}), so its ledger may be old"
    ))
}

fn read(path: &Path) -> Option<File> {
    let seen = fs::metadata(path).ok()?;
    let text = fs::read_to_string(path).unwrap_or_default();
    Some(File { identity: identity(&seen), starts: text.trim().parse().ok() })
}

/// What a copy cannot have: nobody sets the moment at which a file was made.
fn identity(seen: &fs::Metadata) -> String {
    let born = seen.created().ok();
    let born = born.and_then(|born| born.duration_since(std::time::UNIX_EPOCH).ok());
    format!("{}:{}", seen.ino(), born.map_or(0, |born| born.as_nanos()))
}

/// The database first: it is never behind the file but for having been put back. The file is written
/// in place, or it would be another one.
async fn note(path: &Path, store: &Store, starts: u64) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).truncate(false).write(true).mode(0o600).open(path)?;
    store.set_meta(BESIDE, identity(&file.metadata()?)).await?;
    store.set_meta(STARTS, starts.to_string()).await?;
    file.write_all(format!("{starts}\n").as_bytes())?;
    Ok(file.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::left_behind::tests::row;
    use crate::model::status::InstanceStatus;

    async fn start(data_dir: &Path) -> Option<String> {
        let store = Store::open(data_dir).unwrap();
        let row = row("linux", InstanceStatus::Terminated);
        let strange = look(data_dir, &store).await.unwrap();
        store.commit(vec![row]).await.unwrap();
        strange
    }

    const DATABASE: &str = "busybee.sqlite3";

    /// Copies the files whose names begin so, over those that are there.
    fn copy(from: &Path, to: &Path, beginnings: &[&str]) {
        for folder in [to, from] {
            for file in fs::read_dir(folder).unwrap() {
                let name = file.unwrap().file_name().into_string().unwrap();
                if !beginnings.iter().any(|beginning| name.starts_with(beginning)) {
                    continue;
                }
                match folder == to {
                    true => fs::remove_file(to.join(&name)).unwrap(),
                    false => drop(fs::copy(from.join(&name), to.join(&name)).unwrap()),
                }
            }
        }
    }

    #[tokio::test]
    async fn a_data_dir_that_stays_where_it_is_is_the_same_at_each_start() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..12 {
            assert_eq!(start(dir.path()).await, None);
        }
        // A crash within the writing of the file.
        fs::write(dir.path().join(STARTS_FILE), "").unwrap();
        assert_eq!(start(dir.path()).await, None);
    }

    #[tokio::test]
    async fn a_copy_is_noticed_once_and_so_is_a_database_that_is_put_back_alone() {
        let original = tempfile::tempdir().unwrap();
        start(original.path()).await;
        start(original.path()).await;

        let whole = tempfile::tempdir().unwrap();
        copy(original.path(), whole.path(), &[DATABASE, STARTS_FILE]);
        let strange = start(whole.path()).await.expect("it is a copy");
        assert!(strange.contains("its files are copies"), "{strange}");
        assert_eq!(start(whole.path()).await, None, "it was said; what follows is remembered");

        let alone = tempfile::tempdir().unwrap();
        copy(original.path(), alone.path(), &[DATABASE]);
        let strange = start(alone.path()).await.expect("it is half of a copy");
        assert!(strange.contains("`starts` is missing"), "{strange}");

        let backup = tempfile::tempdir().unwrap();
        copy(original.path(), backup.path(), &[DATABASE]);
        start(original.path()).await;
        copy(backup.path(), original.path(), &[DATABASE]);
        let strange = start(original.path()).await.expect("it was put back");
        assert!(strange.contains("older than its file"), "{strange}");
    }

    #[test]
    fn a_ledger_that_has_launched_nothing_cannot_be_old() {
        let memory = Memory { identity: "another".to_owned(), starts: 3 };
        let sight = Sight { file: None, database: Some(memory), has_launched: false };
        assert_eq!(judge(&sight), None);
    }
}
