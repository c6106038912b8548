//! What this master and earlier ones have served on the road, by content. A machine that was started before an
//! upgrade asks for what its user-data announced, and so does one whose launch is tried again after it.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::UTIME_NOW;
use rustix::fs::UTIME_OMIT;

use crate::runtime::clock;
use crate::runtime::digest;
use crate::runtime::private_file;

/// How long what no master has served since is kept: longer than any machine boots.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// A folder whose files are named by their SHA-256.
#[derive(Clone)]
pub struct ServedBefore {
    folder: PathBuf,
}

impl ServedBefore {
    /// In this folder, which is made if it is not there.
    ///
    /// # Errors
    /// When the disk or the rights say no.
    pub fn open(folder: PathBuf) -> anyhow::Result<ServedBefore> {
        private_file::create_folder(&folder)?;
        Ok(ServedBefore { folder })
    }

    /// Keeps what is served now, and forgets what was served long ago.
    ///
    /// # Errors
    /// When the disk or the rights say no.
    pub fn keep<'f>(
        &self,
        served: impl IntoIterator<Item = (&'f str, &'f Bytes)>,
    ) -> anyhow::Result<()> {
        for (sha256, content) in served {
            let path = self.folder.join(sha256);
            if path.exists() {
                touch(&path)?;
            } else {
                private_file::write(&path, content)?;
            }
        }
        let entries = std::fs::read_dir(&self.folder);
        for entry in entries.with_context(|| format!("read {}", self.folder.display()))? {
            let path = entry.with_context(|| format!("read {}", self.folder.display()))?.path();
            if clock::is_older_than(&path, KEPT_FOR) {
                let what = || format!("remove {}", path.display());
                std::fs::remove_file(&path).with_context(what)?;
            }
        }
        Ok(())
    }

    /// What has this hash, if it was served lately.
    pub fn find(&self, sha256: &str) -> Option<Bytes> {
        let is_hash = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        let content = std::fs::read(self.folder.join(sha256)).ok().filter(|_| is_hash)?;
        // A disk may have spoilt it, and whoever asks would refuse it.
        (digest::sha256_hex(&content) == sha256).then(|| Bytes::from(content))
    }
}

/// It was of use just now.
fn touch(path: &Path) -> anyhow::Result<()> {
    let at = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let times = Timestamps { last_access: at(UTIME_OMIT), last_modification: at(UTIME_NOW) };
    let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    rustix::fs::futimens(&file, &times).with_context(|| format!("touch {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(text: &'static str) -> (String, Bytes) {
        (digest::sha256_hex(text.as_bytes()), Bytes::from_static(text.as_bytes()))
    }

    /// Makes a file a week and an hour old.
    fn age(path: &Path) {
        let old = std::time::UNIX_EPOCH + Duration::from_millis(clock::now().0)
            - KEPT_FOR
            - Duration::from_secs(3600);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    }

    #[test]
    fn what_was_served_is_found_until_no_master_has_served_it_for_a_week() {
        let dir = tempfile::tempdir().unwrap();
        let before = ServedBefore::open(dir.path().join("road")).unwrap();
        let (old, new) = (served("old"), served("new"));
        before.keep([(old.0.as_str(), &old.1), (new.0.as_str(), &new.1)]).unwrap();
        for (sha256, _) in [&old, &new] {
            age(&before.folder.join(sha256));
        }
        before.keep([(new.0.as_str(), &new.1)]).unwrap();
        assert_eq!(before.find(&new.0), Some(new.1));
        assert_eq!(before.find(&old.0), None);
    }

    #[test]
    fn nothing_else_is_found_and_nothing_that_is_spoilt() {
        let dir = tempfile::tempdir().unwrap();
        let before = ServedBefore::open(dir.path().join("road")).unwrap();
        std::fs::write(dir.path().join("secret"), "no").unwrap();
        let (sha256, content) = served("script");
        before.keep([(sha256.as_str(), &content)]).unwrap();
        for name in ["../secret", "", ".", &"../".repeat(22)[..64]] {
            assert_eq!(before.find(name), None, "{name}");
        }
        std::fs::write(before.folder.join(&sha256), "spoilt").unwrap();
        assert_eq!(before.find(&sha256), None);
    }
}
