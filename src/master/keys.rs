//! The master's own secrets, made at its first start and kept in `data_dir/keys`.
//!
//! Passwords of launches are derived from the master key; agents pin the channel key at first
//! contact. Who loses these files must end every worker; who leaks them must do so too.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;

use crate::model::secret::Secret;
use crate::runtime::private_file;
use crate::runtime::random;

/// The keys of one master.
#[derive(Clone, Debug)]
pub struct Keys {
    /// From it the passwords of launches are derived.
    pub master: Secret<[u8; 32]>,
    /// The seed of the Ed25519 key by which agents know this master again.
    pub channel_seed: Secret<[u8; 32]>,
}

impl Keys {
    /// Reads the keys, or makes them where there are none yet.
    ///
    /// # Errors
    /// When a file cannot be read or written, or is not a key: nothing is made over it then.
    pub fn load_or_create(data_dir: &Path) -> anyhow::Result<Keys> {
        let folder = data_dir.join("keys");
        private_file::create_folder(&folder)?;
        Ok(Keys {
            master: load_or_create(folder.join("master.key"))?,
            channel_seed: load_or_create(folder.join("channel.key"))?,
        })
    }
}

fn load_or_create(path: PathBuf) -> anyhow::Result<Secret<[u8; 32]>> {
    if let Some(bytes) = private_file::read(&path)? {
        let key = <[u8; 32]>::try_from(bytes.as_slice()).ok().with_context(|| {
            format!(
                "use {}: a key has 32 bytes, this file {}; bring it back from a backup",
                path.display(),
                bytes.len()
            )
        })?;
        return Ok(Secret::new(key));
    }
    let key = random::bytes();
    private_file::write(&path, &key)?;
    Ok(Secret::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_the_same_from_start_to_start() {
        let folder = tempfile::tempdir().unwrap();
        let first = Keys::load_or_create(folder.path()).unwrap();
        let again = Keys::load_or_create(folder.path()).unwrap();
        assert!(first.master == again.master && first.channel_seed == again.channel_seed);
        assert!(first.master != first.channel_seed);
    }

    #[test]
    fn a_damaged_key_is_reported_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        Keys::load_or_create(folder.path()).unwrap();
        let path = folder.path().join("keys/master.key");
        std::fs::write(&path, "short").unwrap();
        let error = Keys::load_or_create(folder.path()).unwrap_err();
        assert!(error.to_string().contains("32 bytes"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
    }
}
