//! Files that only their owner may read, written so that a crash leaves the old or the new one.

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

/// Reads a file; nothing: it is not there.
///
/// # Errors
/// When it is there and cannot be read.
pub fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Writes a file with mode 0600, durably, over the one before. Its folder must exist.
///
/// # Errors
/// When the disk or the rights say no.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_aside(path, bytes).with_context(|| format!("write {}", path.display()))
}

fn write_aside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let aside = path.with_file_name(name);
    // A leftover of a crash could have been made with other rights.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

/// Makes a folder that only its owner may enter, and those above it.
///
/// # Errors
/// When the disk or the rights say no.
pub fn create_folder(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("create {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_private_file_is_its_owners_alone_also_over_a_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/key");
        create_folder(path.parent().unwrap()).unwrap();
        assert!(read(&path).unwrap().is_none());
        fs::write(folder.path().join("deep/key.new"), "left over, and readable by all").unwrap();
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = write(&folder.path().join("nowhere/key"), b"").unwrap_err();
        assert!(format!("{error:#}").contains("nowhere/key"), "{error:#}");
    }
}
