//! A file that only takes up room, to be thrown off when the disk is full.
//!
//! The master can then still commit what it must to say so and to end what costs money.

use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

/// How much room the ballast keeps, in bytes.
///
/// Four times what SQLite's write-ahead log grows to before it is folded back (1,000 pages of
/// 4 KiB): enough for thousands of commits about ending things, too little to be missed.
const BALLAST_BYTES: u64 = 16 * 1024 * 1024;

/// Where the ballast of a data_dir lies.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
}

impl Ballast {
    /// The ballast of `data_dir`, which may not be aboard.
    pub(super) fn of(data_dir: &Path) -> Ballast {
        Ballast { path: data_dir.join("ballast") }
    }

    /// Takes it aboard, unless it is.
    pub(super) fn load(&self) -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&self.path)?;
        if file.metadata()?.len() == BALLAST_BYTES {
            return Ok(());
        }
        file.set_len(0)?;
        reserve(&mut file).inspect_err(|_| {
            // Half a ballast would only make a full disk fuller.
            let _gone = std::fs::remove_file(&self.path);
        })
    }

    /// Throws it off. Whether it was aboard.
    pub(super) fn release(&self) -> std::io::Result<bool> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Gives `file` its blocks; a hole would keep no room.
fn reserve(file: &mut File) -> std::io::Result<()> {
    let whole = rustix::fs::FallocateFlags::empty();
    match rustix::fs::fallocate(&*file, whole, 0, BALLAST_BYTES) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    let zeros = vec![0; 1024 * 1024];
    for _ in 0..BALLAST_BYTES / zeros.len() as u64 {
        file.write_all(&zeros)?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn ballast_takes_up_real_blocks_and_gives_them_back_once() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::of(dir.path());
        ballast.load().unwrap();
        let blocks = std::fs::metadata(&ballast.path).unwrap().blocks();
        assert!(blocks * 512 >= BALLAST_BYTES, "{blocks} blocks");
        ballast.load().unwrap();
        assert!(ballast.release().unwrap());
        assert!(!ballast.release().unwrap());
        assert!(!ballast.path.exists());
    }
}
