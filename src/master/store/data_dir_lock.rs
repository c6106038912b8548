//! Keeps two masters off one data_dir. The kernel lets go of the lock when the process ends.

use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

/// The lock's file, in data_dir. What it says is for people; the lock is the kernel's.
const LOCK_FILE: &str = "busybee.lock";

/// The right to use a data_dir; dropping it gives the right back.
#[derive(Debug)]
pub(super) struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Takes the lock, or says who has it.
    pub(super) fn take(data_dir: &Path) -> anyhow::Result<DataDirLock> {
        let path = data_dir.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("open the lock file {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _for_people = file.take(32).read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => String::new(),
                    pid => format!(" (pid {pid})"),
                };
                anyhow::bail!(
                    "have data_dir {} for this master alone: another{holder} runs on it; stop that \
                     one first, or give this one a data_dir of its own",
                    data_dir.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock {}", path.display()));
            }
        }
        // Not worth refusing to start for: a full disk is told of where it matters.
        let _for_people = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(DataDirLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_master_on_the_same_data_dir_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDirLock::take(dir.path()).unwrap();
        let refusal = DataDirLock::take(dir.path()).unwrap_err().to_string();
        assert!(refusal.contains(&format!("(pid {})", std::process::id())), "{refusal}");
        assert!(refusal.contains(&dir.path().display().to_string()), "{refusal}");
        drop(first);
        DataDirLock::take(dir.path()).unwrap();
    }
}
