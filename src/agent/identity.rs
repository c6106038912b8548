//! Who this agent is: a key made before it first speaks, a counter of its starts, and the master
//! it belongs to since its first welcome. All of it is on disk, so that a reboot, or a stop and a
//! start, resumes; none of it leaves the machine but the public key.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;

use crate::model::secret::Secret;
use crate::runtime::private_file;
use crate::runtime::random;
use crate::wire::handshake::SigningKey;

/// The key's seed: 32 bytes.
const KEY_FILE: &str = "identity.key";
/// The number of the newest start, in decimal.
const EPOCH_FILE: &str = "epoch";
/// The pinned master: its key (32 bytes), then the worker's name.
const MASTER_FILE: &str = "master";
/// An Ed25519 public key, in bytes.
const PUBLIC_KEY_BYTES: usize = 32;

/// An agent's identity, for this start of its process.
#[derive(Debug)]
pub struct Identity {
    folder: PathBuf,
    key: SigningKey,
    epoch: u64,
    pinned: Option<Pinned>,
}

/// The master that welcomed this agent, and under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pinned {
    master_key: Vec<u8>,
    worker: String,
}

impl Identity {
    /// Reads the identity in `state_dir`, or makes one, and counts this start.
    ///
    /// # Errors
    /// When the folder cannot be used or a file in it is damaged: nothing is made over it then.
    pub fn load_or_create(state_dir: &Path) -> anyhow::Result<Identity> {
        private_file::create_folder(state_dir)?;
        let seed = load_or_create_seed(&state_dir.join(KEY_FILE))?;
        let epoch = next_epoch(&state_dir.join(EPOCH_FILE))?;
        let pinned = read_pinned(&state_dir.join(MASTER_FILE))?;
        let key = SigningKey::from_seed(&seed);
        Ok(Identity { folder: state_dir.to_owned(), key, epoch, pinned })
    }

    /// Whether a master has welcomed this agent: from then on the password is of no use.
    pub fn is_bound(&self) -> bool {
        self.pinned.is_some()
    }

    /// Whether it was as this worker. Bound as another one, it needs that one's password.
    pub fn is_bound_to(&self, worker: &str) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.worker == worker)
    }

    /// The number of this start of the process, from 1.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The key it signs with.
    pub(crate) fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The key of the master that welcomed this worker.
    pub(crate) fn pinned_master(&self, worker: &str) -> Option<&[u8]> {
        let pinned = self.pinned.as_ref().filter(|pinned| pinned.worker == worker)?;
        Some(&pinned.master_key)
    }

    /// Remembers, durably, the master that welcomed this worker.
    pub(crate) fn pin(&mut self, master_key: &[u8], worker: &str) -> anyhow::Result<()> {
        let pinned = Pinned { master_key: master_key.to_vec(), worker: worker.to_owned() };
        if self.pinned.as_ref() != Some(&pinned) {
            let bytes = [master_key, worker.as_bytes()].concat();
            private_file::write(&self.folder.join(MASTER_FILE), &bytes)?;
            self.pinned = Some(pinned);
        }
        Ok(())
    }
}

fn load_or_create_seed(path: &Path) -> anyhow::Result<Secret<[u8; 32]>> {
    if let Some(bytes) = private_file::read(path)? {
        let seed = <[u8; 32]>::try_from(bytes.as_slice());
        return Ok(Secret::new(seed.ok().with_context(|| damaged(path))?));
    }
    let seed = random::bytes();
    private_file::write(path, &seed)?;
    Ok(Secret::new(seed))
}

fn next_epoch(path: &Path) -> anyhow::Result<u64> {
    let last: u64 = match private_file::read(path)? {
        Some(bytes) => std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .with_context(|| damaged(path))?,
        None => 0,
    };
    let epoch = last.checked_add(1).with_context(|| damaged(path))?;
    private_file::write(path, epoch.to_string().as_bytes())?;
    Ok(epoch)
}

fn read_pinned(path: &Path) -> anyhow::Result<Option<Pinned>> {
    let Some(bytes) = private_file::read(path)? else { return Ok(None) };
    let parts = bytes.split_at_checked(PUBLIC_KEY_BYTES);
    let (master_key, worker) = parts.with_context(|| damaged(path))?;
    let worker = String::from_utf8(worker.to_vec()).ok().with_context(|| damaged(path))?;
    Ok(Some(Pinned { master_key: master_key.to_vec(), worker }))
}

fn damaged(path: &Path) -> String {
    format!("{} is damaged: end this worker and start another", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_restart_keeps_the_key_and_the_master_and_counts_on() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let mut first = Identity::load_or_create(&state).unwrap();
        assert_eq!((first.epoch(), first.is_bound()), (1, false));
        first.pin(&[7; 32], "w-1").unwrap();

        let again = Identity::load_or_create(&state).unwrap();
        assert_eq!((again.epoch(), again.is_bound()), (2, true));
        assert_eq!(again.key().public(), first.key().public());
        assert_eq!(again.pinned_master("w-1"), Some(&[7; 32][..]));
        assert_eq!(again.pinned_master("w-2"), None, "bound as another worker");
        assert!(!again.is_bound_to("w-2"));
    }

    #[test]
    fn the_files_are_the_agents_alone_and_a_debug_line_shows_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let mut identity = Identity::load_or_create(folder.path()).unwrap();
        identity.pin(&[7; 32], "w-1").unwrap();
        for file in [KEY_FILE, EPOCH_FILE, MASTER_FILE] {
            let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        assert!(format!("{identity:?}").contains("‹secret›"));
    }

    #[test]
    fn a_damaged_file_is_reported_and_not_replaced() {
        for file in [KEY_FILE, EPOCH_FILE, MASTER_FILE] {
            let folder = tempfile::tempdir().unwrap();
            Identity::load_or_create(folder.path()).unwrap();
            std::fs::write(folder.path().join(file), "x").unwrap();
            let error = Identity::load_or_create(folder.path()).unwrap_err();
            assert!(error.to_string().contains(file), "{error}");
            assert_eq!(std::fs::read(folder.path().join(file)).unwrap(), b"x");
        }
    }
}
